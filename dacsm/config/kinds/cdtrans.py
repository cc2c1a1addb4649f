"""Settings of methods of the kind cdtrans: CDTrans itself, DACSM, and the controls of both."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from dacsm.config.kinds import MethodSettings
from dacsm.config.losses import Masking
from dacsm.config.validation import Fraction, Frozen, Weight


class Style(Frozen):
    """DAT: the target's tokens that the mix stream reads are moved from the target's style towards the source's."""

    weight: Weight = Field(0.0, description="fraction of the way in the last layer at the end of training; 0: off")
    spread: Weight = Field(0.5, description="random spread of the style, in units of its deviation over the batch")


class SourceStyle(Frozen):
    """DAT: labelled source images are trained on in a style on the way to the target's."""

    weight: Weight = Field(0.0, description="largest fraction of the way, which each image draws; 0 and no spread: off")
    spread: Weight = Field(0.0, description="random spread of the style, in units of its deviation over the batch")
    layers: Fraction = Field(0.5, description="fraction of the layers that restyle, from the first on")
    ramp: Fraction = Field(0.5, description="fraction of training in which the way grows to its full length")


class Noise(Frozen):
    """DAT: learned Gaussian noise on the logits of the cross-attention."""

    weight: Weight = Field(0.0, description="factor on the noise; 0 leaves it out")
    prior: PositiveFloat = Field(0.5, description="standard deviation that the noise is kept near, in that of the keys")
    learned: bool = Field(True, description="false keeps the standard deviation at the prior: a control")
    divergence: Weight = Field(0.01, description="weight of the KL divergence from the prior")


class Pyramid(Frozen):
    """CSM: the patch tokens of a pair are pooled to several resolutions and compared at those that match best."""

    weight: Weight = Field(0.0, description="of the loss; 0 leaves it out")
    temperature: PositiveFloat = Field(0.1, description="of the softmax that chooses among pairs of resolutions")
    entropy: Weight = Field(0.01, description="weight of that choice's entropy, so that it does not settle early")


class Consistency(Frozen):
    """CSM: the target's prediction stays the same where its objects appear at another scale."""

    weight: Weight = Field(0.0, description="of the loss; 0 leaves it out")
    scales: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.5, 1.5), description="smallest and largest size of the objects, 1 being their own; drawn log-uniformly"
    )
    every: PositiveInt = Field(2, description="one step in so many has a batch of such images; they need no pair")


class Matching(Frozen):
    """CSM: pseudo labels and pairs are made from the target at several scales, and labels by optimal transport."""

    scales: tuple[PositiveFloat, ...] = Field((), description="sizes of the objects besides their own, 1")
    after_epochs: Annotated[int, Field(ge=0)] = Field(
        1, description="epochs before the other sizes are used, in which the model learns them"
    )
    marginal_relaxation: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0,
        description="how freely classes may leave the source's fractions in pseudo labels by transport; 0: exactly "
        "these fractions; 1: free, which is CDTrans' nearest centre",
    )
    temperature: PositiveFloat = Field(
        0.2,
        description="divides the cosines to class centres, in labels by transport; in units of how much closer the "
        "closest centre is than the average one",
    )


class MaskedTarget(Masking):
    """MIC beside DACSM: target images, which need no pair, are recognised where most of them is hidden."""

    every: PositiveInt = Field(2, description="one step in so many has a batch of such images")
    held_to: Literal["teacher", "soft_targets"] = Field(
        "teacher", description="the weight average's prediction on the whole image, or that of the last refresh"
    )


class Settings(MethodSettings):
    """CDTrans, and the parts that a method adds to it. A part whose weight is 0 is not built."""

    kind: Literal["cdtrans"]
    style: Style = Style()
    source_style: SourceStyle = SourceStyle()
    noise: Noise = Noise()
    pyramid: Pyramid = Pyramid()
    consistency: Consistency = Consistency()
    matching: Matching = Matching()
    masking: MaskedTarget = MaskedTarget()
    mix_cross_entropy: Weight = Field(0.0, description="weight of the mix stream's own cross-entropy")
    attention_dropout: Fraction = Field(0.0, description="dropout of the cross-attention's weights: a control")
    teacher_detached: bool = Field(False, description="the mix stream learns nothing by distillation: a control")

    @property
    def parts(self) -> tuple[str, ...]:
        used = {
            "noise": self.style.weight
            or self.source_style.weight
            or self.source_style.spread
            or self.noise.weight
            or self.attention_dropout,
            "pyramid": self.pyramid.weight,
            "consistency": self.consistency.weight,
            "masking": self.masking.weight,
            "matching": self.matching.scales or self.matching.marginal_relaxation < 1,
        }
        return tuple(name for name, wanted in used.items() if wanted)

    @property
    def refresh_passes(self) -> tuple[int, int]:
        return 1, len(self.matching.scales)  # the target's own scale was seen at the end of the epoch before
