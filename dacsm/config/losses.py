"""Settings of losses that methods of several kinds have."""

from pydantic import Field, PositiveInt

from dacsm.config.validation import Fraction, Frozen, Weight


class Masking(Frozen):
    """Masked image consistency: the target's prediction stays the same where most of the image is hidden."""

    weight: Weight = Field(0.0, description="of the loss; 0 leaves it out")
    ratio: Fraction = Field(0.7, description="fraction of the blocks that are hidden, each by a draw of its own")
    blocks: PositiveInt = Field(4, description="blocks along a side of the image; 4 are the 64 of 224 pixels of MIC")
    decay: Fraction = Field(0.9, description="of the weight average that predicts the whole image")
