"""From a YAML file to a typed object, or to one sentence that names the file and the key."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dacsm.runtime.errors import InputError


class Frozen(BaseModel):
    """A value object: unknown keys are refused, and nothing changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Fraction = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast; some systems lack it
Model = TypeVar("Model", bound=BaseModel)
Key = tuple[str | int, ...]  # names of mappings and numbers in lists, from the outside in


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        InputError: where the file is missing or is not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), LOADER)
    except FileNotFoundError as error:
        raise InputError(f"{path} was not found; run from the project's folder, or name the file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); it should be a YAML file.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}; mend it there.") from error


def validate(model: type[Model], content: Any, name: str | Path | Callable[[Key], str | Path]) -> Model:
    """Check `content` (as read from the file `name`, or for each key from the file that `name` says) against `model`.

    Raises:
        InputError: for the first key that is unknown, missing or impossible.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        errors = error.errors()
        # a misspelt key is both unknown and missing: the unknown one says what is wrong
        first = next((found for found in errors if found["type"] == "extra_forbidden"), errors[0])
        file = name(first["loc"]) if callable(name) else name
        raise InputError(f"{file}: {_sentence(model, first)}") from error


def _sentence(model: type[BaseModel], error: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "the file"
    if error["type"] == "extra_forbidden":
        known = ", ".join(_keys_at(model, error["loc"][:-1]))
        return f"{key} is not a known key; expected one of {known}; remove it or correct its name."
    if error["type"] == "missing":
        return f"{key} is missing; add it."
    reason = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{reason}; change it there." if key == "the file" else f"{key}: {reason}; change it there."
    reason = re.sub(r"^\w+ should", "it should", reason.replace(" after validation", ""))
    return f"{key} is {error['input']!r}, but {reason}; change it there."


def _keys_at(model: Any, location: tuple[Any, ...]) -> list[str]:
    """The keys that the model at `location` inside `model` knows."""
    for part in location:
        field = model.model_fields.get(part) if isinstance(model, type) else None
        if field is not None:
            model = field.annotation
        elif getattr(model, "__args__", None):
            model = model.__args__[-1]  # dict[Name, X] -> X
    return sorted(getattr(model, "model_fields", {}))
