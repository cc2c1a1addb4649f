"""Settings of methods of the kind cdtrans: CDTrans itself, DACSM, and the controls of both."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from dacsm.config.kinds import MethodSettings
from dacsm.config.validation import Fraction, Frozen, Weight


class Style(Frozen):
    """DAT: what the mix stream reads comes in a style between the target's and the source's."""

    weight: Weight = Field(0.0, description="how far the style travels to the source's by the last layer and epoch")
    spread: Weight = Field(0.5, description="of the random part, in units of the batch's own deviation of styles")


class Noise(Frozen):
    """DAT: learned Gaussian noise on the logits of the cross-attention."""

    weight: Weight = Field(0.0, description="factor on the noise; 0 leaves it out")
    prior: PositiveFloat = Field(0.5, description="deviation that the noise is held to, in units of the keys' own")
    learned: bool = Field(True, description="false keeps the deviation at the prior: a control")
    divergence: Weight = Field(0.01, description="weight of the KL divergence from the prior")


class Pyramid(Frozen):
    """CSM: patch tokens of a pair, pooled to several resolutions, meet at the resolutions that match."""

    weight: Weight = Field(0.0, description="of the loss; 0 leaves it out")
    temperature: PositiveFloat = Field(0.1, description="of the soft choice among pairs of resolutions")
    entropy: Weight = Field(0.01, description="reward for keeping several pairs of resolutions in play")


class Consistency(Frozen):
    """CSM: the target's prediction stays the same where its objects appear at another scale."""

    weight: Weight = Field(0.0, description="of the loss; 0 leaves it out")
    scales: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.5, 1.5), description="least and largest, of the objects as they are; drawn log-uniformly"
    )
    every: PositiveInt = Field(2, description="steps; a batch of target images, paired or not, comes every so many")


class Matching(Frozen):
    """CSM: pseudo labels and neighbours from the target seen at several scales, labels by transport to the centres."""

    scales: tuple[PositiveFloat, ...] = Field((), description="of objects, besides 1; none leaves it out")
    after_epochs: Annotated[int, Field(ge=0)] = Field(
        1, description="epochs that teach the other scales before they count"
    )
    marginal_relaxation: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0,
        description="how freely classes may leave the source's fractions in pseudo labels by transport; 0: exactly "
        "these fractions; 1: free, which is CDTrans' nearest centre",
    )
    temperature: PositiveFloat = Field(0.1, description="of cosines to class centres, in labels by transport")


class Settings(MethodSettings):
    """CDTrans, and the parts that a method adds to it. A part whose weight is 0 is not built."""

    kind: Literal["cdtrans"]
    style: Style = Style()
    noise: Noise = Noise()
    pyramid: Pyramid = Pyramid()
    consistency: Consistency = Consistency()
    matching: Matching = Matching()
    mix_cross_entropy: Weight = Field(0.0, description="weight of the mix stream's own cross-entropy")
    attention_dropout: Fraction = Field(0.0, description="of the cross-attention's weights: a control")
    teacher_detached: bool = Field(False, description="the mix stream learns nothing by distillation: a control")

    @property
    def parts(self) -> tuple[str, ...]:
        used = {
            "noise": self.style.weight or self.noise.weight or self.attention_dropout,
            "pyramid": self.pyramid.weight,
            "consistency": self.consistency.weight,
            "matching": self.matching.scales or self.matching.marginal_relaxation < 1,
        }
        return tuple(name for name, wanted in used.items() if wanted)

    @property
    def refresh_passes(self) -> tuple[int, int]:
        return 1, len(self.matching.scales)  # the target's own scale was seen at the end of the epoch before
