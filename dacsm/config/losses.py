"""Settings of losses that methods of several kinds have."""

from pydantic import Field, PositiveFloat, PositiveInt

from dacsm.config.validation import Fraction, Frozen, Weight


class Masking(Frozen):
    """Masked image consistency: the target's prediction stays the same where most of the image is hidden."""

    weight: Weight = Field(0.0, description="of the loss; 0 leaves it out")
    ratio: Fraction = Field(0.7, description="fraction of the blocks that are hidden, each by a draw of its own")
    blocks: PositiveInt = Field(4, description="blocks along a side of the image; 4 are the 64 of 224 pixels of MIC")
    decay: Fraction = Field(0.9, description="of the weight average that predicts the whole image")


class Adversarial(Frozen):
    """A discriminator of the domains, whose gradient is reversed on its way to the features."""

    weight: Weight = Field(1.0, description="of the loss")
    conditioned: bool = Field(
        True, description="by the predicted classes, as in CDAN; false: by the features alone, as in DANN"
    )
    entropy_conditioning: bool = Field(False, description="images count by how sure their prediction is: CDAN+E")
    hidden: PositiveInt = Field(1024, description="width of the discriminator's two hidden layers")
    widest: PositiveInt = Field(
        4096, description="features times classes, up to which their product is taken as it is; beyond it, at random"
    )
    random_width: PositiveInt = Field(1024, description="width of the random product of features and classes")


class Confusion(Frozen):
    """Minimum class confusion: the target's predictions seldom waver between two classes."""

    weight: Weight = Field(1.0, description="of the loss; 0 leaves it out")
    temperature: PositiveFloat = Field(2.0, description="divides the logits")
