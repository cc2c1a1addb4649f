"""From what a file holds to a typed object, or to one sentence that names the file and the key."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dacsm.runtime.errors import InputError


class Frozen(BaseModel):
    """A value object: unknown keys are refused, as are NaN and infinities, and nothing changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Fraction = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
PATTERNS: dict[str, str] = {}  # what the patterns of texts mean


def text_of(pattern: str, meaning: str) -> Any:
    """The type of texts that match a pattern; `meaning` is what others are told that they should be."""
    PATTERNS[pattern] = f"it should be {meaning}"
    return Annotated[str, StringConstraints(pattern=pattern)]


# A task is written source-target, so that a domain's name has no hyphen. Names are parts of the names of files.
Name = text_of(r"^[A-Za-z0-9_]{1,40}$", "1 to 40 letters, digits or _")
# Of what stands in tables, on pages and in pictures.
Title = text_of(r"^[^\x00-\x1f\x7f|]{1,200}$", "1 to 200 characters in one line, without |")


def _expanded(path: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", path):
        raise ValueError(f"{path!r} has characters that no path should have")
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError as error:
        raise ValueError(f"{path!r} is in the home folder of nobody; write the whole path") from error


UserPath = Annotated[str, AfterValidator(_expanded)]  # `~` is the home folder, as in a shell

Model = TypeVar("Model", bound=BaseModel)
Key = tuple[str | int, ...]  # names of mappings and indices of lists, from the outside in

# How pydantic calls what it wants, and how a person does.
WORDS = {
    "finite_number": "it should be a finite number",
    **dict.fromkeys(("model_type", "dict_type", "mapping_type", "model_attributes_type"), "it should be a mapping"),
    **dict.fromkeys(("tuple_type", "list_type"), "it should be a list"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "it should be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "it should be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "it should be true or false"),
    "int_parsing_size": "it should be a smaller number",
    "string_type": "it should be text",
}
MOST_SHOWN = 80  # characters of a value in a sentence


def require_known(key: str, name: str, known: Iterable[str]) -> None:
    """Raise ValueError, for a validator of pydantic, where the settings have a name at `key` that nothing has."""
    if name not in (known := tuple(known)):
        raise ValueError(f"{key} has {name!r}, expected one of {', '.join(known)}")


def validate(model: type[Model], content: Any, name: str | Path | Callable[[Key], str | Path]) -> Model:
    """Check `content` (as read from the file `name`, or for each key from the file that `name` says) against `model`.

    Raises InputError for the first key that is unknown, missing or impossible.
    """

    def refused(key: Key, sentence: str) -> InputError:
        return InputError(f"{name(key) if callable(name) else name}: {sentence}")

    try:
        found = model.model_validate(content)
    except ValidationError as error:
        errors = error.errors()
        # a misspelt key is both unknown and missing: the unknown one says what is wrong
        first = next((found for found in errors if found["type"] == "extra_forbidden"), errors[0])
        raise refused(_place(model, first["loc"])[0], _sentence(model, first)) from error
    if (key := _number_from_truth(content, found.model_dump())) is not None:
        raise refused(key, f"{'.'.join(map(str, key))} is true or false, but it should be a number; change it there.")
    return found


def _sentence(model: type[BaseModel], error: Mapping[str, Any]) -> str:
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
    words = PATTERNS.get(error.get("ctx", {}).get("pattern")) or WORDS.get(error["type"], reason)
    shown = "empty" if error["input"] is None else repr(error["input"])
    shown = shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}…"
    return f"{key.removesuffix('.[key]')} is {shown}, but {words}; change it there."


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
        field = getattr(model, "model_fields", {}).get(part)
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


def _number_from_truth(content: Any, found: Any, key: Key = ()) -> Key | None:
    """The key of the first true or false that was taken for the number 1 or 0, as pydantic does."""
    if isinstance(content, bool) and not isinstance(found, bool):
        return key
    inside: Iterable[tuple[Any, Any]] = enumerate(content) if isinstance(content, list) else ()
    if isinstance(content, dict):
        inside = [(name, value) for name, value in content.items() if name in found]  # a receipt may say more
    keys = (_number_from_truth(value, found[name], (*key, name)) for name, value in inside)
    return next((key for key in keys if key is not None), None)
