"""Tables of Markdown, and numbers in their cells."""

from collections.abc import Sequence

import numpy as np
from tabulate import tabulate

from dacsm.report.shapes import Grid, decimal
from dacsm.report.statistics import Difference


def grid_of(header: Sequence[str], cells: Sequence[Sequence[str]], names: int = 1) -> str:
    """A Markdown table; all but the first `names` columns are numbers, set to the right."""
    align = ["left"] * names + ["right"] * (len(header) - names)
    return tabulate(cells, header, tablefmt="pipe", colalign=align, disable_numparse=True)


def cell(mean: float, spread: float, grid: Grid | None = None) -> str:
    """74.1 ± 0.8, with spaces that do not break; the mean alone for one seed."""
    if np.isnan(mean):
        return "–"
    if np.isnan(spread):
        return f"{mean:.1f}" if grid is None else decimal(grid, mean)
    return f"{mean:.1f}\u00a0±\u00a0{spread:.1f}"


def signed(points: float, digits: int = 2) -> str:
    """+2.01 or −2.01, with the minus sign of print."""
    return f"{round(points, digits) + 0.0:+.{digits}f}".replace("-", "−")


def interval_of(difference: Difference) -> str:
    """+0.55 to +3.20; a dash for one seed, which has none."""
    return "–" if difference.interval is None else "{} to {}".format(*map(signed, difference.interval))


def known(value: float, digits: int = 2) -> str:
    """A number that may be NaN."""
    return "–" if np.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")
