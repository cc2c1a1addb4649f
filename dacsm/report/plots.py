"""Pictures of a table: accuracies, confusions and differences. The same numbers give the same bytes."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dacsm.report.statistics import BETTER, CONFIDENCE, NOT_TOLD_APART, WORSE, Difference
from dacsm.runtime.files import whole_file

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart. Grey first: source-only usually comes first.
COLOURS = ("#8C8C8C", "#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
HATCHES = ("", "//", "xx", "..")  # past the last colour, the colours begin again with the next hatch
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
COLUMNS_A_PANEL = 20
MOST_NUMBERED = 20  # classes of a confusion matrix with a number in each cell
MOST_NAMED = 80  # classes of a confusion matrix with their names at the axes
VERDICTS = {BETTER: ("#0072B2", "o"), WORSE: ("#D55E00", "s"), NOT_TOLD_APART: ("#555555", "D")}  # colour and mark


def bars(path: Path, title: str, columns: Sequence[str], methods: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Grouped bars: a group for each of the K columns (classes or tasks, and their mean), a bar a method.

    `methods` has for each name its means and its standard deviations, (K,) in percent; NaN draws nothing.
    """
    panels = -(-len(columns) // COLUMNS_A_PANEL)
    in_panel = -(-len(columns) // panels)  # spread evenly, so that no panel is left nearly empty
    names = [textwrap.fill(column, 10, break_long_words=False) for column in columns]
    slanted = max(len(line) for name in names for line in name.split("\n")) * in_panel > 110
    names = list(columns) if slanted else names
    top = max(100, *(np.nanmax(np.append(means + np.nan_to_num(spreads), 0)) for means, spreads in methods.values()))

    def draw(figure: "Figure") -> None:
        for number, axes in enumerate(figure.subplots(panels, 1, squeeze=False)[:, 0]):
            start = number * in_panel
            _draw_bars(axes, names, methods, range(start, min(start + in_panel, len(columns))), slanted)
            axes.set_xlim(-0.6, in_panel - 0.4)
            axes.set_ylim(0, top * 1.01)
        figure.suptitle(title, fontsize=12, fontweight="bold")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncol=min(len(labels), 5), frameon=False)

    save_figure(path, (WIDTH, 1.1 + panels * (3.4 if slanted else 3.1)), draw)


def confusion(path: Path, title: str, classes: Sequence[str], percent: np.ndarray) -> None:
    """A confusion matrix (K, K), rows actual, in percent of a row; a row of NaN (no images) stays white."""
    count = len(classes)
    numbered = count <= MOST_NUMBERED
    size = max(6.4, min(WIDTH, 0.58 * count)) if numbered else WIDTH
    slanted = max(map(len, classes)) > 4

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if count <= MOST_NAMED:
            size_of_names = 10 if numbered else 6
            axes.set_xticks(range(count), classes, rotation=90 if slanted else 0, fontsize=size_of_names)
            axes.set_yticks(range(count), classes, fontsize=size_of_names)
        if numbered:
            _number_cells(axes, percent, "{:.0f}", 9)
        unit = "" if count <= MOST_NAMED else " (number of the class)"
        axes.set_xlabel(f"predicted{unit}")
        axes.set_ylabel(f"actual{unit}")
        axes.set_title(title, fontsize=11, fontweight="bold", pad=10)
        bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.02)
        bar.set_label("percent of the actual class")
        bar.outline.set_visible(False)

    save_figure(path, (size + 0.6, size), draw)


def matrices(path: Path, title: str, domains: Sequence[str], methods: Mapping[str, np.ndarray]) -> None:
    """Sources by targets, a matrix (D, D) in percent a method, side by side; NaN, as on the diagonal, stays white.

    `domains` are the D headings of lines and columns, the last of them for means.
    """
    count = len(domains)
    across = min(len(methods), 3)
    down = -(-len(methods) // across)

    def draw(figure: "Figure") -> None:
        places = figure.subplots(down, across, squeeze=False).ravel()
        for axes in places[len(methods) :]:
            axes.set_visible(False)
        for axes, (name, percent) in zip(places, methods.items(), strict=False):
            axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, interpolation="nearest")
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
            axes.set_xticks(range(count), domains, rotation=90, fontsize=8)
            axes.set_yticks(range(count), domains, fontsize=8)
            axes.axhline(count - 1.5, color="white", linewidth=3)
            axes.axvline(count - 1.5, color="white", linewidth=3)
            _number_cells(axes, percent, "{:.1f}", 7)
            axes.set_title(name, fontsize=9)
        figure.supxlabel("target", fontsize=10)
        figure.supylabel("source", fontsize=10)
        figure.suptitle(title, fontsize=11, fontweight="bold")

    save_figure(path, (4.2 * across + 0.4, 4.2 * down + 0.8), draw)


