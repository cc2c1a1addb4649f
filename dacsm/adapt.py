"""Room: adaptation from a source to a target domain, by CDTrans and what a method adds to it.

The target's labels are never read: not for training, and not for choosing an epoch.
"""

from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dacsm.catalog import DatasetSpec
from dacsm.compute import Compute, autocast, set_threads
from dacsm.errors import InputError
from dacsm.inference import Predictions, predict
from dacsm.layout import Layout
from dacsm.models.classifier import Classifier, load_checkpoint
from dacsm.models.cross_scale import pyramid_loss, scale_loss, scaled_size
from dacsm.models.noise import BeneficialNoise
from dacsm.models.three_stream import three_stream
from dacsm.pairing import Pairs, agreeing_pairs, centre_labels, fuse_sizes, nearest_over_sizes
from dacsm.params import AdaptRecipe, Method, Params
from dacsm.reading import ShardedImages
from dacsm.seeding import numpy_generator, seed_torch, torch_generator
from dacsm.selection import scores
from dacsm.training.domains import Domains, open_domains
from dacsm.training.loss_log import LossLog
from dacsm.training.losses import cdtrans_losses
from dacsm.training.matches import Matches
from dacsm.training.optim import build_optimiser, set_learning_rate
from dacsm.training.pair_loader import few_pairs, pair_batches
from dacsm.training.progress import TrainingProgress, training_progress
from dacsm.training.record import AdaptationRecord
from dacsm.training.resume import Generators, Resume, Stateful
from dacsm.training.scale_loader import scale_batches
from dacsm.views import normalise

FORMAT_VERSION = 1  # raise it when a module that is no code of this room (files, layout, …) changes what it writes


@dataclass
class Run:
    """The parts of a running adaptation."""

    recipe: AdaptRecipe
    method: Method
    seed: int
    compute: Compute
    classifier: Classifier
    noise: BeneficialNoise | None
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None

    @property
    def evaluated(self) -> Classifier:
        """The model that predicts: the weight average, where there is one."""
        return self.classifier if self.average is None else self.average.module

    @property
    def parts(self) -> dict[str, Stateful | None]:
        """What changes from step to step."""
        generators = Generators(self.compute.device, *([] if self.noise is None else [self.noise.generator]))
        modules = {"classifier": self.classifier, "noise": self.noise, "average": self.average}
        return {**modules, "optimiser": self.optimiser, "generators": generators}


