"""Room beside the table: pictures of what an adapted model looks at, how strong its noise was, and what it matches.

Everything is seen with the checkpoint of the selected epoch. As in `adapt`, the target's labels are never read: the
class of a pair is its source label, with which the target's pseudo label agrees.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dacsm.attention import attention_maps
from dacsm.catalog import DatasetSpec
from dacsm.compute import Compute, set_threads
from dacsm.epochs import read_epochs
from dacsm.errors import InputError
from dacsm.evaluated_model import SELECTED, evaluated_model
from dacsm.explain_plots import NoiseLog, ShownPair, draw_attention, draw_noise, draw_scale_pairs
from dacsm.files import write_csv
from dacsm.inference import predict
from dacsm.layout import Layout
from dacsm.models.classifier import Classifier, load_checkpoint
from dacsm.models.cross_scale import pyramid_sides, scale_choice
from dacsm.models.three_stream import stream_tokens
from dacsm.pairing import Pairs, unit
from dacsm.params import Method, Model, Params
from dacsm.reading import ShardedImages
from dacsm.saved_noise import NAME, load_noise
from dacsm.seeding import torch_generator
from dacsm.shapes import arrow
from dacsm.training.domains import Domains, open_domains
from dacsm.training.matches import Matches
from dacsm.training.progress import TrainingProgress
from dacsm.training.refresh import refresh
from dacsm.training.run import Run, start_run
from dacsm.views import centre_view, normalise

FORMAT_VERSION = 1  # raise it when a module that is no code of this room (files, layout, …) changes what it writes
DRAWS = 64  # of the noise, averaged
MOST_SHOWN = 12  # classes of which a pair is shown; of more, some that are spread evenly
MOST_PAIRS = 64  # of a class, over which the choice of scales is averaged
BATCH = 64  # pairs at a time


@dataclass(frozen=True)
class Found:
    """The pairs (P,) that the model finds, and how close source and target of each are, (P,) cosines."""

    pairs: Pairs
    closeness: np.ndarray

    def of_class(self, label: int) -> np.ndarray:
        """The numbers of a class's pairs, the closest first; one that is found from both sides counts once."""
        numbers = (self.pairs.source_labels == label).nonzero()[0]
        both = np.stack([self.pairs.source[numbers], self.pairs.target[numbers]])
        numbers = numbers[np.sort(np.unique(both, axis=1, return_index=True)[1])]
        return numbers[np.argsort(-self.closeness[numbers], kind="stable")]


def explain(
    params: Params, dataset: DatasetSpec, method: str, task: str, seed: int, layout: Layout, compute: Compute
) -> None:
    """Write attention.png, scale_pairs.png and scale_pairs.csv, and noise.png for a method whose training logged noise.

    Raises:
        InputError: where a file of the run is missing or not of it, or the model finds no pair.
    """
    recipe, settings = params.adaptation(dataset.name, method), params.method(method)
    run = evaluated_model(params, dataset, method, task, seed, layout)
    set_threads(recipe.threads)
    classifier = load_checkpoint(run.folder / SELECTED, compute.device)
    folders = [layout.shards(dataset.name, domain) for domain in dataset.split_task(task)]
    share = params.recipe("pretrain", dataset.name).held_out
    domains = open_domains(*folders, share, classifier.description.model.resize)
    size = {"images": len(domains.target), "classes": len(dataset.classes)}
    selected = read_epochs(run.folder / "epochs.npz", run.made_by, **size).selected
    found = _find_pairs(start_run(recipe, settings, seed, compute, classifier), domains, selected)
    generator = torch_generator(compute.device, seed, "explained noise")
    noise = load_noise(run.folder / NAME, classifier, settings, generator, run.made_by)
    if noise is not None:
        noise.progress = selected / recipe.epochs

    folder = layout.explained(dataset.name, method, task, seed)
    for stale in [*folder.glob("*.png"), *folder.glob("*.csv")]:
        stale.unlink()
    title = f"{dataset.title}, {arrow(task)}: {method}, seed {seed}, epoch {selected}"
    shown = _shown(found, len(dataset.classes))
    images = _views(domains, found.pairs, shown, classifier.description.model)
    few = np.resize(np.arange(len(shown)), max(2, len(shown)))  # a style's spread is over a batch, which one is not
    pixels = [normalise(part[few].to(compute.device), classifier.description.model) for part in images]
    maps = attention_maps(classifier, *pixels, noise, DRAWS)
    names = [dataset.classes[label] for label in found.pairs.source_labels[shown]]
    pairs = [ShownPair(*facts) for facts in zip(names, *images, found.closeness[shown].tolist(), strict=True)]
    draw_attention(folder / "attention.png", title, pairs, maps, DRAWS)

    choice, counts = _scale_choice(classifier, domains, found, len(dataset.classes), settings, compute)
    sides = pyramid_sides(classifier.backbone.patch_embed.num_patches)
    _write_choice(folder / "scale_pairs.csv", dataset.classes, sides, choice, counts)
    trained = "" if settings.pyramid.weight else " (not trained for: its pyramid has weight 0)"
    draw_scale_pairs(folder / "scale_pairs.png", title + trained, dataset.classes, sides, choice, counts)

    log = _read_noise_log(run.folder / "log.csv", run.made_by)
    if log is not None:
        prior = settings.noise.weight * settings.noise.prior
        draw_noise(folder / "noise.png", title, log, prior if settings.noise.weight else None, selected)


