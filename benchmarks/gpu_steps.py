"""A step on data that lies on the device: ours, compiled or not, against the public program's written plainly."""

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial

import timm
import torch

from benchmarks.gpu_sizes import METHODS, Sizes, synchronise
from benchmarks.photographs import CLASSES, PROJECT
from benchmarks.plain_step import plain_three_stream
from benchmarks.report import Measurement
from benchmarks.step import compiled, matrix_rate, operations
from dacsm.config.params import load_params
from dacsm.ledger.speed import AdaptationSteps
from dacsm.methods.cdtrans.losses import cdtrans_losses
from dacsm.models.classifier import Classifier, Description


def environment(sizes: Sizes) -> Iterator[Measurement]:
    device = sizes.device
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        yield Measurement(
            f"{properties.name}, driver for CUDA {torch.version.cuda}", properties.total_memory / 1e9, "GB"
        )
    shared = shutil.disk_usage("/dev/shm").total / 1e9  # through which workers hand over what they read
    yield Measurement(f"{os.cpu_count()} cores, shared memory", shared, "GB")
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, timm {timm.__version__}"
    yield Measurement(f"{versions}; loader workers by default", sizes.compute.workers)
    for precision in ("bfloat16", "float16", "float32"):
        rate = matrix_rate(precision, device, 256 if sizes.dry else 8192)
        yield Measurement(f"bare matrix product, {precision}", rate / 1e12, "TFLOP/s")


class Form:
    """A kind of step on a batch that lies on the device: how long it takes, and how much memory."""

    def __init__(self, sizes: Sizes, size: str, step: Callable[[Classifier], Callable[[], None]]):
        self.device = sizes.device
        torch.manual_seed(0)
        with self.device:  # initial values are drawn there, which a processor needs seconds for
            self.classifier = Classifier(Description(sizes.model(size), CLASSES)).train()
        self.step = step(self.classifier)

    def seconds(self, steps: int) -> float:
        """Of one step; several are sent off before they are waited for, as in training."""
        synchronise(self.device)
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
        synchronise(self.device)
        return (time.perf_counter() - start) / steps

    def best(self, repeats: int, steps: int) -> float:
        self.seconds(steps)
        return min(self.seconds(steps) for _ in range(repeats))


def ours(sizes: Sizes, method: str, pairs: int, classifier: Classifier) -> Callable[[], None]:
    """A step as training takes it, but for its data."""
    params = load_params(PROJECT / "params.yaml")
    steps = AdaptationSteps(params.adaptation("visda", method), params.method(method), classifier, sizes.compute)
    return partial(steps.step, pairs)


def official(sizes: Sizes, pairs: int, classifier: Classifier) -> Callable[[], None]:
    """The public program's step, written plainly: stream by stream, float16 and a scaled gradient."""
    device, model = sizes.device, classifier.description.model
    images = torch.randn(2, pairs, 3, model.image_size, model.image_size, device=device)
    labels = torch.arange(pairs, device=device) % len(CLASSES)
    optimiser = torch.optim.SGD([p for p in classifier.parameters() if p.requires_grad], 1e-4, 0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
    precision = torch.float16 if device.type == "cuda" else torch.bfloat16

    def step() -> None:
        with torch.autocast(device.type, precision):
            streams = plain_three_stream(classifier, *images)
        optimiser.zero_grad()
        scaler.scale(sum(cdtrans_losses(streams, labels, labels).values())).backward()
        scaler.step(optimiser)
        scaler.update()

    return step


def step_time(sizes: Sizes, size: str, pairs: int) -> Iterator[Measurement]:
    pairs, device = sizes.pairs(pairs), sizes.device
    rate = matrix_rate("bfloat16", device, 256 if sizes.dry else 8192)
    makers = {"official": partial(official, sizes, pairs)}
    makers |= {method: partial(ours, sizes, method, pairs) for method in METHODS}
    taken = {}
    for name, make in makers.items():
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        form = Form(sizes, size, make)
        taken[name] = form.best(1 if sizes.dry else 4, 2 if sizes.dry else 6)
        yield Measurement(f"{name}: a step", 1000 * taken[name], "ms")
        if device.type == "cuda":
            yield Measurement(f"{name}: peak memory", torch.cuda.max_memory_allocated(device) / 1e9, "GB")
        if name == "cdtrans":
            share = operations(form.classifier, pairs, lean=True) / taken[name] / rate
            yield Measurement("cdtrans: share of the bare bfloat16 rate", 100 * share, "%", least=50)
            yield Measurement("cdtrans / official form", taken[name] / taken["official"], "", 0.5)
        del form
    yield Measurement("dacsm / cdtrans", taken["dacsm"] / taken["cdtrans"], "", 1.4)


def compiled_time(sizes: Sizes, size: str, pairs: int) -> Iterator[Measurement]:
    """The steps of CDTrans and DACSM without and with `compile: true`, which compiles their blocks."""
    pairs, device = sizes.pairs(pairs), sizes.device
    rate = matrix_rate("bfloat16", device, 256 if sizes.dry else 8192)
    counts = (1, 2) if sizes.dry else (3, 6)
    backend = "aot_eager" if sizes.dry else "inductor"  # compiling for a CPU takes minutes
    for method in METHODS:
        form = Form(sizes, size, partial(ours, sizes, method, pairs))
        plain = form.best(*counts)
        with compiled(backend):
            yield Measurement(f"{method}: the first step, with compiling", form.seconds(1), "s")
            taken = form.best(*counts)
        yield Measurement(f"{method}, compiled: a step", 1000 * taken, "ms")
        if method == "cdtrans":
            share = operations(form.classifier, pairs, lean=True) / taken / rate
            yield Measurement("cdtrans, compiled: share of the bare bfloat16 rate", 100 * share, "%", least=50)
        yield Measurement(f"{method}: compiled / not compiled", taken / plain)
        del form
