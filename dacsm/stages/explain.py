"""Stage beside the table: pictures of what an adapted model looks at, how strong its noise was, and what it matches.

Everything is seen with the model of the last epoch, of which the noise on disk is too. As in `adapt`, no label of the
target is read: the class of a pair is its source label, with which the target's pseudo label agrees.
"""

import csv
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from dacsm.adaptation.pairing import Pairs
from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.data.domains import Domains, open_domains
from dacsm.data.transforms import centre_view, normalise
from dacsm.evaluation.evaluated_model import evaluated_model
from dacsm.methods.cdtrans.attention import attention_maps
from dacsm.methods.cdtrans.matches import Matches
from dacsm.methods.cdtrans.parts.cross_scale import pyramid_sides, scale_choice
from dacsm.methods.cdtrans.parts.noise import BeneficialNoise
from dacsm.methods.cdtrans.refresh import refresh
from dacsm.methods.cdtrans.run import Run, start_run
from dacsm.models.classifier import load_checkpoint
from dacsm.models.precision import set_threads
from dacsm.models.three_stream import stream_tokens
from dacsm.report.explain_plots import NoiseLog, draw_attention, draw_noise, draw_scale_pairs
from dacsm.report.shapes import arrow
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_csv
from dacsm.runtime.progress import TrainingProgress

FORMAT_VERSION = 1  # raise it when a module that is no code of this stage changes what it writes
DRAWS = 64  # of the noise, averaged
MOST_SHOWN = 12  # classes of which a pair is shown; of more, some that are spread evenly
MOST_PAIRS = 64  # of a class, over which the choice of scales is averaged


def explain(
    params: Params, dataset: DatasetSpec, method: str, task: str, seed: int, paths: Paths, compute: Compute
) -> None:
    """Write attention.png, scale_pairs.png and scale_pairs.csv, and noise.png for a method whose training logged noise.

    Raises:
        InputError: where a file of the run is missing or not of it, or the model finds no pair.
    """
    recipe, settings = params.adaptation(dataset.name, method), params.method(method)
    model = evaluated_model(params, dataset, method, task, seed, paths)
    set_threads(recipe.threads)
    classifier = load_checkpoint(model.folder / "last.safetensors", compute.device)
    run = start_run(recipe, settings, seed, compute, classifier)
    noise = run.noise if settings.style.weight or settings.noise.weight else None
    if noise is not None:
        _load_noise(model.folder / "noise.safetensors", noise, model.made_by)
    log = _read_noise_log(model.folder / "log.csv", model.made_by)
    folders = [paths.shards(dataset.name, domain) for domain in dataset.split_task(task)]
    fraction = params.recipe("pretrain", dataset.name).held_out
    domains = open_domains(*folders, fraction, classifier.description.model.resize)
    pairs = _next_pairs(run, domains, f"explain {dataset.name} {method} {task} seed {seed}")

    folder = paths.explained(dataset.name, method, task, seed)
    for stale in [*folder.glob("*.png"), *folder.glob("*.csv")]:
        stale.unlink()
    title = f"{dataset.title}, {arrow(task)}: {method}, seed {seed}"
    shown = shown_pairs(pairs, len(dataset.classes))
    source, target = _views(run, domains, pairs, shown)
    whole = np.resize(np.arange(len(shown)), max(2, len(shown)))  # a style's spread is over a batch, which one is not
    maps = attention_maps(classifier, *_normalised(run, source[whole], target[whole]), noise, DRAWS)
    names = [dataset.classes[label] for label in pairs.source_labels[shown]]
    draw_attention(folder / "attention.png", f"{title}, last epoch", names, source, target, maps, DRAWS)

    choice, counts = _scale_choice(run, domains, pairs, len(dataset.classes))
    sides = pyramid_sides(classifier.backbone.patch_embed.num_patches)
    _write_choice(folder / "scale_pairs.csv", dataset.classes, sides, choice, counts)
    trained = "" if settings.pyramid.weight else " (not trained for: its pyramid has weight 0)"
    draw_scale_pairs(
        folder / "scale_pairs.png", f"{title}, last epoch{trained}", dataset.classes, sides, choice, counts
    )
    if log is not None:
        prior = settings.noise.weight * settings.noise.prior if settings.noise.weight else None
        draw_noise(folder / "noise.png", title, log, prior)


