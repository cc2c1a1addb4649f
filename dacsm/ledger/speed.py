"""How long a training step and a prediction take on the present device: a few of each, on made-up images."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor
from torch.nn import functional as F

from dacsm.config.datasets import DatasetSpec
from dacsm.config.kinds import MethodSettings
from dacsm.config.params import AdaptRecipe, Model, Params
from dacsm.methods import load_kind
from dacsm.models.classifier import Classifier, Description
from dacsm.models.precision import autocast
from dacsm.runtime.device import Compute
from dacsm.training.learner import Learner
from dacsm.training.optim import build_optimiser, descend

ENOUGH = 2.0  # seconds that a measurement takes before its batch is large enough
ENOUGH_ROUGHLY = 0.3
STEPS = 2  # some parts of a method come at every second step


@dataclass(frozen=True)
class Speed:
    """Seconds for each image or pair, and the batch at which that was measured."""

    seconds: float
    batch: int


class AdaptationSteps:
    """An adaptation by a method, halfway through, on batches of random values."""

    def __init__(self, recipe: AdaptRecipe, settings: MethodSettings, classifier: Classifier, compute: Compute):
        self.method = load_kind(settings.kind)(classifier.train(), recipe, settings, None, 0, compute)  # type: ignore[arg-type]  # no image is read
        self.learner = Learner(recipe, classifier, self.method.modules, compute)
        self.taken = count()
        self.batches: dict[int, list] = {}  # by size, so that making up images takes no time of a step

    def step(self, pairs: int) -> None:
        """One step of so many pairs."""
        if pairs not in self.batches:
            self.batches[pairs] = self.method.made_up_batches(pairs)
        batches = self.batches[pairs]
        _losses, total = self.method.losses(batches[next(self.taken) % len(batches)], 0.5)
        self.learner.step(total, 1, 0.5)


def parameters_of(model: Model, dataset: DatasetSpec) -> int:
    """How many numbers a checkpoint holds; nothing is allocated for them."""
    with torch.device("meta"):
        classifier = Classifier(Description(model, dataset.classes))
    return sum(tensor.numel() for tensor in classifier.state_dict().values())


def pretrain_speed(params: Params, dataset: DatasetSpec, compute: Compute, rough: bool = False) -> Speed:
    """A step of pretraining, for each image."""
    recipe = params.recipe("pretrain", dataset.name)
    classifier = _classifier(params, dataset, compute).train()
    optimiser = build_optimiser(recipe.optimiser, [classifier])

    def step(batch: int) -> None:
        with autocast(compute.device, recipe.precision):
            logits = classifier(_images(recipe.model, batch, compute))
        labels = torch.arange(batch, device=compute.device) % len(dataset.classes)
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        descend(loss, optimiser, classifier.parameters(), recipe.optimiser.clip_norm)

    return _timed(step, recipe.batch_size, compute, recipe.threads, rough)


def adapt_speed(params: Params, dataset: DatasetSpec, method: str, compute: Compute, rough: bool = False) -> Speed:
    """A step of a method, for each pair; where it cannot be tried, that of two images in pretraining."""
    recipe = params.adaptation(dataset.name, method)
    steps = AdaptationSteps(recipe, params.method(method), _classifier(params, dataset, compute), compute)
    if not steps.method.made_up_batches(1):
        speed = pretrain_speed(params, dataset, compute, rough)
        return Speed(2 * speed.seconds, speed.batch)
    return _timed(steps.step, recipe.batch_size, compute, recipe.threads, rough)


def predict_speed(params: Params, dataset: DatasetSpec, compute: Compute, rough: bool = False) -> Speed:
    """Features and logits, for each image."""
    recipe = params.recipe("adapt", dataset.name)
    classifier = _classifier(params, dataset, compute).eval()
    model = classifier.description.model

    @torch.inference_mode()
    def step(batch: int) -> None:
        with autocast(compute.device, recipe.precision):
            features = classifier.features(_images(model, batch, compute))
        classifier.classify(features)

    return _timed(step, 256, compute, recipe.threads, rough)


def _classifier(params: Params, dataset: DatasetSpec, compute: Compute) -> Classifier:
    """The recipe's model, with weights of chance: they change no time."""
    model = params.recipe("pretrain", dataset.name).model
    return Classifier(Description(model, dataset.classes)).to(compute.device)


def _images(model: Model, batch: int, compute: Compute) -> Tensor:
    return torch.randn(batch, model.channels, model.image_size, model.image_size, device=compute.device)


def _timed(step: Callable[[int], None], most: int, compute: Compute, threads: int, rough: bool) -> Speed:
    """The speed of a step on so many threads; a rough one in a second, whatever else the machine does."""
    threads = min(threads, os.cpu_count() or 1)  # more than there are cores would only wait for each other
    if not rough or compute.device.type != "cpu":
        torch.set_num_threads(threads)
        return _measure(step, most, compute)
    torch.set_num_threads(1)  # several would wait for each other where other programs run
    batch = min(2, most)
    step(batch)
    while True:
        started = time.process_time()
        for _ in range(STEPS):
            step(batch)
        seconds = time.process_time() - started
        if batch >= most or seconds >= ENOUGH_ROUGHLY:
            return Speed(seconds / STEPS / batch / threads, batch)
        batch = min(most, 4 * batch)


def _measure(step: Callable[[int], None], most: int, compute: Compute) -> Speed:
    """Time steps at ever larger batches, until two sizes are known of which one takes long enough, or the recipe's.

    Where it stops before the recipe's batch, what an image more takes says what that one would. A GPU is measured at
    the recipe's batch alone, since smaller ones leave it idle. The first step never counts: it also loads libraries
    and claims memory, which at two images takes many times as long as they do.
    """
    batch = most if compute.device.type == "cuda" else min(2, most)
    step(batch)
    smaller, before = 0, 0.0
    while True:
        seconds = _seconds(step, batch, compute)
        if seconds < ENOUGH:  # twice, since other programs interrupt
            seconds = min(seconds, _seconds(step, batch, compute))
        if batch >= most or (seconds >= ENOUGH and smaller):
            further = max(0.0, (seconds - before) / (batch - smaller)) * (most - batch)
            return Speed((seconds + further) / STEPS / most, batch)
        smaller, before = batch, seconds
        batch = min(most, 4 * batch if seconds < ENOUGH / 8 else 2 * batch)


def _seconds(step: Callable[[int], None], batch: int, compute: Compute) -> float:
    """Of STEPS steps."""
    started = _now(compute)
    for _ in range(STEPS):
        step(batch)
    return _now(compute) - started


def _now(compute: Compute) -> float:
    if compute.device.type == "cuda":
        torch.cuda.synchronize(compute.device)
    return time.perf_counter()
