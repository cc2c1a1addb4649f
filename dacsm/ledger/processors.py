"""The kind of processor that a run computed on, as far as it decides bits, by its run record."""

from collections.abc import Mapping
from typing import Any


def kind_of_processor(record: Mapping[str, Any]) -> str:
    """A GPU's name, or a CPU's with its instructions; in portable arithmetic all CPUs are of one kind."""
    device = str(record.get("device"))
    if not device.startswith("cpu ("):
        return device
    if _is_portable(record["settings"]):
        return "a CPU in portable arithmetic"
    name = device.removeprefix("cpu (").rpartition(", ")[0]
    instructions = record.get("arithmetic", {}).get("instructions", "unknown instructions")
    return f"a CPU {name} with {instructions}"


def _is_portable(settings: Mapping[str, Any]) -> bool:
    """Whether a recipe's setting says so: it is a key of its own, or inside the whole recipe."""
    found = [value for key, value in settings.items() if key.endswith(".arithmetic")]
    found += [recipe.get("arithmetic") for recipe in settings.values() if isinstance(recipe, Mapping)]
    return "portable" in found