def _load_noise(path: Path, noise: BeneficialNoise, made_by: str) -> None:
    """Bring the noise to where training left it.

    Raises:
        InputError: where the file is missing, damaged, or of another method or backbone.
    """
    if not path.is_file():
        raise InputError(f"{path} was not found; make it with `{made_by}`.")
    try:
        noise.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:  # torch names what does not fit on several lines
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is not the noise of this method ({reason}); make it with `{made_by}`.") from error
    noise.progress = 1.0


def _next_pairs(run: Run, domains: Domains, name: str) -> Pairs:
    """The pairs that adaptation would go on with."""
    matches, epochs = Matches(), run.recipe.epochs
    refresh(run, domains, epochs + 1, matches, TrainingProgress(name, epochs, None, None))
    return matches.pairs


def of_class(pairs: Pairs, label: int) -> np.ndarray:
    """The numbers of a class's pairs, in their order; one that was found from both sides counts once."""
    numbers = (pairs.source_labels == label).nonzero()[0]
    both = np.stack([pairs.source[numbers], pairs.target[numbers]])
    return numbers[np.sort(np.unique(both, axis=1, return_index=True)[1])]


def shown_pairs(pairs: Pairs, classes: int) -> np.ndarray:
    """The number of a pair for each class that has some: the middle one in the order of images, which is random."""
    having = [numbers for label in range(classes) if len(numbers := of_class(pairs, label))]
    return np.array([numbers[len(numbers) // 2] for numbers in evenly(having, MOST_SHOWN)])


def evenly(items: list | np.ndarray, most: int) -> list:
    """At most so many of the items, spread evenly, the first and the last among them."""
    places = np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(int)
    return [items[place] for place in places]


def _views(run: Run, domains: Domains, pairs: Pairs, numbers: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The centre views of both images of some pairs, uint8 (P, C, H, W) each."""
    model = run.classifier.description.model
    source = [centre_view(domains.source[int(number)], model) for number in pairs.source[numbers]]
    target = [centre_view(domains.target[int(number)], model) for number in pairs.target[numbers]]
    return torch.stack(source), torch.stack(target)


def _normalised(run: Run, *views: torch.Tensor) -> list[torch.Tensor]:
    return [normalise(pixels.to(run.compute.device), run.classifier.description.model) for pixels in views]


@torch.inference_mode()
def _scale_choice(run: Run, domains: Domains, pairs: Pairs, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean soft choice of each class, source by target resolution, (K, S, S), and of how many pairs, (K,).

    NaN for a class without pairs. As in training, patches are those that the last block reads.
    """
    count = len(pyramid_sides(run.classifier.backbone.patch_embed.num_patches))
    rows, counts = [], []
    for label in range(classes):
        numbers = np.array(evenly(of_class(pairs, label), MOST_PAIRS), dtype=int)
        counts.append(len(numbers))
        if not len(numbers):
            rows.append(np.full((count, count), np.nan))
            continue
        images = _normalised(run, *_views(run, domains, pairs, numbers))
        *_, before, _last = stream_tokens(run.classifier, *images, patches=False)
        source, target, _mix = before[:, 1:].chunk(3)
        _distance, choice = scale_choice(source, target, run.method.pyramid.temperature)
        rows.append(choice.mean(dim=0).view(count, count).cpu().numpy())
    return np.stack(rows), np.array(counts)


def _write_choice(
    path: Path, classes: tuple[str, ...], sides: list[int], choice: np.ndarray, counts: np.ndarray
) -> None:
    """A row for each class and pair of resolutions, as cells a side."""
    rows = [
        (classes[label], counts[label], source, target, f"{choice[label, a, b]:.4f}")
        for label in counts.nonzero()[0]
        for a, source in enumerate(sides)
        for b, target in enumerate(sides)
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
        if "noise_gain" not in rows[0]:
            return None
        layers = [name for name in rows[0] if name.removeprefix("noise_").isdecimal()]
        strengths = np.array([[float(row[name]) for name in layers] for row in rows])
        return NoiseLog(strengths, np.array([float(row["noise_gain"]) for row in rows]))
    except FileNotFoundError as error:
        raise InputError(f"{path} was not found; make it with `{made_by}`.") from error
    except (OSError, ValueError, IndexError, TypeError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}); make it again with `{made_by}`.") from error
