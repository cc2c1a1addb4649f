"""The JSON schema of params.yaml, by which editors complete and check it as it is written: before presets are resolved.

Each definition says which keys there may be; its twin `Whole…` says which there must be, unless a preset, there or
further out, gives them.
"""

from typing import Any

from dacsm.config.experiments import ALL
from dacsm.config.params import Params
from dacsm.config.presets import PRESET, PRESETS

PRESET_KEY = {
    "description": f"take what {PRESETS}/NAME.yaml says; the other keys of this mapping win over it",
    "title": "Preset",
    "type": "string",
}
HAS_PRESET = {"type": "object", "required": [PRESET]}


def params_schema() -> dict[str, Any]:
    """The schema of the settings, in which every mapping may have a preset."""
    schema = Params.model_json_schema()
    definitions = {**schema.pop("$defs"), "Params": schema}
    tasks = definitions["Experiment"]["properties"]["tasks"]
    described = {key: tasks.pop(key) for key in ("description", "title")}
    definitions["Experiment"]["properties"]["tasks"] = {**described, "anyOf": [{"const": ALL}, tasks]}
    keys = {name: _keys(definition) for name, definition in definitions.items()}
    whole = {f"Whole{name}": _whole(keys[name], definition) for name, definition in definitions.items()}
    return {"$defs": keys | whole, "allOf": [_refer("Params"), _refer("WholeParams")]}


def _keys(definition: dict[str, Any]) -> dict[str, Any]:
    """A definition of which nothing is required."""
    properties = {key: _mapping(value) for key, value in definition["properties"].items()}
    found = {key: value for key, value in definition.items() if key != "required"}
    return {**found, "properties": {**properties, PRESET: PRESET_KEY}}


def _mapping(value: dict[str, Any]) -> dict[str, Any]:
    """A mapping from names of the user's own, such as datasets, where `preset` is none of them."""
    if "patternProperties" not in value:
        return value
    names = value["patternProperties"].items()
    patterns = {  # of one of several kinds a preset may say which it is
        pattern.replace("^", f"^(?!{PRESET}$)", 1): {"anyOf": of["oneOf"]} if "oneOf" in of else of
        for pattern, of in names
    }
    return {**value, "patternProperties": patterns, "properties": {PRESET: PRESET_KEY}}


def _whole(keys: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    """The twin: where no preset is named, all that is required is there, here and further in."""
    inside = {key: whole for key, value in keys["properties"].items() if (whole := _whole_value(value))}
    return {"if": HAS_PRESET, "else": {"required": definition.get("required", []), "properties": inside}}


def _whole_value(value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in value:
        return _refer(f"Whole{value['$ref'].rpartition('/')[2]}")
    if "anyOf" in value and all("$ref" in one for one in value["anyOf"]):
        return {"anyOf": [_whole_value(one) for one in value["anyOf"]]}
    if "patternProperties" in value:
        patterns = {pattern: _whole_value(of) for pattern, of in value["patternProperties"].items()}
        return {"if": HAS_PRESET, "else": {"patternProperties": patterns}}
    return {}


def _refer(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}
