"""Training as the pipeline does it, on made-up photographs: its phases, when the GPU idles, and what feeds it."""

import json
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.gpu_sizes import METHODS, Sizes, synchronise
from benchmarks.photographs import CLASSES, DOMAINS, NAME, TASK
from benchmarks.report import Measurement
from dacsm.adaptation.history import AdaptationHistory
from dacsm.methods import Method, load_kind
from dacsm.methods.cdtrans import method as cdtrans
from dacsm.models.classifier import Classifier, Description, load_checkpoint
from dacsm.runtime.device import Compute
from dacsm.runtime.progress import TrainingProgress
from dacsm.runtime.resume import Resume
from dacsm.stages import adapt as adaptation
from dacsm.stages.pretrain import pretrain
from dacsm.training.learner import Learner
from dacsm.training.loss_log import LossLog

GPU_WORK = {"kernel", "gpu_memcpy", "gpu_memset"}  # categories of a trace


def training(sizes: Sizes) -> Iterator[Measurement]:
    """A run of each method through its stage: how long each phase of its second epoch took, and when the GPU idled."""
    started = time.perf_counter()
    project, compute = sizes.project, sizes.compute
    yield Measurement("making photographs and shards", time.perf_counter() - started, "s")
    measured = pretrain(project, DOMAINS[0], 0, compute, Resume(sizes.folder / "state", "source"))
    yield Measurement("pretraining: all of it", measured["training_seconds"], "s")
    yield Measurement("pretraining: images a second, pauses included", measured["images_per_second"], "images/s")
    for method in METHODS:
        window = Window(sizes.device, *((2, 4) if sizes.dry else (25, 45)))
        with watched(window) as epochs:
            adaptation.adapt(project, method, TASK, 0, compute, Resume(sizes.folder / "state", method))
        yield Measurement(f"{method}: GPU idle in training", 100 * window.idle(), "%", 5)
        yield Measurement(f"{method}: a step in that time", 1000 * window.seconds / window.steps, "ms")
        yield Measurement(f"{method}: steps of an epoch", window.counted / len(epochs))
        for phase, seconds in epochs[-1].items():
            yield Measurement(f"{method}, second epoch: {phase}", seconds, "s")


class Window:
    """The steps of training from one number to another, in which what the GPU does is traced."""

    def __init__(self, device: torch.device, first: int, last: int):
        self.device, self.first, self.last = device, first, last
        self.steps, self.counted, self.seconds = last - first, 0, float("nan")
        self.intervals: list[tuple[float, float]] = []
        activities = torch.profiler.ProfilerActivity
        cuda = device.type == "cuda"
        self.kinds = GPU_WORK if cuda else {"cpu_op"}
        self.make = partial(torch.profiler.profile, activities=[activities.CUDA if cuda else activities.CPU])
        with self.make():  # the first one takes long to start
            torch.ones(1, device=device).add_(1)
            synchronise(device)

    def step(self) -> None:
        self.counted += 1
        if self.counted == self.first:
            synchronise(self.device)
            self.profiler = self.make()
            self.profiler.start()
            self.begun = time.perf_counter()
        elif self.counted == self.last:
            synchronise(self.device)
            self.seconds = time.perf_counter() - self.begun
            self.profiler.stop()
            self.intervals = self._read()

    def _read(self) -> list[tuple[float, float]]:
        """When something was under way, in microseconds."""
        with tempfile.NamedTemporaryFile(suffix=".json") as file:
            self.profiler.export_chrome_trace(file.name)
            events = json.loads(Path(file.name).read_text(encoding="utf-8", errors="replace"))["traceEvents"]
        return [(float(e["ts"]), float(e["ts"]) + float(e["dur"])) for e in events if e.get("cat") in self.kinds]

    def idle(self) -> float:
        """The fraction of the time in which nothing was under way; NaN where nothing was traced."""
        return 1 - covered(self.intervals) / 1e6 / self.seconds if self.intervals else float("nan")


