"""The pictures of `explain`: attention in pairs of images, the noise over the epochs, and the scales that match."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from dacsm.methods.cdtrans.attention import AttentionMaps
from dacsm.report.plots import WIDTH, heat_map, panels, save_figure

ACROSS = 6  # heat maps side by side
MOST_MAPS = 24  # classes with a heat map; of more, some that are spread evenly
MOST_NUMBERED = 4  # resolutions of a heat map with a number in each cell
FULL = 0.99  # quantile of the differences that has the full colour, so that one patch does not pale all others
FADED = 0.45  # how much of the target's image is left under a map


def evenly(items: list | np.ndarray, most: int) -> list:
    """At most so many of the items, spread evenly, the first and the last among them."""
    places = np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(int)
    return [items[place] for place in places]


def draw_attention(
    path: Path, title: str, names: Sequence[str], sources: Tensor, targets: Tensor, maps: AttentionMaps, draws: int
) -> None:
    """A line for each of P pairs: both images, then for each layer the map without noise, with it, and the difference.

    `names` are the pairs' classes; images are uint8 (P, C, H, W); `draws` is how many of the noise were averaged.
    """
    plain = maps.plain[: len(names)].numpy()  # (P, L, h, w)
    kinds = {"no noise": plain}
    if maps.noisy is not None:
        noisy = maps.noisy[: len(names)].numpy()
        kinds |= {"noise": noisy, "difference": noisy - plain}
    most = max(values.max() for values in kinds.values())
    change = max(np.quantile(np.abs(kinds.get("difference", 0)), FULL), 1e-9)
    columns = [(place, layer, kind) for place, layer in enumerate(maps.layers) for kind in kinds]

    def draw(figure: Figure) -> None:
        # For mypy: the engine is the constrained one, which has these
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)  # type: ignore[union-attr, call-arg]
        grid = figure.subplots(len(names), 2 + len(columns), squeeze=False)
        heads = ("source", "target", *(f"layer {layer}\n{kind}" for _, layer, kind in columns))
        for axes, head in zip(grid[0], heads, strict=True):
            axes.set_title(head, fontsize=9)
        shown = {}
        for row, (name, of_pair) in enumerate(zip(names, grid, strict=True)):
            for axes, image in zip(of_pair, (sources[row], targets[row]), strict=False):
                axes.imshow(image.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255)
            of_pair[0].set_ylabel(name, rotation=0, ha="right", va="center")
            for axes, (place, _layer, kind) in zip(of_pair[2:], columns, strict=True):
                values, signed = kinds[kind][row, place], kind == "difference"
                shown[signed] = _show_map(axes, targets[row], values, change if signed else most, signed)
                if not signed:
                    axes.set_xlabel(f"{100 - values.sum():.0f}", fontsize=7, labelpad=1)
        for axes in grid.ravel():
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        mean = f"; noise: mean of {draws} draws" if maps.noisy is not None else ""
        about = (
            f"where the source's class token looks in the target, mean of the heads{mean}\n"
            "below: % of the attention that the target's class token gets"
        )
        figure.suptitle(f"{title}\n{about}", fontsize=9)
        for signed, image in shown.items():
            ends, label = ("both", "points more with noise") if signed else ("neither", "% of the attention, a patch")
            bar = figure.colorbar(image, ax=grid, location="bottom", shrink=0.5, pad=0.01, aspect=40, extend=ends)
            bar.set_label(label, fontsize=9)
            bar.outline.set_visible(False)

    save_figure(path, (0.9 + 1.0 * (2 + len(columns)), 1.9 + 1.03 * len(names)), draw)


def _show_map(axes: Axes, target: Tensor, values: np.ndarray, most: float, signed: bool) -> AxesImage:
    """A map over the target's image, which shows through in grey."""
    height, width = target.shape[1:]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    limits: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -most} if signed else {"cmap": "magma", "vmin": 0}
    image = axes.imshow(values, extent=extent, vmax=most, interpolation="nearest", **limits)
    ink = np.full((height, width, 4), 0.0 if signed else 1.0)
    ink[..., 3] = FADED * target.float().mean(dim=0).numpy() / 255
    axes.imshow(ink, extent=extent, interpolation="nearest")
    return image


