"""Settings of methods of the kind mic: masked image consistency (arXiv 2212.01322) on CDAN and class confusion."""

from typing import Literal

from dacsm.config.kinds import MethodSettings
from dacsm.config.losses import Adversarial, Confusion, Masking


class Settings(MethodSettings):
    """As MIC is for classification, with Vision Transformers. A loss of weight 0 is left out."""

    kind: Literal["mic"]
    adversarial: Adversarial = Adversarial()
    confusion: Confusion = Confusion()
    masking: Masking = Masking(weight=1.0)
