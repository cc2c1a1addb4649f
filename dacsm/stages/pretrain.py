"""Stage: source pretraining, in the way of CDTrans. Makes a source model from a source domain's shards and labels."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.config.params import Pretrain
from dacsm.config.project import Project
from dacsm.data.domains import held_out
from dacsm.data.seeding import seed_torch
from dacsm.data.shards import ShardedImages, read_labels, require_size
from dacsm.data.stream import stream
from dacsm.data.transforms import normalise, train_views
from dacsm.evaluation.predictions import accuracy
from dacsm.models.arithmetic import choose_arithmetic
from dacsm.models.backbone import load_weights
from dacsm.models.classifier import Classifier, Description, require_parts
from dacsm.models.compiling import choose_compiling
from dacsm.models.precision import autocast
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.processes import first as first_process
from dacsm.runtime.progress import TrainingProgress, training_progress
from dacsm.runtime.resume import Generators, Resume
from dacsm.runtime.together import in_parts
from dacsm.training.history import PretrainingHistory
from dacsm.training.loss_log import LossLog
from dacsm.training.optim import build_optimiser, descend, set_learning_rate


@dataclass(frozen=True)
class Pretraining:
    """The parts of a running pretraining."""

    recipe: Pretrain
    images: ShardedImages
    labels: Tensor  # (N,), on the device
    keep: np.ndarray  # (N,) bool: the images that are trained on
    seed: int
    compute: Compute
    classifier: Classifier
    optimiser: torch.optim.Optimizer


def pretrain(
    project: Project, source: str, seed: int, compute: Compute, resume: Resume | None = None
) -> dict[str, float]:
    """Train a classifier on the source domain; writes model.safetensors (the last epoch) and log.csv.

    Goes on from what `resume` has of a run that was killed. Returns what was measured, for the run's record. Raises
    InputError for shards or settings that cannot be used, or a loss that is not a number.
    """
    dataset, paths = project.dataset, project.paths
    recipe: Pretrain = project.params.recipe("pretrain", dataset.name)
    folder = paths.shards(dataset.name, source)
    images = ShardedImages(folder)
    require_size(images, recipe.model.resize)
    labels = torch.from_numpy(read_labels(folder))
    kept_out = held_out(len(images), recipe.held_out)
    unseen = torch.from_numpy(kept_out.nonzero()[0])
    if (left := int((~kept_out).sum())) < recipe.batch_size:
        raise InputError(
            f"pretrain.{dataset.name}.batch_size is {recipe.batch_size}, but {folder} has only {left} images to train "
            f"on, where held_out is {recipe.held_out}; lower either in params.yaml."
        )

    choose_arithmetic(recipe.arithmetic, recipe.threads)
    choose_compiling(recipe.compile)
    seed_torch(seed, "pretrain", dataset.name, source)
    classifier = Classifier(Description(recipe.model, dataset.classes))
    load_weights(classifier.backbone, recipe.model.weights, recipe.model.name)
    require_parts(classifier)
    classifier.to(compute.device)
    optimiser = build_optimiser(recipe.optimiser, [classifier])
    run = Pretraining(recipe, images, labels.to(compute.device), ~kept_out, seed, compute, classifier, optimiser)

    history = PretrainingHistory()
    resume = resume or Resume()
    generators = Generators(compute.device)
    with training_progress(f"pretrain {dataset.name} {source} seed {seed}", recipe.epochs) as progress, resume:
        first = resume.start(
            progress, classifier=classifier, optimiser=optimiser, generators=generators, history=history
        )
        for epoch in range(first, recipe.epochs + 1):
            losses = _train_epoch(run, epoch, progress, resume)
            percent = 100 * accuracy(classifier, images, labels, unseen, compute, recipe.precision)
            history.add(losses["loss"], percent)
            progress.end_epoch(epoch, losses, f"held-out source accuracy {percent:.1f}" if len(unseen) else "")
            resume.end_epoch(epoch)
    if first_process():
        history.write(paths.pretrained(dataset.name, source, seed), classifier.description, classifier.state_dict())
    return progress.measured


def _train_epoch(run: Pretraining, epoch: int, progress: TrainingProgress, resume: Resume) -> dict[str, float]:
    """One pass over the source; the mean loss."""
    recipe, classifier, device = run.recipe, run.classifier, run.compute.device
    classifier.train()
    log = LossLog(epoch)
    count = int(run.keep.sum())
    steps = -(-count // recipe.batch_size)
    done = resume.start_epoch(losses=log)
    progress.start_epoch(epoch, steps, done)
    views = train_views(recipe.model, recipe.augment, count, run.seed, epoch, "source")
    batches = stream(
        run.images,
        seed=run.seed,
        epoch=epoch,
        batch_size=recipe.batch_size,
        view=views,
        keep=run.keep,
        workers=run.compute.workers,
        start=done,
        pinned=device.type == "cuda",
    )
    for step, (indices, pixels) in enumerate(batches, done):
        if len(indices) == 1:
            continue  # one image has no batch statistics; CDTrans skips such a batch too
        set_learning_rate(run.optimiser, recipe.optimiser, recipe.epochs, epoch, step / steps)
        pixels = normalise(pixels.to(device, non_blocking=True), recipe.model)
        with in_parts(len(indices)), autocast(device, recipe.precision):
            logits = classifier(pixels)
        labels = run.labels[indices.to(device, non_blocking=True)]
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        descend(loss, run.optimiser, list(classifier.parameters()), recipe.optimiser.clip_norm)
        log.append({"loss": loss})
        progress.step(len(indices), log.latest)
        resume.end_step(epoch, step + 1, steps)
    return log.means()
