"""The kind of processor that a run computed on, as far as it decides bits, by its run record."""

from collections.abc import Mapping
from typing import Any


def kind_of_processor(record: Mapping[str, Any]) -> str:
    """A GPU's name, or a CPU's with its instructions; in portable arithmetic all CPUs are of one kind."""
    device = str(record.get("device"))
    if not device.startswith("cpu ("):
        return device
    arithmetic = [value for key, value in record["settings"].items() if key.endswith("arithmetic")]
    if arithmetic == ["portable"]:
        return "a CPU in portable arithmetic"
    name = device.removeprefix("cpu (").rpartition(", ")[0]
    instructions = record.get("arithmetic", {}).get("instructions", "unknown instructions")
    return f"a CPU {name} with {instructions}"