def covered(intervals: list[tuple[float, float]]) -> float:
    """How long at least one of the intervals lasted."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


@contextmanager
def watched(window: Window) -> Iterator[list[dict[str, float]]]:
    """The seconds of each phase of each epoch of an adaptation."""
    epochs: list[dict[str, float]] = []

    def timed(name: str, function: Callable[..., Any], *given: Any, **options: Any) -> Any:
        if name == "refresh":
            epochs.append({})
        start = time.perf_counter()
        try:
            return function(*given, **options)
        finally:
            epochs[-1][name] = epochs[-1].get(name, 0.0) + time.perf_counter() - start

    def step(self: TrainingProgress, *given: Any) -> None:
        window.step()
        known(self, *given)

    known = TrainingProgress.step
    phases = {
        "refresh": (cdtrans.CDTrans, "refresh"),
        "steps": (adaptation, "_train_epoch"),
        "a look at the target": (adaptation, "predict"),
        "the method's own end": (cdtrans.CDTrans, "end_epoch"),
        "a look at held-out source images": (adaptation, "accuracy"),
        "validator and history": (AdaptationHistory, "add"),
        "saving the state": (Resume, "end_epoch"),
    }
    with patch.object(TrainingProgress, "step", step):
        patches = []
        for name, (owner, attribute) in phases.items():
            function = getattr(owner, attribute)
            wrapper = lambda *given, n=name, f=function, **options: timed(n, f, *given, **options)  # noqa: E731
            patches.append(patch.object(owner, attribute, wrapper))
            patches[-1].start()
        try:
            yield epochs
        finally:
            for each in patches:
                each.stop()


def _prepared(sizes: Sizes, method: str) -> tuple[Method, Learner]:
    """A method on the made-up photographs, its pairs found."""
    project, compute = sizes.project, sizes.compute
    checkpoint = project.paths.pretrained(NAME, DOMAINS[0], 0) / "model.safetensors"
    if not checkpoint.is_file():
        pretrain(project, DOMAINS[0], 0, compute)
    classifier = load_checkpoint(checkpoint, compute.device)
    recipe, settings = project.params.adaptation(NAME, method), project.params.method(method)
    domains = adaptation._domains(project, method, TASK, classifier.description.model.resize)
    running = load_kind(settings.kind)(classifier, recipe, settings, domains, 0, compute)
    learner = Learner(recipe, classifier, running.modules, compute)
    running.refresh(1, classifier, TrainingProgress("", 1))
    classifier.train()
    return running, learner


def waiting(sizes: Sizes) -> Iterator[Measurement]:
    """How often a step waits for the GPU, by CUDA's own count; the losses are looked at every 50 steps."""
    for method in METHODS:
        running, learner = _prepared(sizes, method)
        log, steps, found = LossLog(1), 3 if sizes.dry else 20, []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for number, batch in enumerate(islice(running.batches(1, 0)[0], steps)):
                if number == 2 and not sizes.dry:  # what is made once is there
                    torch.cuda.set_sync_debug_mode("warn")
                losses, total = running.losses(batch, 0.5)
                learner.step(total, 1, 0.5)
                log.append(losses)
            if not sizes.dry:
                torch.cuda.set_sync_debug_mode("default")
            found = [w for w in caught if "called a synchronizing" in str(w.message)]
        yield Measurement(f"{method}: waits in {len(log.rows) - 2} steps", len(found), "", 0)
        places = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in found)
        for place, count in places.most_common(5):
            yield Measurement(f"{method}: waits at {place}", count)


def feature_pass(sizes: Sizes) -> Iterator[Measurement]:
    """A look at a whole domain, with its loader, against the bare forward."""
    project, device = sizes.project, sizes.device
    images = adaptation._domains(project, "cdtrans", TASK, project.params.pretrain[NAME].model.resize).target
    for size in ("base", "small"):
        with device:
            classifier = Classifier(Description(sizes.model(size), CLASSES)).eval()
        adaptation.predict(classifier, images, sizes.compute, "bfloat16")
        start = time.perf_counter()
        adaptation.predict(classifier, images, sizes.compute, "bfloat16")
        yield Measurement(f"DeiT, {size}: a domain", len(images) / (time.perf_counter() - start), "images/s")
        side = classifier.description.model.image_size
        batch = torch.randn(8 if sizes.dry else 256, 3, side, side, device=device)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            form = partial(classifier.features, batch)
            rates = []
            for _ in range(2 if sizes.dry else 6):
                synchronise(device)
                start = time.perf_counter()
                form()
                synchronise(device)
                rates.append(len(batch) / (time.perf_counter() - start))
        yield Measurement(f"DeiT, {size}: the bare forward", max(rates), "images/s")


def loader(sizes: Sizes) -> Iterator[Measurement]:
    """Pairs of views a second, by the number of workers."""
    running, _learner = _prepared(sizes, "cdtrans")
    for workers in (1, 2) if sizes.dry else (1, 2, 4, 8, 12, 16):
        compute, taken = Compute(sizes.device, workers), []
        with patch.object(running, "compute", compute), patch.object(running, "_batch", lambda step: step):
            batches, steps = running.batches(1, 0)
            last = min(steps, 3 * workers + 4)
            for _ in islice(batches, last):
                taken.append(time.perf_counter())
        first = min(workers, last - 2)  # each worker has made one, which took its start as well
        rate = running.recipe.batch_size * (last - 1 - first) / (taken[-1] - taken[first])
        yield Measurement(f"{workers} workers", rate, "pairs/s")
