"""Entries for params.yaml, put in as lines: its own lines, comments and line ends stay as they are."""

import os
import stat
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dacsm.config.yaml_file import LOADER, read_yaml
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import whole_file

WIDTH = 120
BEFORE = {"folders": "experiments"}  # where a key that is not there yet goes; else at the end of the file


@dataclass(frozen=True)
class Entry:
    """`name: value` below the key `inside`, after a comment."""

    inside: tuple[str, ...]
    name: str
    value: Mapping[str, Any]
    comment: str


def insert(file: Path, entries: Sequence[Entry]) -> None:
    """Write entries into a file of settings; raises InputError, and changes nothing, as `inserted` does."""
    text, file = inserted(file, entries), file.resolve()  # a link stays one
    mode = stat.S_IMODE(file.stat().st_mode)
    with whole_file(file) as partial:
        partial.write_bytes(text.encode("utf-8"))
    file.chmod(mode)


def inserted(file: Path, entries: Sequence[Entry]) -> str:
    """The text of a file of settings with entries more, each as the last below its key.

    Raises InputError where the file may not be written, or would not hold just what it did and the entries.
    """
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise InputError(f"{file} is {str(content)[:40]!r}, but it should be a mapping; write settings into it.")
    if not file.stat().st_mode & 0o222 or not os.access(file, os.W_OK):
        raise InputError(f"{file} may not be written; allow that (`chmod u+w {file}`), and run again.")
    wanted, text = with_entries(content, entries), file.read_bytes().decode("utf-8")
    for entry in entries:
        text = with_entry(text, entry)
    try:
        good = yaml.load(text.removeprefix("\ufeff"), LOADER) == wanted
    except yaml.YAMLError:
        good = False
    if not good:
        keys = ", ".join(dict.fromkeys(".".join(entry.inside) for entry in entries))
        raise InputError(
            f"{file} is written so that lines cannot be added to it; write each of {keys} over several lines, an entry "
            "a line and without anchors, and run again."
        )
    return text


def with_entries(content: Mapping[str, Any], entries: Sequence[Entry]) -> dict[str, Any]:
    """The content of a file of settings with entries more; raises InputError where there is one of that name."""
    found = deepcopy(dict(content))
    for entry in entries:
        inside, where = found, ".".join(entry.inside)
        for key in entry.inside:
            if inside.get(key) is None:
                inside[key] = {}
            inside = inside[key]
            if not isinstance(inside, dict):
                raise InputError(f"{where} should be a mapping in the settings, and is not; correct it.")
        if entry.name in inside:
            raise InputError(
                f"{where} has {entry.name!r} already in the settings; remove that, or choose another --name."
            )
        inside[entry.name] = dict(entry.value)
    return found


def with_entry(text: str, entry: Entry) -> str:
    """The text of a YAML file with an entry more."""
    end = "\r\n" if "\r\n" in text else "\n"
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += end
    node = yaml.compose(text.removeprefix("\ufeff"), LOADER)
    above: tuple[str, ...] = ()
    at, indent = len(lines), 0
    for depth, key in enumerate(entry.inside):
        found = _pair(node, key)
        if found is None:
            above = entry.inside[depth:]
            after = _pair(node, BEFORE.get(key, "")) if depth == 0 else None
            at = at if after is None else after[0].start_mark.line
            break
        name, node = found
        at = _last_line(node) + 1
        indent = node.start_mark.column if _is_block(node) else name.start_mark.column + 2
        if not node.value:  # a key without a value, or with {}
            at = name.end_mark.line + 1
            line, first, last = lines[at - 1], node.start_mark.column, node.end_mark.column
            if isinstance(node, yaml.MappingNode) and node.start_mark.line == at - 1:
                lines[at - 1] = line[:first].rstrip() + line[last:]
    new = [f"{' ' * (indent + 2 * depth)}{key}:" for depth, key in enumerate(above)]
    new += [" " * (indent + 2 * len(above)) + line for line in _lines(entry, indent + 2 * len(above))]
    if above and at < len(lines):
        new.append("")
    return "".join([*lines[:at], *(line + end for line in new), *lines[at:]])


def _lines(entry: Entry, indent: int) -> list[str]:
    """An entry as lines: in one line where that is short enough."""
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 10_000}
    name = yaml.safe_dump({entry.name: None}, **options).rsplit(":", 1)[0]
    flow = yaml.safe_dump(dict(entry.value), default_flow_style=True, **options).strip()
    lines = [f"# {entry.comment}"] if entry.comment else []
    if indent + len(name) + 2 + len(flow) <= WIDTH:
        return [*lines, f"{name}: {flow}"]
    for key, value in entry.value.items():
        text = yaml.safe_dump({key: value}, default_flow_style=True, **options).strip()
        lines.append(f"  {text[1:-1]}")
    at = 1 if entry.comment else 0
    return [*lines[:at], f"{name}:", *lines[at:]]


def _pair(node: Any, key: str) -> tuple[Any, Any] | None:
    """The nodes of a key and of its value in a mapping."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next(((name, value) for name, value in pairs if name.value == key), None)


def _is_block(node: Any) -> bool:
    return isinstance(node, yaml.MappingNode) and not node.flow_style


def _last_line(node: Any) -> int:
    """The last line of a node; the end of a block, as the parser has it, is only where the next thing begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    end = node.end_mark
    return end.line - 1 if end.column == 0 and end.line > node.start_mark.line else end.line
