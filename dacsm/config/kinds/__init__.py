"""The kinds of methods that an entry of adapt.methods in params.yaml may be of, and the settings of each.

A kind is a module here with its settings, a class `Settings`, and a module or folder of the same name in dacsm/methods
with its code, a class `Kind`.
"""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Union

from pydantic import Field, PositiveFloat

from dacsm.config.validation import Frozen


class Changes(Frozen):
    """Where a method leaves the recipe that all others share."""

    epochs: PositiveFloat = Field(1.0, description="factor on the recipe's epochs, rounded: more compute")
    learning_rate: PositiveFloat = Field(1.0, description="factor on the recipe's optimiser.learning_rate")
    zoom: Annotated[float, Field(ge=0, lt=1)] | None = Field(None, description="in place of augment.zoom")


class MethodSettings(Frozen):
    """What the settings of every kind have. Each kind states its own name: `kind: Literal["<name>"]`."""

    source_data: ClassVar[bool] = True  # whether adaptation reads the source's shards, besides the source model

    kind: str = Field(description="the kind of method, a module of dacsm/methods")
    recipe: Changes = Changes()

    @property
    def parts(self) -> tuple[str, ...]:
        """The modules of dacsm/methods/<kind>/parts that these settings bring into training."""
        return ()

    @property
    def refresh_passes(self) -> tuple[int, int]:
        """How often a refresh looks at every source image, and at every target image; for the plan alone."""
        return 0, 0


def settings_of_any_kind() -> Any:
    """A type for pydantic: the settings of that kind, a module of this folder, which their key `kind` names."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    settings = tuple(import_module(f"{__name__}.{name}").Settings for name in names)
    return Annotated[Union[settings], Field(discriminator="kind")]  # noqa: UP007
