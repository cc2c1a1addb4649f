"""What the benchmarks share: memory of fresh processes, and a table whose bounds decide the exit code."""

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tabulate import tabulate


@dataclass(frozen=True)
class Measurement:
    """A line of the table: what, the value and its unit, and the most or the least that it may be, if there is one."""

    what: str
    value: float
    unit: str = ""
    bound: float | None = None
    least: float | None = None

    @property
    def missed(self) -> bool:
        too_much = self.bound is not None and not self.value <= self.bound  # also where it is not a number
        return too_much or (self.least is not None and not self.value >= self.least)

    @property
    def wanted(self) -> str:
        most = [] if self.bound is None else [f"at most {self.bound:g}"]
        return " and ".join(most + ([] if self.least is None else [f"at least {self.least:g}"]))

    @property
    def verdict(self) -> str:
        return "" if not self.wanted else "missed" if self.missed else "kept"

    @property
    def cells(self) -> tuple[str, ...]:
        """What, measured, wanted, and whether it is so."""
        return self.what, f"{self.value:,.4g} {self.unit}".strip(), self.wanted, self.verdict


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


def spread(seconds: Sequence[float]) -> str:
    """The median of some times, and between which they lie."""
    median, low, high = statistics.median(seconds), min(seconds), max(seconds)
    return f"{median:5.2f} s (median of {len(seconds)}; {low:.2f} to {high:.2f})"


def report(title: str, measurements: Sequence[Measurement]) -> int:
    """Print a Markdown table; the exit code: 1 where a bound is missed."""
    import torch  # takes seconds, and not all who are here need it

    rows = [measurement.cells for measurement in measurements]
    print(f"{title} ({torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)\n")
    print(tabulate(rows, ("what", "measured", "bound", ""), tablefmt="pipe", disable_numparse=True), flush=True)
    print()
    return int(any(measurement.missed for measurement in measurements))


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
