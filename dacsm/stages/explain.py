"""Optional stage: pictures of what an adapted model looks at, how strong its noise was, and what it matches.

All of them show the model of the last epoch, with the noise of the same epoch. As in `adapt`, no label of the target is
read: the class of a pair is its source label, with which the target's pseudo label agrees.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from dacsm.adaptation.pairing import Pairs
from dacsm.config.kinds.cdtrans import Settings
from dacsm.config.project import Project
from dacsm.data.domains import open_domains
from dacsm.data.transforms import normalise
from dacsm.evaluation.evaluated_model import evaluated_model
from dacsm.evaluation.predictions import CentreViews
from dacsm.methods.cdtrans import Kind as CDTrans
from dacsm.methods.cdtrans.attention import attention_maps
from dacsm.methods.cdtrans.resolutions import pyramid_sides, scale_choice
from dacsm.models.arithmetic import choose_arithmetic
from dacsm.models.classifier import load_checkpoint, load_method_tensors
from dacsm.models.three_stream import stream_tokens
from dacsm.report.explain_plots import draw_attention, draw_noise, draw_scale_pairs, evenly
from dacsm.report.tables import arrow
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import reading, write_csv
from dacsm.runtime.progress import TrainingProgress

DRAWS = 64  # of the noise, averaged
MOST_SHOWN = 12  # classes of which a pair is shown; of more, some that are spread evenly
MOST_PAIRS = 64  # of a class, over which the choice of scales is averaged


def explain(project: Project, method: str, task: str, seed: int, compute: Compute) -> None:
    """Write attention.png, scale_pairs.png and scale_pairs.csv, and noise.png for a method whose training logged noise.

    Raises InputError for a method of another kind than cdtrans, where a file of the run is missing or not of it, or
    where the model finds no pair.
    """
    params, dataset, paths = project.params, project.dataset, project.paths
    recipe, settings = params.adaptation(dataset.name, method), params.method(method)
    if settings.kind != "cdtrans" or not isinstance(settings, Settings):
        raise InputError(
            f"{method} is of the kind {settings.kind}, and explain can only show methods of the kind cdtrans; name one."
        )
    model = evaluated_model(project, method, task, seed)
    choose_arithmetic(recipe.arithmetic, recipe.threads)
    checkpoint = model.folder / "last.safetensors"
    classifier = load_checkpoint(checkpoint, compute.device)
    folders = [paths.shards(dataset.name, domain) for domain in dataset.split_task(task)]
    fraction = params.recipe("pretrain", dataset.name).held_out
    domains = open_domains(folders[0], folders[1], fraction, classifier.description.model.resize)
    run = CDTrans(classifier, recipe, settings, domains, seed, compute)
    _load_noise(run, checkpoint, model.made_by)
    noise = run.noise if settings.style.weight or settings.noise.weight else None
    log = _read_log(model.folder / "log.csv", model.made_by)
    epochs, name = run.recipe.epochs, f"explain {dataset.name} {method} {task} seed {seed}"
    run.refresh(epochs + 1, run.classifier, TrainingProgress(name, epochs))
    pairs = run.matches.pairs  # with which adaptation would go on

    folder = paths.explained(dataset.name, method, task, seed)
    for stale in [*folder.glob("*.png"), *folder.glob("*.csv")]:
        stale.unlink()
    title = f"{dataset.title}, {arrow(task)}: {method}, seed {seed}"
    shown = shown_pairs(pairs, len(dataset.classes))
    source, target = _views(run, pairs, shown)
    whole = np.resize(np.arange(len(shown)), max(2, len(shown)))  # a style's spread is over a batch, which one is not
    maps = attention_maps(classifier, *_normalised(run, source[whole], target[whole]), noise, DRAWS)
    names = [dataset.classes[label] for label in pairs.source_labels[shown]]
    draw_attention(folder / "attention.png", f"{title}, last epoch", names, source, target, maps, DRAWS)

    choice, counts = _scale_choice(run, pairs, len(dataset.classes))
    sides = pyramid_sides(classifier.backbone.patch_embed.num_patches)
    _write_choice(folder / "scale_pairs.csv", dataset.classes, sides, choice, counts)
    trained = "" if settings.pyramid.weight else " (not trained for: its pyramid has weight 0)"
    title_of_scales = f"{title}, last epoch{trained}"
    draw_scale_pairs(folder / "scale_pairs.png", title_of_scales, dataset.classes, sides, choice, counts)
    if "noise_gain" in log:
        prior = settings.noise.weight * settings.noise.prior if settings.noise.weight else None
        draw_noise(folder / "noise.png", title, log, prior)


def _load_noise(run: CDTrans, checkpoint: Path, made_by: str) -> None:
    """Bring the noise to where training left it; raises InputError where the checkpoint has not that of this method."""
    if run.noise is None:
        return
    try:
        run.noise.load_state_dict(load_method_tensors(checkpoint))
    except RuntimeError as error:  # torch names what does not fit on several lines
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{checkpoint} has not the noise of this method ({reason}); make it with `{made_by}`."
        ) from error
    run.noise.progress = 1.0


def of_class(pairs: Pairs, label: int) -> np.ndarray:
    """The indices of a class's pairs, in their order; one that was found from both sides counts once."""
    indices = (pairs.source_labels == label).nonzero()[0]
    both = np.stack([pairs.source[indices], pairs.target[indices]])
    return indices[np.sort(np.unique(both, axis=1, return_index=True)[1])]


