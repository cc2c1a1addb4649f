"""The pictures of `explain`: attention in pairs of images, the noise over the epochs, and the scales that match."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from dacsm.methods.cdtrans.attention import AttentionMaps
from dacsm.report.plots import WIDTH, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 6  # heat maps side by side
MOST_MAPS = 24  # classes with a heat map; of more, some that are spread evenly
MOST_NUMBERED = 4  # resolutions of a heat map with a number in each cell
FULL = 0.99  # quantile of the differences that has the full colour, so that one patch does not pale all others
FADED = 0.45  # how much of the target's image is left under a difference


@dataclass(frozen=True)
class NoiseLog:
    """Over E epochs: the noise's strength in L layers, (E, L), and the task entropy that it takes away, (E,) nats."""

    strengths: np.ndarray
    gains: np.ndarray


def draw_attention(
    path: Path,
    title: str,
    names: Sequence[str],
    sources: Tensor,
    targets: Tensor,
    maps: AttentionMaps,
    draws: int,
) -> None:
    """A line for each of P pairs: both images, then for each layer the map without noise, with it, and the difference.

    `names` are the pairs' classes; images are uint8 (P, C, H, W); `draws` is how many of the noise were averaged.
    """
    kinds = ["plain"] if maps.noisy is None else ["plain", "noisy", "more"]
    heads = {"plain": "no noise", "noisy": "noise", "more": "difference"}
    plain = maps.plain[: len(names)].numpy()
    noisy = plain if maps.noisy is None else maps.noisy[: len(names)].numpy()
    most = max(plain.max(), noisy.max())
    change = max(np.quantile(np.abs(noisy - plain), FULL), 1e-9)

    def draw(figure: "Figure") -> None:
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
        columns = 2 + len(kinds) * len(maps.layers)
        grid = figure.subplots(len(names), columns, squeeze=False)
        shown = {}
        for row, name in enumerate(names):
            for axes, image in zip(grid[row], (sources[row], targets[row]), strict=False):
                _show_image(axes, image)
            grid[row][0].set_ylabel(name, rotation=0, ha="right", va="center")
            for number in range(len(maps.layers)):
                values = {"plain": plain[row, number], "noisy": noisy[row, number]}
                values["more"] = values["noisy"] - values["plain"]
                for place, kind in enumerate(kinds):
                    axes = grid[row][2 + number * len(kinds) + place]
                    shown[kind] = _show_map(axes, targets[row], values[kind], kind, change if kind == "more" else most)
                    if kind != "more":
                        axes.set_xlabel(f"{100 - values[kind].sum():.0f}", fontsize=7, labelpad=1)
        for axes, head in zip(grid[0], ("source", "target"), strict=False):
            axes.set_title(head, fontsize=9)
        for number, layer in enumerate(maps.layers):
            for place, kind in enumerate(kinds):
                grid[0][2 + number * len(kinds) + place].set_title(f"layer {layer}\n{heads[kind]}", fontsize=9)
        mean = f"; noise: mean of {draws} draws" if maps.noisy is not None else ""
        about = (
            f"where the source's class token looks in the target, mean of the heads{mean}\n"
            "below: % of the attention that the target's class token gets"
        )
        figure.suptitle(f"{title}\n{about}", fontsize=9)
        bars = {"plain": "% of the attention, a patch"} | ({"more": "points more with noise"} if len(kinds) > 1 else {})
        for kind, label in bars.items():
            bar = figure.colorbar(shown[kind], ax=grid, location="bottom", shrink=0.5, pad=0.01, aspect=40,
                                  extend="both" if kind == "more" else "neither")  # fmt: skip
            bar.set_label(label, fontsize=9)
            bar.outline.set_visible(False)

    save_figure(path, (0.9 + 1.0 * (2 + len(kinds) * len(maps.layers)), 1.9 + 1.03 * len(names)), draw)


def _show_image(axes: "Axes", image: Tensor) -> None:
    pixels = image.permute(1, 2, 0).numpy()
    axes.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray", vmin=0, vmax=255)
    _bare(axes)


def _show_map(axes: "Axes", target: Tensor, values: np.ndarray, kind: str, most: float) -> object:
    """A map over the target's image, which shows through in grey."""
    height, width = target.shape[1:]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    limits = {"cmap": "RdBu_r", "vmin": -most} if kind == "more" else {"cmap": "magma", "vmin": 0}
    drawn = axes.imshow(values, extent=extent, vmax=most, interpolation="nearest", **limits)
    grey = target.float().mean(dim=0).numpy() / 255  # (H, W)
    ink = np.zeros((height, width, 4))
    ink[..., :3] = 0 if kind == "more" else 1
    ink[..., 3] = FADED * grey
    axes.imshow(ink, extent=extent, interpolation="nearest")
    _bare(axes)
    return drawn


