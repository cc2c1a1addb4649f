"""The parts that a method adds to CDTrans, and their settings: what an entry of adapt.methods in params.yaml holds."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

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

    def comes_at(self, step: int) -> bool:
        """Whether a step, counted from 0 in its epoch, has such a batch."""
        return self.weight > 0 and step % self.every == 0


class Matching(Frozen):
    """CSM: pseudo labels and neighbours from the target seen at several scales, labels by transport to the centres."""

    scales: tuple[PositiveFloat, ...] = Field((), description="of objects, besides 1; none leaves it out")
    after_epochs: Annotated[int, Field(ge=0)] = Field(
        1, description="epochs that teach the other scales before they count"
    )
    firmness: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="of the hold on the source's class fractions in pseudo labels; 0 takes CDTrans' nearest centre"
    )
    temperature: PositiveFloat = Field(0.1, description="of cosines to class centres, where fractions are held")


class Changes(Frozen):
    """Where a control leaves the recipe that all other methods share."""

    epochs: PositiveFloat = Field(1.0, description="factor on the recipe's epochs, rounded: more compute")
    zoom: Annotated[float, Field(ge=0, lt=1)] | None = Field(None, description="in place of augment.zoom")


class Method(Frozen):
    """The parts that a method adds to CDTrans. A part whose weight is 0 is not built: `{}` is CDTrans itself."""

    style: Style = Style()
    noise: Noise = Noise()
    pyramid: Pyramid = Pyramid()
    consistency: Consistency = Consistency()
    matching: Matching = Matching()
    mix_cross_entropy: Weight = Field(0.0, description="weight of the mix stream's own cross-entropy")
    attention_dropout: Fraction = Field(0.0, description="of the cross-attention's weights: a control")
    teacher_detached: bool = Field(False, description="the mix stream learns nothing by distillation: a control")
    recipe: Changes = Changes()

    # Until the seam for methods is merged: what the declaration of the pipeline asks of every kind.
    @property
    def kind(self) -> str:
        return "cdtrans"

    @property
    def parts(self) -> tuple[str, ...]:
        noise = self.style.weight or self.noise.weight or self.attention_dropout
        scale = self.pyramid.weight or self.consistency.weight
        return (*(("noise",) if noise else ()), *(("cross_scale",) if scale else ()))

    @property
    def source_data(self) -> bool:
        return True

    def refresh_passes(self, source: float, target: float) -> float:
        """How many images a refresh looks at, besides the target's own pass at the end of the epoch before."""
        return source + len(self.matching.scales) * target
