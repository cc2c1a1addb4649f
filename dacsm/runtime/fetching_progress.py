"""What a person sees while a file is fetched: a live bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

LINE_EVERY = 30.0  # seconds between two lines where there is no terminal


class TransferProgress:
    """Counts the bytes of one file."""

    def __init__(self, name: str, bar: Progress | None) -> None:
        self.name, self.bar = name, bar
        self.task = None if bar is None else bar.add_task(name, total=None)
        self.bytes, self.total, self.last_line = 0, None, time.monotonic()

    def start(self, place: int, total: int | None) -> None:
        """A connection that begins at byte `place` of `total` was opened."""
        self.bytes, self.total = place, total
        if self.bar is not None:
            self.bar.update(self.task, completed=place, total=total)
        elif place:
            print(f"{self.name}: goes on from byte {place:,}", file=sys.stderr, flush=True)

    def advance(self, size: int) -> None:
        self.bytes += size
        if self.bar is not None:
            self.bar.update(self.task, completed=self.bytes)
        elif time.monotonic() - self.last_line > LINE_EVERY:
            self.last_line = time.monotonic()
            fraction = f" of {self.total:,} ({self.bytes / self.total:.0%})" if self.total else ""
            print(f"{self.name}: {self.bytes:,} bytes{fraction}", file=sys.stderr, flush=True)


@contextmanager
def transfer_progress(name: str) -> Iterator[TransferProgress]:
    """Progress of the transfer of a file of that name; the bar is taken away at the end."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield TransferProgress(name, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield TransferProgress(name, bar)
