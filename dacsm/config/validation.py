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
        key, _there = _place(model, first["loc"])
        file = name(key) if callable(name) else name
        raise InputError(f"{file}: {_sentence(model, first)}") from error


def _sentence(model: type[BaseModel], error: dict[str, Any]) -> str:
    key = ".".join(map(str, _place(model, error["loc"])[0])) or "the file"
    if error["type"] == "extra_forbidden":
        holder = _place(model, error["loc"][:-1])[1]
        known = ", ".join(sorted(getattr(holder, "model_fields", {})))
        return f"{key} is not a known key; expected one of {known}; remove it or correct its name."
    if error["type"] == "missing":
        return f"{key} is missing; add it."
    if error["type"].startswith("union_tag"):
        known = ", ".join(_choices(_place(model, error["loc"])[1]))
        if error["type"] == "union_tag_not_found":
            return f"{key}.kind is missing; add it: one of {known}."
        return f"{key}.kind is {error['ctx']['tag']!r}, expected one of {known}; change it there."
    reason = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{reason}; change it there." if key == "the file" else f"{key}: {reason}; change it there."
    reason = re.sub(r"^\w+ should", "it should", reason.replace(" after validation", ""))
    return f"{key} is {error['input']!r}, but {reason}; change it there."


def _place(model: Any, location: Key) -> tuple[Key, Any]:
    """The key of an error inside `model`, and the type that is there.

    In a location pydantic puts the kind that it chose among several before what is inside; a key does not have it.
    """
    key = []
    for part in location:
        choices = _choices(model)
        if part in choices:
            model = choices[part]
            continue
        key.append(part)
        field = model.model_fields.get(part) if isinstance(model, type) else None
        if field is not None:
            model = field.annotation
        elif getattr(model, "__args__", None):
            model = model.__args__[-1]  # dict[Name, X] -> X
    return tuple(key), model


def _choices(model: Any) -> dict[str, Any]:
    """The models among which the key `kind` chooses, by kind; none where there is no choice."""
    if not any(getattr(part, "discriminator", None) for part in getattr(model, "__metadata__", ())):
        return {}
    one_of = getattr(model.__origin__, "__args__", (model.__origin__,))
    return {kind: one for one in one_of for kind in one.model_fields["kind"].annotation.__args__}