def adapt(
    params: Params,
    dataset: DatasetSpec,
    method: str,
    task: str,
    seed: int,
    layout: Layout,
    compute: Compute,
    resume: Resume | None = None,
) -> dict[str, float]:
    """Adapt a source model to the target; writes model.safetensors, last.safetensors, log.csv and epochs.npz.

    Goes on from what `resume` has of a run that was killed. Returns what was measured, for the run's card.

    Raises:
        InputError: for shards, checkpoints or settings that cannot be used, or a loss that is not a number.
    """
    source, target = dataset.split_task(task)
    recipe, settings = params.adaptation(dataset.name, method), params.method(method)
    set_threads(recipe.threads)
    checkpoint = layout.pretrained(dataset.name, source, seed) / "model.safetensors"
    classifier = load_checkpoint(checkpoint, compute.device)
    folders = [layout.shards(dataset.name, domain) for domain in (source, target)]
    share = params.recipe("pretrain", dataset.name).held_out
    domains = open_domains(*folders, share, classifier.description.model.resize)
    if recipe.validator == "source_accuracy" and not len(domains.held_out):
        raise InputError(
            f"params.yaml: adapt.recipes.{dataset.name}.validator is source_accuracy, but pretrain.{dataset.name}."
            "held_out is 0; keep a share of the source out, or name another validator."
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
                found = _refresh(run, domains, epoch, matches.predictions, matches.pairs, progress)
                matches.pairs, matches.pseudo_labels, matches.known, matches.predictions = *found, None
            losses = _train_epoch(run, domains, matches, epoch, progress, resume)
            predictions = predict(run.evaluated, domains.target, compute, recipe.precision, keep=recipe.features)
            judged = _judge(run, domains, epoch, predictions)
            row = {**losses, "pairs": len(matches.pairs)}
            record.add(predictions.predicted, matches.pseudo_labels.numpy(), judged, row, run.evaluated.state_dict())
            matches.predictions = predictions if epoch % recipe.refresh_epochs == 0 else None
            progress.end_epoch(epoch, losses, f"{len(matches.pairs)} pairs")
            resume.end_epoch(epoch)
    record.write(layout.adapted(dataset.name, method, task, seed), classifier.description, run.evaluated.state_dict())
    return progress.measured


def start_run(recipe: AdaptRecipe, method: Method, seed: int, compute: Compute, classifier: Classifier) -> Run:
    noise = None
    if method.style.weight or method.noise.weight or method.attention_dropout:
        noise = BeneficialNoise(classifier, method, torch_generator(compute.device, seed, "noise")).to(compute.device)
    modules: list[nn.Module] = [classifier] if noise is None else [classifier, noise]
    average = None
    if recipe.averaging:
        average = AveragedModel(classifier, multi_avg_fn=get_ema_multi_avg_fn(recipe.averaging), use_buffers=True)
    optimiser = build_optimiser(recipe.optimiser, modules)
    return Run(recipe, method, seed, compute, classifier, noise, optimiser, average)


def _refresh(
    run: Run,
    domains: Domains,
    epoch: int,
    at_full_size: Predictions | None,
    before: Pairs | None,
    progress: TrainingProgress,
) -> tuple[Pairs, Tensor, Tensor]:
    """New pairs, and the target's pseudo labels (T,); `at_full_size` are the target's predictions, where known."""

    def see(images: ShardedImages, **options) -> Predictions:
        return predict(run.evaluated, images, run.compute, run.recipe.precision, keep=run.recipe.features, **options)

    matching = run.method.matching
    scales = matching.scales if epoch > matching.after_epochs else ()
    sizes = [see(domains.target, scale=scale) for scale in scales]
    if epoch > matching.after_epochs: sizes += [see(domains.target, size=scaled_size(run.classifier, scale)) for scale in matching.sizes]
    sizes.insert(0, at_full_size or see(domains.target))
    source = see(domains.source, numbers=domains.training.numpy())
    features, logits = fuse_sizes([size.features for size in sizes], [size.logits for size in sizes])
    pseudo_labels = centre_labels(features, logits)
    neighbours = nearest_over_sizes(source.features, [size.features for size in sizes], run.compute.device)
    target_of_source, source_of_target = (index.cpu() for index in neighbours)
    labels = domains.source_labels[domains.training]
    found = agreeing_pairs(target_of_source, source_of_target, labels, pseudo_labels)
    if not len(found) and before is None:
        raise InputError(
            "no source image and its nearest target image agree in label, so that there is no pair to adapt on; "
            "pretrain longer, or look whether source and target have the same classes."
        )
    pairs = before if not len(found) else found.with_source(domains.training.numpy())
    if remark := few_pairs(len(found), len(pairs), run.recipe):
        progress.note(epoch, remark)
    return pairs, pseudo_labels, F.log_softmax(logits, dim=1)


def _judge(run: Run, domains: Domains, epoch: int, predictions: Predictions) -> list[float]:
    if not len(domains.held_out):
        return scores(epoch, predictions, None, None)
    held = predict(run.evaluated, domains.source, run.compute, run.recipe.precision, numbers=domains.held_out.numpy())
    return scores(epoch, predictions, held, domains.source_labels[domains.held_out])


def _train_epoch(
    run: Run, domains: Domains, matches: Matches, epoch: int, progress: TrainingProgress, resume: Resume
) -> dict[str, float]:
    """One pass over the epoch's pairs; the mean of each loss."""
    recipe, model = run.recipe, run.classifier.description.model
    run.classifier.train()
    log = LossLog(epoch)
    pairs = matches.pairs
    done = resume.start_epoch(losses=log, generators=Generators(run.compute.device))
    images = (domains.source, domains.target)
    batches, steps = pair_batches(images, pairs, model, recipe, run.seed, epoch, run.compute.workers, done)
    consistency = run.method.consistency
    scaled = repeat(None)
    if consistency.weight:
        scaled = scale_batches(domains.target, model, recipe, consistency, run.seed, epoch, steps, run.compute.workers, done)
    parameters = [p for group in run.optimiser.param_groups for p in group["params"]]
    progress.start_epoch(epoch, steps, done)
    for step, (batch, more) in enumerate(zip(batches, scaled), done):
        source, target, labels, pseudo_labels = (part.to(run.compute.device, non_blocking=True) for part in batch)
        set_learning_rate(run.optimiser, recipe.optimiser, recipe.epochs, epoch, step / steps)
        if run.noise is not None:
            run.noise.progress = (epoch - 1 + step / steps) / recipe.epochs
        if more is not None:
            more = normalise(more[0], model), matches.known[more[1]]
        losses, total = step_losses(
            run, normalise(source, model), normalise(target, model), labels, pseudo_labels, more
        )
        run.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, recipe.optimiser.clip_norm)
        run.optimiser.step()
        if run.average is not None:
            run.average.update_parameters(run.classifier)
        log.append(losses)
        progress.step(2 * len(labels), log.latest)
        resume.end_step(epoch, step + 1, steps)
    means = log.means()
    if run.noise is not None:
        means |= {f"noise_{i}": x for i, x in enumerate(run.noise.strengths(), 1)}
        means["noise_gain"] = _noise_gain(run, normalise(source, model), normalise(target, model), labels)
    return means