def differences(path: Path, title: str, groups: Mapping[str, Mapping[str, Difference]]) -> None:
    """Paired differences in points, a line a method under its group's name: mean, interval, and each seed as a dot.

    `groups` are tasks, each with its methods; colour and mark of the mean say the verdict.
    """
    several = len(groups) > 1
    lines = sum(len(methods) + several for methods in groups.values())
    seeds = max(found.seeds for methods in groups.values() for found in methods.values())

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.axvline(0, color="#222222", linewidth=1.2, zorder=1)
        names, place, seen = [], 0, {}
        for group, methods in groups.items():
            if several:
                names.append((place, group, True))
                place += 1
            for method, found in methods.items():
                seen[found.verdict] = _draw_difference(axes, place, found)
                names.append((place, method, False))
                place += 1
        axes.set_yticks([at for at, _name, _heading in names], [name for _at, name, _heading in names])
        for label, (_at, _name, heading) in zip(axes.get_yticklabels(), names, strict=True):
            label.set_fontweight("bold" if heading else "normal")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(lines - 0.4, -0.6)
        axes.set_xlabel("points")
        axes.grid(axis="x")
        interval = f"mean, {100 * CONFIDENCE:.0f} % interval and each of {seeds} seeds (dots)"
        axes.set_title(f"{title}\n{interval if seeds > 1 else 'a single seed'}", fontsize=11, fontweight="bold", pad=10)
        found = [verdict for verdict in VERDICTS if verdict in seen]
        figure.legend([seen[verdict] for verdict in found], found, loc="outside lower center", ncol=3, frameon=False)

    save_figure(path, (WIDTH, 1.9 + 0.34 * lines), draw)


def _draw_difference(axes: "Axes", place: int, difference: Difference) -> "Artist":
    """One line of differences; returns the mark of its mean, for the legend."""
    colour, mark = VERDICTS[difference.verdict]
    values = list(difference.by_seed.values())
    if difference.half_width is not None:
        axes.scatter(values, [place + 0.25] * len(values), s=18, color=colour, alpha=0.5, linewidths=0, zorder=2)
        axes.errorbar(
            difference.mean, place, xerr=difference.half_width, color=colour, linewidth=1.8, capsize=4, zorder=3
        )
    return axes.scatter(difference.mean, place, s=46, color=colour, marker=mark, edgecolors="white", zorder=4)


def _number_cells(axes: "Axes", percent: np.ndarray, form: str, size: float) -> None:
    """Write each number of a matrix into its cell."""
    for row, column in np.argwhere(np.isfinite(percent)):
        value = percent[row, column]
        colour = "white" if value > 55 else "#AAAAAA" if value < 0.5 else "black"
        axes.text(column, row, form.format(value), ha="center", va="center", fontsize=size, color=colour)


def _draw_bars(
    axes: "Axes",
    columns: Sequence[str],
    methods: Mapping[str, tuple[np.ndarray, np.ndarray]],
    chosen: range,
    slanted: bool,
) -> None:
    """The groups of the chosen columns."""
    width = 0.84 / len(methods)
    positions = np.arange(len(chosen))
    part = slice(chosen.start, chosen.stop)
    for number, (name, (means, spreads)) in enumerate(methods.items()):
        axes.bar(
            positions + (number - (len(methods) - 1) / 2) * width,
            means[part],
            width * 0.94,
            yerr=None if np.isnan(spreads).all() else spreads[part],
            color=COLOURS[number % len(COLOURS)],
            hatch=HATCHES[number // len(COLOURS) % len(HATCHES)],
            error_kw={"ecolor": "#222222", "elinewidth": 1, "capsize": min(2.5, 18 * width)},
            label=name,
        )
    labels = [columns[index] for index in chosen]
    axes.set_xticks(positions, labels, rotation=35 if slanted else 0, ha="right" if slanted else "center")
    axes.tick_params(axis="x", length=0)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("accuracy (%)")
    axes.grid(axis="y")


def save_figure(path: Path, inches: tuple[float, float], draw: Callable[["Figure"], None]) -> None:
    """Draw a figure of that size and write it as PNG, free of the reader's own matplotlib settings and of any date."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE]):
        figure = Figure(figsize=inches, dpi=DPI, layout="constrained")
        draw(figure)
        with whole_file(path) as partial:
            figure.savefig(partial, format="png", metadata={"Software": None}, bbox_inches="tight", pad_inches=0.12)
