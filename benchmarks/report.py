"""What the benchmarks share: memory of fresh processes, and a table whose bounds decide the exit code."""

import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate


@dataclass(frozen=True)
class Measurement:
    """A line of the table: what, the value and its unit, and the bound that it must not exceed, if there is one."""

    what: str
    value: float
    unit: str = ""
    bound: float | None = None

    @property
    def missed(self) -> bool:
        return self.bound is not None and not self.value <= self.bound  # also where it is not a number


@dataclass(frozen=True)
class Time:
    """Seconds that passed, and seconds of work of all threads, which other programs on the machine lengthen less."""

    seconds: float = 0.0
    processor: float = 0.0

    def __add__(self, other: "Time") -> "Time":
        return Time(self.seconds + other.seconds, self.processor + other.processor)

    def __sub__(self, other: "Time") -> "Time":
        return self + other * -1

    def __mul__(self, factor: float) -> "Time":
        return Time(self.seconds * factor, self.processor * factor)


def now() -> Time:
    """To be subtracted from a later one."""
    return Time(time.perf_counter(), time.process_time())


def report(title: str, measurements: Sequence[Measurement]) -> int:
    """Print a Markdown table; the exit code: 1 where a bound is missed."""
    rows = [
        (m.what, f"{m.value:,.4g} {m.unit}".strip(), "" if m.bound is None else f"at most {m.bound:g}", _verdict(m))
        for m in measurements
    ]
    print(f"{title} ({torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)\n")
    print(tabulate(rows, ("what", "measured", "bound", ""), tablefmt="pipe", disable_numparse=True), flush=True)
    print()
    return int(any(measurement.missed for measurement in measurements))


def _verdict(measurement: Measurement) -> str:
    if measurement.bound is None:
        return ""
    return "missed" if measurement.missed else "kept"


def in_fresh_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` returns in a process of its own, which nothing has run in before."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def resident_bytes() -> int:
    """Memory that this process has now; as `peak_bytes`, where the system is not Linux."""
    return _status("VmRSS") if sys.platform == "linux" else peak_bytes()


def peak_bytes() -> int:
    """The most memory that this process ever had."""
    if sys.platform == "linux":
        return _status("VmHWM")  # getrusage would also count what the parent had when it started this process
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
