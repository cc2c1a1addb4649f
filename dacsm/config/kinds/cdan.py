"""Settings of methods of the kind cdan: CDAN (arXiv 1705.10667), and DANN (arXiv 1505.07818) without conditioning."""

from typing import Literal

from dacsm.config.kinds import MethodSettings
from dacsm.config.losses import Adversarial


class Settings(MethodSettings):
    """Cross-entropy on the source, and features of which no discriminator can tell the domain."""

    kind: Literal["cdan"]
    adversarial: Adversarial = Adversarial()
