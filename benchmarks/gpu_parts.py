"""The parts of `benchmarks.gpu`, in their order, and how long each may take."""

import gc
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks import pairing
from benchmarks.gpu_sizes import Sizes
from benchmarks.gpu_steps import compiled_time, environment, step_time
from benchmarks.gpu_training import feature_pass, loader, training, waiting
from benchmarks.photographs import PROJECT
from benchmarks.report import Measurement


def tests(_sizes: Sizes) -> Iterator[Measurement]:
    """The tests that are marked `gpu`."""
    files = [str(path) for path in sorted((PROJECT / "tests").glob("test_*.py")) if "mark.gpu" in path.read_text()]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "tests.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--tb=short"]
        subprocess.run([*command, f"--junitxml={report}", *files], cwd=PROJECT, check=False)
        cases = list(ElementTree.parse(report).iter("testcase"))
    for outcome in ("failure", "error", "skipped"):
        bad = [case for case in cases if case.find(outcome) is not None]
        yield Measurement(f"tests: {outcome}", len(bad), "", None if outcome == "skipped" else 0)
        for case in bad:
            reason = re.sub(r"\s+", " ", case.find(outcome).get("message") or "")[:200]
            yield Measurement(f"{outcome}: {case.get('name')}: {reason}", float(case.get("time", 0)), "s")
    yield Measurement("tests: all", len(cases))


def neighbours(sizes: Sizes) -> Iterator[Measurement]:
    """The search for pairs at VisDA's size."""
    shape = (300, 200) if sizes.dry else pairing.VISDA
    held = torch.cuda.memory_allocated(sizes.device) / 1e9 if sizes.device.type == "cuda" else 0.0
    _memory, on_gpu, spent, bare = pairing.search(shape, 1 if sizes.dry else 8, str(sizes.device))
    yield Measurement(f"search among {shape[0]:,} × {shape[1]:,}", spent.seconds, "s")
    yield Measurement("its matrix products alone", bare.seconds, "s")
    yield Measurement("peak memory on the GPU", on_gpu - held, "GB", pairing.MEMORY)
    wrong = pairing.disagreements((300, 200) if sizes.dry else pairing.DENSE, str(sizes.device), None)
    yield Measurement("neighbours other than those of the whole matrix", wrong, "", 0)


@dataclass(frozen=True)
class Part:
    """A part: what it is called in the page, what it does, and the seconds that it may take."""

    title: str
    work: Callable[[Sizes], Iterator[Measurement]]
    limit: float


def _steps(size: str, pairs: int) -> Part:
    return Part(f"A step of DeiT, {size}, {pairs} pairs", partial(step_time, size=size, pairs=pairs), 90)


def _compiled(size: str, pairs: int) -> Part:
    title = f"A step of DeiT, {size}, {pairs} pairs, its blocks compiled"
    return Part(title, partial(compiled_time, size=size, pairs=pairs), 150)


def forget(device: torch.device) -> bool:
    """Free what a part has left on the GPU; whether that failed, as it does after most errors of CUDA."""
    torch.compiler.reset()
    gc.collect()
    if device.type != "cuda":
        return False
    try:
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    except RuntimeError:
        return True
    return False


# What says most comes first, since time may not do for all.
PARTS = {
    "environment": Part("The machine", environment, 60),
    "step_base_64": _steps("base", 64),
    "training": Part("Training on made-up photographs, DeiT-B, 64 pairs", training, 150),
    "waiting": Part("Waits in a step", waiting, 90),
    "compiled_base_64": _compiled("base", 64),
    "tests": Part("Tests on the GPU", tests, 120),
    "step_base_128": _steps("base", 128),
    "features": Part("Features of a domain", feature_pass, 60),
    "pairing": Part("Pairing at the size of VisDA-2017", neighbours, 60),
    "loader": Part("The loader", loader, 120),
    "step_small_64": _steps("small", 64),
    "step_small_128": _steps("small", 128),
    "compiled_base_128": _compiled("base", 128),
    "compiled_small_64": _compiled("small", 64),
}
