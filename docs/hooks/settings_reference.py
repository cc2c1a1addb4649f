"""The page of all settings in params.yaml, from the models that check it: meaning, type, default, bounds."""

import json
from typing import Any

from dacsm.config.params import Params
from dacsm.config.schema import ALL
from dacsm.config.validation import PATTERNS

HEAD = f"""# Settings

`params.yaml` holds all settings. This page is made from the models that check the file. A key without a default must
be there, or come from a preset: a mapping with `preset: NAME` takes what `workflow/presets/NAME.yaml` says, and its
other keys win over it. `tasks: {ALL}` stands for every task of the dataset. Unknown keys are refused.

In the headings, `<name>` stands for a name of your own, such as that of a dataset.
"""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true`, `false`",
    "null": "`null`",
}
Schema = dict[str, Any]


def settings_page() -> str:
    """The page, a section for each mapping of params.yaml, in the order of the file."""
    schema = Params.model_json_schema()
    definitions = schema.pop("$defs")
    waiting, sections = [("", schema)], []
    while waiting:
        path, model = waiting.pop(0)
        inner = [(key, _inside(value, definitions)) for key, value in model["properties"].items()]
        waiting = [(_path(path, key, name), one) for key, found in inner for name, one in found] + waiting
        sections.append(_section(path, model))
    return "\n".join([HEAD, *sections])


def _path(path: str, key: str, name: str) -> str:
    return ".".join(part for part in (path, key, name) if part)


def _inside(value: Schema, definitions: dict[str, Schema]) -> list[tuple[str, Schema]]:
    """The mappings that a key holds, each with what its path goes on with."""
    if "$ref" in value:
        return [("", definitions[_name(value)])]
    found = []
    for of in value.get("patternProperties", {}).values():
        if "$ref" in of:
            found.append(("<name>", definitions[_name(of)]))
        for kind, reference in of.get("discriminator", {}).get("mapping", {}).items():
            found.append((f"<name> (kind: {kind})", definitions[reference.rpartition("/")[2]]))
    return found


def _name(value: Schema) -> str:
    return str(value["$ref"]).rpartition("/")[2]


def _section(path: str, model: Schema) -> str:
    required = model.get("required", [])
    rows = [_row(key, value, key in required) for key, value in model["properties"].items()]
    head = f"## `{path}`" if path else "## The file"
    table = ["| key | type and bounds | default | meaning |", "|---|---|---|---|", *rows]
    return "\n".join([head, "", model.get("description", ""), "", *table, ""])


def _row(key: str, value: Schema, required: bool) -> str:
    holds = "$ref" in value or ("patternProperties" in value and "type" not in _only(value["patternProperties"]))
    default = "" if required or holds else f"`{_yaml(value.get('default'))}`"
    kind = "mapping, below" if holds else _type(value)
    return f"| `{key}` | {kind} | {default} | {value.get('description', '').replace('|', '&#124;')} |"


def _only(mapping: dict[str, Schema]) -> Schema:
    return next(iter(mapping.values()))


def _yaml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _type(value: Schema) -> str:
    """The type of a value in words, with its bounds."""
    if "const" in value or "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value.get("enum", [value.get("const")]))
    if "anyOf" in value:
        return " or ".join(_type(one) for one in value["anyOf"])
    kind = value.get("type", "")
    if kind == "array":
        return _list(value)
    if kind == "object":
        return f"mapping from names to {_type(_only(value['patternProperties']))}"
    if (pattern := value.get("pattern")) in PATTERNS:
        return PATTERNS[pattern].removeprefix("it should be ").replace("|", "&#124;")
    bounds = [f"{sign} {value[key]:,}" for key, sign in BOUNDS.items() if key in value]
    return " ".join([WORDS[kind], ", ".join(bounds)]).strip()


def _list(value: Schema) -> str:
    least, most = value.get("minItems", 0), value.get("maxItems")
    if "prefixItems" in value:
        return f"list of {len(value['prefixItems'])}, each: {_type(value['prefixItems'][0])}"
    length = f" (at least {least})" if least else ""
    assert most is None, "a list with a largest length; say so here"
    return f"list{length} of: {_type(value['items'])}"
