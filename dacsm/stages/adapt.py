"""Stage: adaptation from a source to a target domain, by CDTrans and what a method adds to it.

The target's labels are never read: not for training, and not for choosing an epoch.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from dacsm.adaptation.record import AdaptationRecord
from dacsm.adaptation.validators import scores
from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.data.domains import Domains, open_domains
from dacsm.data.seeding import seed_torch
from dacsm.data.transforms import normalise
from dacsm.evaluation.predictions import Predictions, predict
from dacsm.methods.cdtrans.matches import Matches
from dacsm.methods.cdtrans.pair_loader import pair_batches
from dacsm.methods.cdtrans.refresh import refresh
from dacsm.methods.cdtrans.run import Run, start_run
from dacsm.methods.cdtrans.scale_loader import scale_batches
from dacsm.methods.cdtrans.step import Batch, noise_gain, step_losses
from dacsm.models.classifier import load_checkpoint
from dacsm.models.precision import set_threads
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.progress import TrainingProgress, training_progress
from dacsm.runtime.resume import Generators, Resume
from dacsm.training.loss_log import LossLog
from dacsm.training.optim import set_learning_rate

FORMAT_VERSION = 1  # raise it when a module that is no code of this stage changes what it writes


def adapt(
    params: Params,
    dataset: DatasetSpec,
    method: str,
    task: str,
    seed: int,
    paths: Paths,
    compute: Compute,
    resume: Resume | None = None,
) -> dict[str, float]:
    """Adapt a source model to the target; writes both checkpoints, noise.safetensors, log.csv and epochs.npz.

    Goes on from what `resume` has of a run that was killed. Returns what was measured, for the run's record.

    Raises:
        InputError: for shards, checkpoints or settings that cannot be used, or a loss that is not a number.
    """
    source, target = dataset.split_task(task)
    recipe, settings = params.adaptation(dataset.name, method), params.method(method)
    set_threads(recipe.threads)
    checkpoint = paths.pretrained(dataset.name, source, seed) / "model.safetensors"
    classifier = load_checkpoint(checkpoint, compute.device)
    folders = [paths.shards(dataset.name, domain) for domain in (source, target)]
    fraction = params.recipe("pretrain", dataset.name).held_out
    domains = open_domains(*folders, fraction, classifier.description.model.resize)
    if recipe.validator == "source_accuracy" and not len(domains.held_out):
        raise InputError(
            f"params.yaml: adapt.recipes.{dataset.name}.validator is source_accuracy, but pretrain.{dataset.name}."
            "held_out is 0; keep a fraction of the source out, or name another validator."
        )
    seed_torch(seed, "adapt", dataset.name, task)
    run = start_run(recipe, settings, seed, compute, classifier)
    record = AdaptationRecord(recipe.validator)
    matches = Matches()
    resume = resume or Resume()
    with training_progress(f"adapt {dataset.name} {method} {task} seed {seed}", recipe.epochs) as progress:
        first = resume.start(progress, record=record, matches=matches, **run.parts)
        for epoch in range(first, recipe.epochs + 1):
            if (epoch - 1) % recipe.refresh_epochs == 0 and not resume.inside_epoch:
                refresh(run, domains, epoch, matches, progress)
            losses, noise = _train_epoch(run, domains, matches, epoch, progress, resume)
            predictions = predict(run.evaluated, domains.target, compute, recipe.precision, keep=recipe.features)
            judged = _judge(run, domains, epoch, predictions)
            row = {**losses, **noise, "pairs": len(matches.pairs)}
            record.add(predictions.predicted, matches.pseudo_labels.numpy(), judged, row, run.evaluated.state_dict())
            matches.predictions = predictions if epoch % recipe.refresh_epochs == 0 else None
            progress.end_epoch(epoch, losses, f"{len(matches.pairs)} pairs")
            resume.end_epoch(epoch)
    folder = paths.adapted(dataset.name, method, task, seed)
    record.write(folder, classifier.description, run.evaluated.state_dict(), run.noise)
    return progress.measured


def _judge(run: Run, domains: Domains, epoch: int, predictions: Predictions) -> list[float]:
    if not len(domains.held_out):
        return scores(epoch, predictions, None, None)
    held = predict(run.evaluated, domains.source, run.compute, run.recipe.precision, numbers=domains.held_out.numpy())
    return scores(epoch, predictions, held, domains.source_labels[domains.held_out])


def _train_epoch(
    run: Run, domains: Domains, matches: Matches, epoch: int, progress: TrainingProgress, resume: Resume
) -> tuple[dict[str, float], dict[str, float]]:
    """One pass over the epoch's pairs; the mean of each loss, and what is to be known of the noise."""
    recipe = run.recipe
    run.classifier.train()
    log = LossLog(epoch)
    done = resume.start_epoch(losses=log, generators=Generators(run.compute.device))
    batches, steps = _batches(run, domains, matches, epoch, done)
    parameters = [p for group in run.optimiser.param_groups for p in group["params"]]
    progress.start_epoch(epoch, steps, done)
    for step, batch in enumerate(batches, done):
        set_learning_rate(run.optimiser, recipe.optimiser, recipe.epochs, epoch, step / steps)
        if run.noise is not None:
            run.noise.progress = (epoch - 1 + step / steps) / recipe.epochs
        losses, total = step_losses(run, batch)
        run.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, recipe.optimiser.clip_norm)
        run.optimiser.step()
        if run.average is not None:
            run.average.update_parameters(run.classifier)
        log.append(losses)
        progress.step(2 * len(batch.labels), log.latest)
        resume.end_step(epoch, step + 1, steps)
    if run.noise is None:
        return log.means(), {}
    strengths = {f"noise_{layer}": strength for layer, strength in enumerate(run.noise.strengths(), 1)}
    return log.means(), {**strengths, "noise_gain": noise_gain(run, batch)}


def _batches(run: Run, domains: Domains, matches: Matches, epoch: int, done: int) -> tuple[Iterator[Batch], int]:
    """The batches of an epoch that are still to be done, and how many the whole epoch has."""
    model, workers = run.classifier.description.model, run.compute.workers
    images = (domains.source, domains.target)
    pairs, steps = pair_batches(images, matches.pairs, model, run.recipe, run.seed, epoch, workers, done)
    others = range(done, steps)
    scaled = scale_batches(domains.target, model, run.recipe, run.method.consistency, run.seed, epoch, others, workers)

    def moved(part: Tensor) -> Tensor:
        return part.to(run.compute.device, non_blocking=True)

    def batches() -> Iterator[Batch]:
        for (source, target, labels, pseudo_labels), at_scale in zip(pairs, scaled, strict=True):
            both = (normalise(moved(stream), model) for stream in (source, target))
            if at_scale is not None:
                views, numbers = at_scale
                at_scale = normalise(moved(views), model), moved(matches.soft_targets[numbers])
            yield Batch(*both, moved(labels), moved(pseudo_labels), at_scale)

    return batches(), steps
