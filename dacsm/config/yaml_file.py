"""Reading YAML files of people: what would be silently lost, hang or crash is refused in one sentence."""

import re
from pathlib import Path
from typing import Any

import yaml

from dacsm.runtime.errors import InputError

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast; some systems lack it
MOST_BYTES = 2**22
MOST_NODES = 100_000  # once aliases stand for what they name
MOST_DEEP = 100
ODD_NUMBER = re.compile(r"[-+]?(0[0-9_]+|\d+(:[0-5]?\d)+(\.\d*)?)")  # to YAML, 010 is 8 and 1:30 is 90


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises InputError where the file is missing, is not YAML, has a key twice in a mapping, or is of no size or depth
    that a person writes.
    """
    try:
        with path.open("rb") as file:  # read no further than the bound: a device has no end
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise InputError(f"{path} has more than {MOST_BYTES:,} bytes; name a file of settings.")
        text = content.decode("utf-8-sig")
        _require_plain(text, path)
        return yaml.load(text, LOADER)
    except FileNotFoundError as error:
        raise InputError(f"{path} was not found; run from the project's folder, or name the file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); it should be a YAML file.") from error
    except (yaml.YAMLError, ValueError) as error:  # a date such as 2020-13-45 is a ValueError
        reason = " ".join(str(error).split()).replace(' in "<unicode string>",', " in")
        place = getattr(error, "problem_mark", None)
        if place and "\t" in "".join(text.splitlines()[place.line : place.line + 1]):
            reason += ", where a tab is, and blanks should be"
        raise InputError(f"{path} is not YAML: {reason}; mend it there.") from error


def _require_plain(text: str, path: Path) -> None:
    """Raise InputError for a key that stands twice in a mapping, and for nesting or aliases beyond the bounds.

    It goes by the parser's events, since deep nesting would crash what builds values of them.
    """
    events = yaml.parse(text, LOADER)
    sizes: dict[str, int] = {}  # values that each anchor stands for

    def refused(event: Any, reason: str) -> InputError:
        return InputError(f"{path} {reason}, in line {event.start_mark.line + 1}; mend it there.")

    def size_of(event: Any, depth: int) -> int:
        """Go to the end of the node that begins with `event`; returns how many values it stands for."""
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise refused(event, f"names *{event.anchor}, which is nothing above that line")
            return sizes[event.anchor]
        if depth > MOST_DEEP:
            raise refused(event, f"is nested more than {MOST_DEEP} deep")
        size, keys, inside = 1, set(), 0
        if isinstance(event, yaml.CollectionStartEvent):
            while not isinstance(item := next(events), yaml.CollectionEndEvent):
                is_key = isinstance(event, yaml.MappingStartEvent) and inside % 2 == 0
                if is_key and isinstance(item, yaml.ScalarEvent):
                    if item.value in keys:
                        raise refused(item, f"has the key {item.value!r} a second time")
                    keys.add(item.value)
                size += size_of(item, depth + 1)
                inside += 1
                if size > MOST_NODES:
                    raise refused(item, f"stands for more than {MOST_NODES:,} values")
        elif event.implicit[0] and ODD_NUMBER.fullmatch(event.value):
            raise refused(event, f"has {event.value} without quotes, which YAML takes for another number")
        if event.anchor:
            sizes[event.anchor] = size
        return size

    for event in events:
        if isinstance(event, yaml.NodeEvent):
            size_of(event, 0)
