"""Pictures of a table: accuracies, confusions and differences. The same numbers give the same bytes."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from dacsm.report.statistics import BETTER, CONFIDENCE, NOT_TOLD_APART, WORSE, Difference
from dacsm.report.tables import Number
from dacsm.runtime.files import whole_file

# Okabe and Ito's colours, which colour-blind readers can tell apart. Grey first: source-only usually comes first.
COLOURS = ("#8C8C8C", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
HATCHES = ("", "//", "xx", "..")  # of bars: past the last colour, the colours begin again with the next hatch
MARKERS = "osD^vPX"  # of curves, beside the colours
DASHES = ("-", "-.", ":")  # of curves, past the last colour
MOST_TICKS = 12  # along a curve; past that matplotlib chooses
WIDTH = 10.0  # inches
DPI = 160
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "hatch.color": "white",
}
BARS_A_PANEL = 20  # groups of them
MOST_NUMBERED = 20  # classes of a confusion matrix with a number in each cell
MOST_NAMED = 80  # classes of a confusion matrix with their names at the axes
VERDICTS = {BETTER: ("#0072B2", "o"), WORSE: ("#D55E00", "s"), NOT_TOLD_APART: ("#555555", "D")}  # colour and mark


def bars(
    path: Path, title: str, methods: Mapping[str, Mapping[str, Number]], what: str = "accuracy (%)", top: float = 100
) -> None:
    """Grouped bars: a group for each class or task, and their mean, a bar a method; NaN draws nothing.

    `methods` has for each name its numbers in percent by class or task, the same for all methods; `what` they are
    stands at the axis, which goes up to `top` at least.
    """
    columns = list(next(iter(methods.values())))
    count = -(-len(columns) // BARS_A_PANEL)
    in_panel = -(-len(columns) // count)  # spread evenly, so that no panel is left nearly empty
    names = [textwrap.fill(column, 10, break_long_words=False) for column in columns]
    slanted = max(len(line) for name in names for line in name.split("\n")) * in_panel > 110
    numbers = [number for of in methods.values() for number in of.values()]
    ticks = {"yticks": range(0, 101, 20)} if top == 100 else {}
    top = max(top, *(np.nansum([number.mean, number.spread]) for number in numbers))
    width = 0.84 / len(methods)

    def draw(figure: Figure) -> None:
        for panel, axes in enumerate(panels(figure, 1, count)):
            part = slice(panel * in_panel, (panel + 1) * in_panel)
            positions = np.arange(len(columns[part]))
            for place, (method, of) in enumerate(methods.items()):
                shown = list(of.values())[part]
                axes.bar(
                    positions + (place - (len(methods) - 1) / 2) * width,
                    [number.mean for number in shown],
                    width * 0.94,
                    yerr=[number.spread for number in shown],
                    color=COLOURS[place % len(COLOURS)],
                    hatch=HATCHES[place // len(COLOURS) % len(HATCHES)],
                    error_kw={"ecolor": "#222222", "elinewidth": 1, "capsize": min(2.5, 18 * width)},
                    label=method,
                )
            turned: dict[str, Any] = {"rotation": 35, "ha": "right"} if slanted else {}
            axes.set_xticks(positions, (columns if slanted else names)[part], **turned)
            axes.tick_params(axis="x", length=0)
            axes.set(xlim=(-0.6, in_panel - 0.4), ylim=(0, top * 1.01), ylabel=what, **ticks)
            axes.grid(axis="y")
        figure.suptitle(title, fontsize=12, fontweight="bold")
        _legend(figure)

    save_figure(path, (WIDTH, 1.1 + count * (3.4 if slanted else 3.1)), draw)


def confusion(path: Path, title: str, classes: Sequence[str], percent: np.ndarray) -> None:
    """A confusion matrix (K, K), rows actual, in percent of a row; a row of NaN (no images) stays white."""
    count = len(classes)
    numbered, named = count <= MOST_NUMBERED, count <= MOST_NAMED
    size = max(6.4, min(WIDTH, 0.58 * count)) if numbered else WIDTH

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        names = classes if named else []
        shown = percentages(axes, percent, names, 10 if numbered else 6, "{:.0f}" if numbered else "", 9)
        axes.tick_params(axis="x", rotation=90 if max(map(len, names), default=0) > 4 else 0)
        unit = "" if named else " (index of the class)"
        axes.set(xlabel=f"predicted{unit}", ylabel=f"actual{unit}")
        axes.set_title(title, fontsize=11, fontweight="bold", pad=10)
        bar = figure.colorbar(shown, ax=axes, fraction=0.045, pad=0.02, label="percent of the actual class")
        bar.outline.set_visible(False)

    save_figure(path, (size + 0.6, size), draw)


def matrices(path: Path, title: str, domains: Sequence[str], methods: Mapping[str, np.ndarray]) -> None:
    """Sources by targets, a matrix (D, D) in percent a method, side by side; NaN, as on the diagonal, stays white.

    `domains` are the D headings of lines and columns, the last of them for means.
    """
    across = min(len(methods), 3)

    def draw(figure: Figure) -> None:
        for axes, (name, percent) in zip(panels(figure, across, len(methods)), methods.items(), strict=True):
            percentages(axes, percent, domains, 8, "{:.1f}", 7)
            axes.tick_params(axis="x", rotation=90)
            axes.axhline(len(domains) - 1.5, color="white", linewidth=3)
            axes.axvline(len(domains) - 1.5, color="white", linewidth=3)
            axes.set_title(name, fontsize=9)
        figure.supxlabel("target", fontsize=10)
        figure.supylabel("source", fontsize=10)
        figure.suptitle(title, fontsize=11, fontweight="bold")

    save_figure(path, (4.2 * across + 0.4, 4.2 * -(-len(methods) // across) + 0.8), draw)


def differences(path: Path, title: str, groups: Mapping[str, Mapping[str, Difference]]) -> None:
    """Paired differences in points, a line a method under its group's name: mean, interval, and each seed as a dot.

    `groups` are tasks, each with its methods; colour and mark of the mean say the verdict.
    """
    lines: list[tuple[str, Difference | None]] = []
    for group, methods in groups.items():
        lines += [*([(group, None)] if len(groups) > 1 else []), *methods.items()]
    seeds = max(found.seeds for _name, found in lines if found)
    about = f"mean, {100 * CONFIDENCE:.0f} % interval and each of {seeds} seeds (dots)"

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(0, color="#222222", linewidth=1.2, zorder=1)
        marks = {found.verdict: _draw_difference(axes, place, found) for place, (_, found) in enumerate(lines) if found}
        axes.set_yticks(range(len(lines)), [name for name, _ in lines])
        for label, (_name, found) in zip(axes.get_yticklabels(), lines, strict=True):
            label.set_fontweight("normal" if found else "bold")
        axes.tick_params(axis="y", length=0)
        axes.set(ylim=(len(lines) - 0.4, -0.6), xlabel="points")
        axes.grid(axis="x")
        heading = f"{title}\n{about if seeds > 1 else 'a single seed'}"
        axes.set_title(heading, fontsize=11, fontweight="bold", pad=10)
        _legend(figure, {verdict: marks[verdict] for verdict in VERDICTS if verdict in marks})

    save_figure(path, (WIDTH, 1.9 + 0.34 * len(lines)), draw)


def _draw_difference(axes: Axes, place: int, found: Difference) -> Artist:
    """One line of differences; returns the mark of its mean, for the legend."""
    colour, mark = VERDICTS[found.verdict]
    if found.half_width is not None:
        dots = [place + 0.25] * found.seeds
        axes.scatter(list(found.by_seed.values()), dots, s=18, color=colour, alpha=0.5, linewidths=0, zorder=2)
        axes.errorbar(found.mean, place, xerr=found.half_width, color=colour, linewidth=1.8, capsize=4, zorder=3)
    return axes.scatter(found.mean, place, s=46, color=colour, marker=mark, edgecolors="white", zorder=4)


def curves(
    path: Path,
    title: str,
    along: str,
    what: str,
    groups: Mapping[str, Mapping[str, pd.DataFrame]],
    *,
    shared: bool = True,
    dashed: Sequence[str] = (),
    order: Sequence[str] = (),
) -> None:
    """A panel a group, a line a name: the mean over seeds of `what` against `along`, of values (S, P).

    A name has the same colour in all panels. These have one scale where it is `shared`; the groups that `dashed` names
    have broken lines. `order` are names that come first, whether they have a line or not.
    """
    across = min(len(groups), 3)
    names = list(dict.fromkeys([*order, *(name for lines in groups.values() for name in lines)]))

    def draw(figure: Figure) -> None:
        places = panels(figure, across, len(groups), sharey=shared)
        for axes, (group, lines) in zip(places, groups.items(), strict=True):
            for name, values in lines.items():
                place = names.index(name)
                line = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "label": name}
                line |= {"linestyle": "--" if group in dashed else DASHES[place // len(COLOURS) % len(DASHES)]}
                spread = values.std() if len(values) > 1 else None
                axes.errorbar(values.columns, values.mean(), yerr=spread, markersize=5, capsize=3, **line)  # type: ignore[arg-type]  # texts
            steps = sorted({step for values in lines.values() for step in values.columns})
            if len(steps) <= MOST_TICKS:
                axes.set_xticks(steps)
            axes.set_xlabel(along)
            axes.set_title(group, fontsize=11)
            axes.grid(axis="y")
        for axes in places[::across]:
            axes.set_ylabel(what)
        figure.suptitle(title, fontsize=12, fontweight="bold")
        _legend(figure)

    save_figure(path, (min(WIDTH, 2.4 + 3.8 * across), 1.3 + 3.3 * -(-len(groups) // across)), draw)


def panels(figure: Figure, across: int, count: int, **options: Any) -> list[Axes]:
    """So many panels, `across` side by side."""
    places = figure.subplots(-(-count // across), across, squeeze=False, **options).ravel()
    for axes in places[count:]:
        axes.set_visible(False)
    return list(places[:count])


def heat_map(axes: Axes, values: np.ndarray, names: Sequence[str], size: float, **colours: Any) -> AxesImage:
    """A square matrix as colours; `names`, if any, stand at its lines and columns, in letters of that size."""
    image = axes.imshow(values, interpolation="nearest", **colours)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    for axis in (axes.xaxis, axes.yaxis) if names else ():
        axis.set_ticks(range(len(names)), names, fontsize=size)
    return image


def percentages(
    axes: Axes, percent: np.ndarray, names: Sequence[str], size: float, form: str, size_of_numbers: float
) -> AxesImage:
    """A heat map of percentages, each in its cell as `form` writes it; NaN stays white."""
    image = heat_map(axes, percent, names, size, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.argwhere(np.isfinite(percent)):
        value = percent[row, column]
        colour = "white" if value > 55 else "#AAAAAA" if value < 0.5 else "black"
        axes.text(column, row, form.format(value), ha="center", va="center", fontsize=size_of_numbers, color=colour)
    return image


def _legend(figure: Figure, marks: Mapping[str, Artist] | None = None) -> None:
    """Below the picture, of these marks by name; of all panels', where none are given."""
    if marks is None:
        marks = {}
        for axes in figure.axes:
            for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
                marks.setdefault(name, handle)
    columns = min(len(marks), 5)
    figure.legend(marks.values(), marks.keys(), loc="outside lower center", ncol=columns, frameon=False)


def save_figure(path: Path, inches: tuple[float, float], draw: Callable[[Figure], None]) -> None:
    """Draw a figure of that size and write it as PNG, free of the reader's own matplotlib settings and of any date."""
    with style.context(["default", STYLE]):
        figure = Figure(figsize=inches, dpi=DPI, layout="constrained")
        draw(figure)
        with whole_file(path) as partial:
            figure.savefig(partial, format="png", metadata={"Software": None}, bbox_inches="tight", pad_inches=0.12)