def _find_pairs(run: Run, domains: Domains, epoch: int) -> Found:
    """The pairs that adaptation would go on with after this epoch."""
    matches = Matches()
    refresh(run, domains, epoch + 1, matches, TrainingProgress("explain", run.recipe.epochs, None, None))
    pairs = matches.pairs

    def features(images: ShardedImages, numbers: np.ndarray) -> torch.Tensor:
        once, place = np.unique(numbers, return_inverse=True)
        return predict(run.evaluated, images, run.compute, run.recipe.precision, numbers=once).features[place]

    ends = unit(features(domains.source, pairs.source)), unit(features(domains.target, pairs.target))
    return Found(pairs, (ends[0] * ends[1]).sum(dim=1).numpy())


def _shown(found: Found, classes: int) -> np.ndarray:
    """The number of a pair for each class that has pairs: the one that is neither close nor far for its class."""
    having = [numbers for label in range(classes) if len(numbers := found.of_class(label))]
    spread = np.linspace(0, len(having) - 1, min(len(having), MOST_SHOWN)).round().astype(int)
    return np.array([having[place][len(having[place]) // 2] for place in spread])


def _views(domains: Domains, pairs: Pairs, numbers: np.ndarray, model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    """The centre views of both images of some pairs, uint8 (P, C, H, W) each."""
    source = [centre_view(domains.source[int(pairs.source[number])], model) for number in numbers]
    target = [centre_view(domains.target[int(pairs.target[number])], model) for number in numbers]
    return torch.stack(source), torch.stack(target)


@torch.inference_mode()
def _scale_choice(
    classifier: Classifier, domains: Domains, found: Found, classes: int, method: Method, compute: Compute
) -> tuple[np.ndarray, np.ndarray]:
    """The mean soft choice of each class, source by target resolution, (K, S, S), and of how many pairs, (K,).

    NaN for a class without pairs. As in training, patches are those that the last block reads.
    """
    model = classifier.description.model
    rows, counts = [], []
    for label in range(classes):
        numbers = found.of_class(label)
        numbers = numbers[np.linspace(0, len(numbers) - 1, min(len(numbers), MOST_PAIRS)).round().astype(int)]
        counts.append(len(numbers))
        chosen = []
        for start in range(0, len(numbers), BATCH):
            pixels = _views(domains, found.pairs, numbers[start : start + BATCH], model)
            images = (normalise(part.to(compute.device), model) for part in pixels)
            *_, before, _last = stream_tokens(classifier, *images, patches=False)
            source, target, _mix = before[:, 1:].chunk(3)
            chosen.append(scale_choice(source, target, method.pyramid.temperature)[1].cpu())
        side = len(pyramid_sides(classifier.backbone.patch_embed.num_patches))
        mean = torch.cat(chosen).mean(dim=0) if chosen else torch.full((side * side,), torch.nan)
        rows.append(mean.view(side, side).numpy())
    return np.stack(rows), np.array(counts)


def _write_choice(
    path: Path, classes: tuple[str, ...], sides: list[int], choice: np.ndarray, counts: np.ndarray
) -> None:
    """A row for each class and pair of resolutions, as cells a side."""
    rows = [
        (classes[label], counts[label], source, target, f"{choice[label, a, b]:.4f}")
        for label in range(len(classes))
        for a, source in enumerate(sides)
        for b, target in enumerate(sides)
        if counts[label]
    ]
    write_csv(path, ("class", "pairs", "source_cells", "target_cells", "choice"), rows)


def _read_noise_log(path: Path, made_by: str) -> NoiseLog | None:
    """What log.csv of an adaptation says of its noise, epoch by epoch; None where it says nothing.

    Raises:
        InputError: where it is missing or cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        layers = [f"noise_{layer}" for layer in range(1, len(rows[0])) if f"noise_{layer}" in rows[0]]
        if "noise_gain" not in rows[0]:
            return None
        strengths = np.array([[float(row[name]) for name in layers] for row in rows])
        return NoiseLog(strengths, np.array([float(row["noise_gain"]) for row in rows]))
    except FileNotFoundError as error:
        raise InputError(f"{path} was not found; make it with `{made_by}`.") from error
    except (OSError, ValueError, IndexError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}); make it again with `{made_by}`.") from error
