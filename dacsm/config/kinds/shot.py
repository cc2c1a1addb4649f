"""Settings of methods of the kind shot: SHOT (arXiv 2002.08546), which reads no source data."""

from typing import ClassVar, Literal

from pydantic import Field

from dacsm.config.kinds import MethodSettings
from dacsm.config.validation import Weight


class Settings(MethodSettings):
    """The head stays as the source left it; the target's features come to fit it."""

    source_data: ClassVar[bool] = False

    kind: Literal["shot"]
    information: Weight = Field(1.0, description="weight of information maximisation")
    pseudo_labels: Weight = Field(0.3, description="weight of the cross-entropy to pseudo labels, beta in the paper")
