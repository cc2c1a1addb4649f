"""The page of `benchmarks.gpu`: a table for each part."""

from collections.abc import Mapping
from typing import Any

from benchmarks.report import Measurement

HEAD = ("what", "measured", "wanted", "")


def page(content: Mapping[str, Any]) -> str:
    """Markdown of what gpu.json holds."""
    lines = ["# Measured on a GPU", ""]
    if content["dry"]:
        lines += ["At sizes for a CPU, to try the code: these numbers mean nothing.", ""]
    for name, part in content["parts"].items():
        seconds = f"{part['seconds']:.0f} s" if "seconds" in part else "not finished"
        said = "" if part["state"] == "done" else f", **{part['state']}**: {part.get('reason', 'the program ended')}"
        lines += [f"## {part['title']}", "", f"`{name}`, {seconds}{said}", ""]
        lines += [
            f"| {' | '.join(line)} |"
            for line in (HEAD, ("---",) * 4, *(Measurement(**row).cells for row in part["rows"]))
        ]
        lines.append("")
    return "\n".join(lines)