def draw_noise(path: Path, title: str, log: pd.DataFrame, prior: float | None) -> None:
    """The strength of each layer's noise over the epochs, and how much task entropy the noise takes away, in nats.

    `log` has a row an epoch, and columns `noise_1`, `noise_2`, … by layer, if any, and `noise_gain`.
    """
    epochs, gains = np.arange(1, len(log) + 1), log["noise_gain"]
    strengths = log.filter(regex=r"^noise_\d+$")
    layers = strengths.shape[1]

    def draw(figure: Figure) -> None:
        *left, right = panels(figure, 2 if layers else 1, 2 if layers else 1)
        for axes in left:
            for layer, strength in enumerate(strengths.to_numpy().T):
                colour = colormaps["viridis"](0.9 * layer / max(1, layers - 1))
                axes.plot(epochs, strength, "o-", color=colour, markersize=4, label=f"layer {layer + 1}")
            if prior is not None:
                axes.axhline(prior, color="#444444", linestyle=":", label="prior")
            axes.set_ylabel("deviations of the keys")
            axes.set_title("strength of the noise, by layer", fontsize=11)
            marks = axes.get_legend_handles_labels()
            figure.legend(*marks, loc="outside lower center", ncol=7, fontsize=9, frameon=False)
        right.bar(epochs, gains, color=np.where(gains > 0, "#0072B2", "#D55E00"))
        right.axhline(0, color="#444444", linewidth=1)
        right.set_ylabel("gain (nats)")
        right.set_title("task entropy without noise, less that with it\n(above 0, the noise helps)", fontsize=11)
        for axes in (*left, right):
            axes.set(xticks=epochs[:: -(-len(epochs) // 12)], xlabel="epoch")
            axes.grid(axis="y")
        figure.suptitle(title, fontsize=12, fontweight="bold")

    save_figure(path, (WIDTH if layers else WIDTH / 2, 4.6), draw)


def draw_scale_pairs(
    path: Path, title: str, classes: Sequence[str], sides: Sequence[int], choice: np.ndarray, counts: np.ndarray
) -> None:
    """A heat map a class: how far each pair of resolutions is chosen, of (K, S, S); first the mean of all pairs.

    Colours begin at an even choice: blue is chosen more often, red less.
    """
    having = counts.nonzero()[0]
    maps = [("all classes", counts.sum(), np.average(choice[having], axis=0, weights=counts[having]))]
    maps += [(classes[label], counts[label], choice[label]) for label in evenly(having, MOST_MAPS)]
    across, even = min(ACROSS, len(maps)), 100 / len(sides) ** 2
    colours = TwoSlopeNorm(even, 0, max(2 * even, *(100 * values.max() for _, _, values in maps)))
    names = [f"{side}×{side}" for side in sides]

    def draw(figure: Figure) -> None:
        for axes, (name, pairs, values) in zip(panels(figure, across, len(maps)), maps, strict=True):
            image = heat_map(axes, 100 * values, names, 8, cmap="RdBu", norm=colours)
            axes.set_title(f"{name} ({pairs} {'pair' if pairs == 1 else 'pairs'})", fontsize=9)
            for (row, column), value in np.ndenumerate(100 * values) if len(sides) <= MOST_NUMBERED else ():
                colour = "white" if abs(colours(value) - 0.5) > 0.3 else "black"
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
        figure.supxlabel("resolution of the target's patches (cells)", fontsize=10)
        figure.supylabel("resolution of the source's", fontsize=10)
        about = f"which resolutions match: % of the soft choice (an even one would be {even:.0f})"
        figure.suptitle(f"{title}\n{about}", fontsize=11)
        bar = figure.colorbar(image, ax=figure.axes, fraction=0.02, pad=0.02)
        bar.outline.set_visible(False)

    save_figure(path, (0.9 + 1.9 * across, 1.0 + 1.95 * -(-len(maps) // across)), draw)
