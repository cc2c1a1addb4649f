"""Pictures of numbers along something that grows, such as a scale: a panel for each thing, a line a name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dacsm.report.plots import COLOURS, WIDTH, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACROSS = 3  # panels side by side
MARKERS = "osD^vPX"  # beside the colours, for those who cannot tell them apart


@dataclass(frozen=True)
class Curve:
    """A line through P points; `spread` (P,) is drawn as error bars, NaN as none."""

    name: str
    along: np.ndarray
    values: np.ndarray
    spread: np.ndarray


def curves(path: Path, title: str, along: str, what: str, panels: Mapping[str, Sequence[Curve]]) -> None:
    """Draw each panel's curves, under its name, over the same range of values; `along` and `what` name the axes."""
    across = min(len(panels), ACROSS)
    down = -(-len(panels) // across)

    def draw(figure: "Figure") -> None:
        places = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
        for axes in places[len(panels) :]:
            axes.set_visible(False)
        for axes, (name, lines) in zip(places, panels.items(), strict=False):
            for number, line in enumerate(lines):
                axes.errorbar(
                    line.along,
                    line.values,
                    yerr=None if np.isnan(line.spread).all() else line.spread,
                    color=COLOURS[number % len(COLOURS)],
                    marker=MARKERS[number % len(MARKERS)],
                    markersize=5,
                    capsize=3,
                    label=line.name,
                )
            axes.set_xticks(lines[0].along)
            axes.set_xlabel(along)
            axes.set_title(name, fontsize=11)
            axes.grid(axis="y")
        for row in range(down):
            places[row * across].set_ylabel(what)
        figure.suptitle(title, fontsize=12, fontweight="bold")
        handles, labels = places[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncol=min(len(labels), 5), frameon=False)

    save_figure(path, (min(WIDTH, 2.4 + 3.8 * across), 1.3 + 3.3 * down), draw)