def _bare(axes: "Axes") -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def draw_noise(path: Path, title: str, log: NoiseLog, prior: float | None) -> None:
    """The strength of each layer's noise over the epochs, and how much task entropy the noise takes away."""
    from matplotlib import colormaps

    epochs = np.arange(1, len(log.gains) + 1)
    layers = log.strengths.shape[1]

    def draw(figure: "Figure") -> None:
        *left, right = figure.subplots(1, 2 if layers else 1, squeeze=False)[0]
        for axes in left:
            for layer in range(layers):
                colour = colormaps["viridis"](0.9 * layer / max(1, layers - 1))
                axes.plot(epochs, log.strengths[:, layer], "o-", color=colour, markersize=4, label=f"layer {layer + 1}")
            if prior is not None:
                axes.axhline(prior, color="#444444", linestyle=":", label="prior")
            axes.set_ylabel("deviations of the keys")
            axes.set_title("strength of the noise, by layer", fontsize=11)
            figure.legend(
                *axes.get_legend_handles_labels(), loc="outside lower center", ncol=7, fontsize=9, frameon=False
            )
        right.bar(epochs, log.gains, color=np.where(log.gains > 0, "#0072B2", "#D55E00"))
        right.axhline(0, color="#444444", linewidth=1)
        right.set_ylabel("gain (nats)")
        right.set_title("task entropy without noise, less that with it\n(above 0, the noise helps)", fontsize=11)
        for axes in (*left, right):
            axes.set_xticks(epochs[:: -(-len(epochs) // 12)])
            axes.set_xlabel("epoch")
            axes.grid(axis="y")
        figure.suptitle(title, fontsize=12, fontweight="bold")

    save_figure(path, (WIDTH if layers else WIDTH / 2, 4.6), draw)


def draw_scale_pairs(
    path: Path, title: str, classes: Sequence[str], sides: Sequence[int], choice: np.ndarray, counts: np.ndarray
) -> None:
    """A heat map a class: how far each pair of resolutions is chosen, of (K, S, S); first the mean of all pairs.

    Colours begin at an even choice: blue is chosen more often, red less.
    """
    from matplotlib.colors import TwoSlopeNorm

    having = counts.nonzero()[0]
    shown = having[np.linspace(0, len(having) - 1, min(len(having), MOST_MAPS)).round().astype(int)]
    every = np.average(choice[having], axis=0, weights=counts[having])
    panels = [("all classes", int(counts.sum()), every), *((classes[k], int(counts[k]), choice[k]) for k in shown)]
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    even = 100 / len(sides) ** 2
    colours = TwoSlopeNorm(even, 0, max(2 * even, *(100 * values.max() for _, _, values in panels)))
    names = [f"{side}×{side}" for side in sides]

    def draw(figure: "Figure") -> None:
        places = figure.subplots(down, across, squeeze=False).ravel()
        for axes in places[len(panels) :]:
            axes.set_visible(False)
        for axes, (name, pairs, values) in zip(places, panels, strict=False):
            image = axes.imshow(100 * values, cmap="RdBu", norm=colours, interpolation="nearest")
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0, labelsize=8)
            axes.set_xticks(range(len(sides)), names)
            axes.set_yticks(range(len(sides)), names)
            axes.set_title(f"{name} ({pairs} {'pair' if pairs == 1 else 'pairs'})", fontsize=9)
            if len(sides) <= MOST_NUMBERED:
                for (row, column), value in np.ndenumerate(100 * values):
                    colour = "white" if abs(colours(value) - 0.5) > 0.3 else "black"
                    axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)
        figure.supxlabel("resolution of the target's patches (cells)", fontsize=10)
        figure.supylabel("resolution of the source's", fontsize=10)
        figure.suptitle(
            f"{title}\nwhich resolutions match: % of the soft choice (an even one would be {even:.0f})", fontsize=11
        )
        bar = figure.colorbar(image, ax=places.tolist(), fraction=0.02, pad=0.02)
        bar.outline.set_visible(False)

    save_figure(path, (0.9 + 1.9 * across, 1.0 + 1.95 * down), draw)
