"""How counts, lists, sizes and times are said to people."""

from collections.abc import Sequence


def count_of(number: int, name: str, plural: str = "s") -> str:
    """1 image, or 1,200 images."""
    return f"{number:,} {name}" if number == 1 else f"{number:,} {name}{plural}"


def listed(names: Sequence[str], most: int, separator: str = ", ") -> str:
    """The first so many names, and how many more there are."""
    more = len(names) - most
    return separator.join(names[:most]) + (f" and {more} more" if more > 0 else "")


def in_bytes(size: float) -> str:
    """12 bytes, 1.23 kB, … 4.56 TB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def in_hours(hours: float) -> str:
    """12 s, 5 min, 1.2 h or 1,234 h."""
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 1 else f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"
