"""What a person sees of training and of transfers: a live bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from dacsm.runtime.processes import first

T = TypeVar("T")

SHOW_EVERY = 20  # steps between two looks at the losses, since a look waits for the GPU
LINE_EVERY = 30.0  # seconds between two lines of a transfer where there is no terminal


class TrainingProgress:
    """Counts images, and shows losses, images per second and the time left."""

    def __init__(self, name: str, epochs: int, bar: Progress | None = None):
        self.name, self.epochs, self.bar = name, epochs, bar or Progress(disable=True)
        self.task = self.bar.add_task(name, status="", rate="")
        self.images, self.epoch_images, self.steps = 0, 0, 0
        self.resumed = 0  # how often the run went on after it had been killed
        self.started = self.epoch_started = time.perf_counter()

    def go_on(self, epoch: int, step: int) -> None:
        """Say that the run goes on after `step` steps of an epoch."""
        self.resumed += 1
        inside = f" and {step} steps of epoch {epoch}" if step else ""
        self._say(f"{self.name}: going on after epoch {epoch - 1} of {self.epochs}{inside}")

    def start_epoch(self, epoch: int, steps: int, done: int = 0) -> None:
        """Begin an epoch, of whose steps some may be done already."""
        self.epoch_images, self.epoch_started = 0, time.perf_counter()
        name = f"{self.name}  epoch {epoch}/{self.epochs}"
        self.bar.reset(self.task, total=steps, completed=done, description=name)

    def step(self, images: int, losses: Callable[[], Mapping[str, float]]) -> None:
        """Count one step; every so often the losses are asked for and shown, where there is a terminal."""
        self.epoch_images += images
        self.images += images
        self.steps += 1
        if not self.bar.disable:
            shown: dict[str, Any] = {"status": _losses(losses())} if self.steps % SHOW_EVERY == 1 else {}
            self.bar.update(self.task, advance=1, rate=f"{self.images_per_second:,.0f} images/s", **shown)

    def end_epoch(self, epoch: int, losses: Mapping[str, float], remark: str) -> None:
        elapsed = time.perf_counter() - self.started
        left = elapsed / epoch * (self.epochs - epoch)
        rate = f"{self.images_per_second:,.0f} images/s"
        parts = (f"{self.name}  epoch {epoch}/{self.epochs}", _losses(losses), remark, rate, f"{left:.0f} s left")
        self._say("  ".join(filter(None, parts)))

    def note(self, epoch: int, remark: str) -> None:
        """Say what is out of the ordinary in an epoch."""
        self._say(f"{self.name}  epoch {epoch}/{self.epochs}  {remark}")

    def _say(self, line: str) -> None:
        if not first():
            return
        if self.bar.disable:
            print(line, file=sys.stderr, flush=True)
        else:
            self.bar.console.print(line, highlight=False, soft_wrap=True)

    @property
    def images_per_second(self) -> float:
        return self.epoch_images / max(time.perf_counter() - self.epoch_started, 1e-9)

    @property
    def measured(self) -> dict[str, float]:
        """For the run's record: the whole run, pauses between epochs included; all parts of a resumed run."""
        seconds = time.perf_counter() - self.started
        rate = round(self.images / max(seconds, 1e-9), 1)
        measured = {"training_seconds": round(seconds, 1), "images_per_second": rate}
        return {**measured, "resumed": self.resumed} if self.resumed else measured

    def state_dict(self) -> dict[str, float]:
        return {"images": self.images, "seconds": time.perf_counter() - self.started, "resumed": self.resumed}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.images, self.resumed = int(state["images"]), int(state["resumed"])
        self.started = time.perf_counter() - state["seconds"]


class TransferProgress:
    """Counts the bytes of one file."""

    def __init__(self, name: str, bar: Progress) -> None:
        self.name, self.bar, self.task = name, bar, bar.add_task(name, total=None)
        self.bytes, self.last_line = 0, time.monotonic()
        self.total: int | None = None

    def start(self, place: int, total: int | None) -> None:
        """A connection that begins at byte `place` of `total` was opened."""
        self.bytes, self.total = place, total
        self.bar.update(self.task, completed=place, total=total)
        if self.bar.disable and place:
            print(f"{self.name}: goes on from byte {place:,}", file=sys.stderr, flush=True)

    def advance(self, size: int) -> None:
        self.bytes += size
        self.bar.update(self.task, completed=self.bytes)
        if self.bar.disable and time.monotonic() - self.last_line > LINE_EVERY:
            self.last_line = time.monotonic()
            fraction = f" of {self.total:,} ({self.bytes / self.total:.0%})" if self.total else ""
            print(f"{self.name}: {self.bytes:,} bytes{fraction}", file=sys.stderr, flush=True)


@contextmanager
def training_progress(name: str, epochs: int) -> Iterator[TrainingProgress]:
    """Progress of a training run of that name; the bar is taken away at the end."""
    with _bar(TextColumn("{task.fields[status]}  {task.fields[rate]}")) as bar:
        yield TrainingProgress(name, epochs, bar)


@contextmanager
def transfer_progress(name: str) -> Iterator[TransferProgress]:
    """Progress of the transfer of a file of that name; the bar is taken away at the end."""
    with _bar(DownloadColumn(), TransferSpeedColumn()) as bar:
        yield TransferProgress(name, bar)


@contextmanager
def counted(name: str, total: int, wanted: bool = True) -> Iterator[Callable[[Iterable[T]], Iterable[T]]]:
    """What counts things as they pass by, to be shown beside their total; the bar is taken away at the end.

    What is printed meanwhile stays on stdout, which a program may read.
    """
    with _bar(MofNCompleteColumn(), wanted=wanted, redirect_stdout=False) as bar:
        yield lambda things: bar.track(things, total=total, description=name)


def _bar(*columns: ProgressColumn, wanted: bool = True, redirect_stdout: bool = True) -> Progress:
    """A bar with these columns, which is shown on a terminal alone."""
    console = Console(stderr=True)
    shown = (TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn())
    disable = not (wanted and console.is_terminal and first())
    return Progress(*shown, console=console, transient=True, disable=disable, redirect_stdout=redirect_stdout)


def _losses(losses: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in losses.items())