@torch.no_grad()
def _noise_gain(run: Run, source: Tensor, target: Tensor, labels: Tensor) -> float:
    """Task entropy of the mix stream without noise less that with it, in nats, on the last batch of an epoch.

    Positive means that the noise helps the task: I(T; E) = H(T) - H(T|E), as in arXiv 2212.09541.
    """
    run.classifier.eval()
    plain, noisy = (three_stream(run.classifier, source, target, noise).mix_logits for noise in (None, run.noise))
    run.classifier.train()
    return (F.cross_entropy(plain, labels) - F.cross_entropy(noisy, labels)).item()


def step_losses(
    run: Run, source: Tensor, target: Tensor, labels: Tensor, pseudo_labels: Tensor, scaled=None
) -> tuple[dict[str, Tensor], Tensor]:
    """Every loss of a step by name, and their weighted sum; a part whose weight is 0 is not computed."""
    method, classifier = run.method, run.classifier
    with autocast(run.compute.device, run.recipe.precision):
        streams = three_stream(classifier, source, target, run.noise, patches=False)
    losses = cdtrans_losses(streams, labels, pseudo_labels, method.teacher_detached)
    total = losses["source"] + losses["target"] + losses["distillation"]
    added: dict[str, tuple[float, Tensor]] = {}
    if method.mix_cross_entropy:
        added["mix"] = method.mix_cross_entropy, F.cross_entropy(streams.mix_logits, labels)
    if run.noise is not None:
        divergence = run.noise.divergence()
        if divergence is not None:
            added["noise_divergence"] = method.noise.divergence, divergence
    if method.pyramid.weight:
        added["pyramid"] = (
            method.pyramid.weight,
            pyramid_loss(streams.source_patches, streams.target_patches, method.pyramid),
        )
    if method.consistency.weight:
        with autocast(run.compute.device, run.recipe.precision):
            loss = scale_loss(classifier, *scaled, method.consistency)
        added["consistency"] = method.consistency.weight, loss
    for name, (weight, loss) in added.items():
        losses[name] = loss
        total = total + weight * loss
    return losses, total
