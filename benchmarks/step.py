"""A training step of CDTrans against the plain form: time, peak memory, and the share of the bare matrix rate.

python -m benchmarks.step                # DeiT-S, 8 pairs, two threads, float32 and bfloat16; with a GPU: DeiT-B
python -m benchmarks.step --device cpu   # the CPU's part also where there is a GPU
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from benchmarks.plain_step import plain_three_stream
from benchmarks.report import Measurement, Time, in_fresh_process, now, peak_bytes, report, resident_bytes
from dacsm.config.params import Model
from dacsm.methods.cdtrans.losses import cdtrans_losses
from dacsm.models.classifier import Classifier, Description
from dacsm.models.compiling import choose_compiling
from dacsm.models.precision import autocast
from dacsm.models.three_stream import Streams, three_stream

RATIO = 0.94  # of the plain form's time
CLASSES = tuple("abcdefghijkl")  # as many as VisDA has


def lean_three_stream(classifier: Classifier, source: torch.Tensor, target: torch.Tensor) -> Streams:
    """As adaptation calls it."""
    return three_stream(classifier, source, target, patches=False)


@contextmanager
def compiled(backend: str = "inductor") -> Iterator[None]:
    """What is trained inside is compiled, as where a recipe has `compile: true`."""
    choose_compiling(True, backend)
    try:
        yield
    finally:
        choose_compiling(False)


@compiled()
def compiled_three_stream(classifier: Classifier, source: torch.Tensor, target: torch.Tensor) -> Streams:
    """As adaptation calls it, compiled."""
    return lean_three_stream(classifier, source, target)


FORMS = {"plain": plain_three_stream, "ours": lean_three_stream}


@dataclass
class Steps:
    """A model with random weights, a batch of random pairs, and steps on them in any form."""

    name: str
    pairs: int
    precision: str
    device: torch.device

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        sizes = {"image_size": 224, "resize": 256, "channels": 3, "mean": (0.5,) * 3, "std": (0.2,) * 3}
        shape = dict.fromkeys(("patch_size", "dim", "depth", "heads"))
        model = Model(name=self.name, weights="none", drop_path=0.1, **sizes, **shape)
        self.classifier = Classifier(Description(model, CLASSES)).to(self.device).train()
        self.images = torch.randn(2, self.pairs, 3, 224, 224, device=self.device)
        self.labels = torch.randint(len(CLASSES), (2, self.pairs), device=self.device)
        self.parameters = [p for p in self.classifier.parameters() if p.requires_grad]
        self.optimiser = torch.optim.SGD(self.parameters, lr=1e-4, momentum=0.9, weight_decay=1e-4)

    def step(self, form: Callable[..., Streams]) -> None:
        with autocast(self.device, self.precision):
            streams = form(self.classifier, *self.images)
        total = sum(cdtrans_losses(streams, *self.labels).values())
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()

    def time(self, form: Callable[..., Streams], steps: int = 1) -> Time:
        """Of a step; on a GPU several are sent off before it is waited for, as in training."""
        self._wait()
        start = now()
        for _ in range(steps):
            self.step(form)
        self._wait()
        return (now() - start) * (1 / steps)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def operations(model: Classifier, pairs: int, lean: bool) -> float:
    """Of all matrix products of a step, a multiplication and an addition each; `lean` leaves out what is not needed.

    Going backward takes twice as many as going forward, but for the patches, whose pixels need no gradient.
    """
    backbone = model.backbone
    width, tokens = backbone.embed_dim, backbone.pos_embed.shape[1]
    patch = backbone.patch_embed.proj.weight[0].numel()
    hidden = backbone.blocks[0].mlp.fc1.out_features
    total = 2 * 2 * pairs * 2 * (tokens - 1) * patch * width  # two streams, forward and the kernel's gradient
    for block in range(len(backbone.blocks)):
        made = 1 if lean and block == len(backbone.blocks) - 1 else tokens  # tokens that come out
        forward = 2 * (made + 2 * tokens) * width * width  # queries, keys, values of source and target
        forward += 3 * (2 * made * tokens * width + made * width * width + 2 * made * width * hidden)
        total += 3 * pairs * 2 * forward
    return total + 3 * pairs * 3 * 2 * width * len(CLASSES)


def matrix_rate(precision: str, device: torch.device, side: int | None = None) -> float:
    """The best rate of a bare matrix product, in operations a second."""
    products = 20 if device.type == "cuda" else 1
    side = side or (8192 if device.type == "cuda" else 2048)
    left, right = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        start = now()
        for _ in range(products):
            left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, (now() - start).seconds / products)
    return 2 * side**3 / best


def peak_of(form: str, name: str, pairs: int, precision: str, threads: int) -> float:
    """GB that two steps take at their peak, beyond the model, its momenta and the images."""
    torch.set_num_threads(threads)
    steps = Steps(name, pairs, precision, torch.device("cpu"))
    before = resident_bytes()
    for _ in range(2):
        steps.step(FORMS[form])
    return (peak_bytes() - before) / 1e9


def on_cpu(name: str, pairs: int, precision: str, threads: int, repeats: int) -> list[Measurement]:
    """Both forms in turns, so that what else the machine does hits both alike."""
    steps = Steps(name, pairs, precision, torch.device("cpu"))
    times: dict[str, list[Time]] = {form: [] for form in FORMS}
    rates = []
    for repeat in range(repeats + 1):
        rates.append(matrix_rate(precision, steps.device))
        for form in list(FORMS)[:: 1 if repeat % 2 else -1]:
            times[form].append(steps.time(FORMS[form]))
    del times["plain"][0], times["ours"][0]  # the first warms up
    best = {form: min(time.seconds for time in found) for form, found in times.items()}
    processor = {form: min(time.processor for time in found) for form, found in times.items()}
    peak = {form: in_fresh_process(peak_of, form, name, pairs, precision, threads) for form in FORMS}
    ratios = [ours.seconds / plain.seconds for ours, plain in zip(times["ours"], times["plain"], strict=True)]
    measurements = []
    for form in FORMS:
        rate = operations(steps.classifier, pairs, lean=form == "ours") / best[form]
        measurements += [
            Measurement(f"{form}: best of {repeats} steps", best[form], "s"),
            Measurement(f"{form}: share of the bare rate", 100 * rate / max(rates), "%"),
            Measurement(f"{form}: peak memory of a step", peak[form], "GB"),
        ]
    return [
        Measurement("bare matrix product", max(rates) / 1e9, "GFLOP/s"),
        *measurements,
        Measurement("ours / plain, operations", _share(steps.classifier, pairs)),
        Measurement("ours / plain, peak memory", peak["ours"] / peak["plain"]),
        Measurement("ours / plain, median of the pairs of steps", statistics.median(ratios)),
        Measurement("ours / plain, best processor time", processor["ours"] / processor["plain"]),
        Measurement("ours / plain, best time", best["ours"] / best["plain"], "", RATIO),
    ]


def _share(classifier: Classifier, pairs: int) -> float:
    return operations(classifier, pairs, lean=True) / operations(classifier, pairs, lean=False)


def on_gpu(name: str, pairs: int, precision: str, repeats: int) -> list[Measurement]:
    """Pairs a second and the share of the record's rate: the plain form, ours, and ours compiled."""
    device = torch.device("cuda")
    rate = matrix_rate(precision, device)
    steps = Steps(name, pairs, precision, device)
    measurements = [Measurement("bare matrix product", rate / 1e12, "TFLOP/s")]
    for form, forward in {**FORMS, "ours, compiled": compiled_three_stream}.items():
        torch.cuda.reset_peak_memory_stats(device)
        steps.time(forward, 3)  # warms up, and compiles
        best = min(steps.time(forward, 5).seconds for _ in range(repeats))
        reached = operations(steps.classifier, pairs, lean=form != "plain") / best
        measurements += [
            Measurement(f"{form}: pairs a second", pairs / best),
            Measurement(f"{form}: share of the bare rate", 100 * reached / rate, "%"),
            Measurement(f"{form}: peak memory", torch.cuda.max_memory_allocated(device) / 1e9, "GB"),
        ]
    return measurements


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="one of the two on a CPU; else both")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device == "cuda":
        for pairs in (64, 128):
            found = on_gpu("deit_base_patch16_224", pairs, "bfloat16", options.repeats)
            report(f"A step of DeiT-B, bfloat16, {pairs} pairs, {torch.cuda.get_device_name()}", found)
        return 0
    missed = 0
    for precision in (options.precision,) if options.precision else ("float32", "bfloat16"):
        found = on_cpu("deit_small_patch16_224", 8, precision, options.threads, options.repeats)
        missed |= report(f"A step of DeiT-S, {precision}, 8 pairs, CPU", found)
    return missed


if __name__ == "__main__":
    sys.exit(main())