def shown_pairs(pairs: Pairs, classes: int) -> np.ndarray:
    """The index of a pair for each class that has some: the middle one in the order of images, which is random."""
    having = [indices for label in range(classes) if len(indices := of_class(pairs, label))]
    return np.array([indices[len(indices) // 2] for indices in evenly(having, MOST_SHOWN)])


def _views(run: CDTrans, pairs: Pairs, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """The centre views of both images of some pairs, uint8 (P, C, H, W) each."""
    model, domains = run.classifier.description.model, run.domains
    source = CentreViews(domains.source, model, pairs.source[indices])  # type: ignore[arg-type]  # CDTrans has a source
    target = CentreViews(domains.target, model, pairs.target[indices])
    return torch.stack(list(source)), torch.stack(list(target))


def _normalised(run: CDTrans, *views: torch.Tensor) -> list[torch.Tensor]:
    return [normalise(pixels.to(run.compute.device), run.classifier.description.model) for pixels in views]


@torch.inference_mode()
def _scale_choice(run: CDTrans, pairs: Pairs, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean soft choice of each class, source by target resolution, (K, S, S), and of how many pairs, (K,).

    NaN for a class without pairs. As in training, patches are those that the last block reads.
    """
    count = len(pyramid_sides(run.classifier.backbone.patch_embed.num_patches))
    choices, counts = np.full((classes, count, count), np.nan), np.zeros(classes, dtype=int)
    for label in range(classes):
        indices = np.array(evenly(of_class(pairs, label), MOST_PAIRS), dtype=int)
        counts[label] = len(indices)
        if not len(indices):
            continue
        images = _normalised(run, *_views(run, pairs, indices))
        *_, before, _last = stream_tokens(run.classifier, *images, patches=False)  # type: ignore[misc]  # two
        source, target, _mix = before[:, 1:].chunk(3)
        _distance, choice = scale_choice(source, target, run.settings.pyramid.temperature)
        choices[label] = choice.mean(dim=0).view(count, count).cpu().numpy()
    return choices, counts


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


def _read_log(path: Path, made_by: str) -> pd.DataFrame:
    """What log.csv of an adaptation says, a row an epoch; raises InputError where it is missing or cannot be read."""
    with reading(path, made_by):
        log = pd.read_csv(path, dtype=float)
        if log.empty:
            raise ValueError("it has no epoch")
        return log
