"""Going on exactly where a killed run stopped: the state of a run in one file, saved as it trains."""

import hashlib
import io
import os
import shutil
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from dacsm.runtime.errors import InputError
from dacsm.runtime.files import remove_partials, whole_file
from dacsm.runtime.processes import first
from dacsm.runtime.progress import TrainingProgress
from dacsm.runtime.together import wait_for_all


def _save_every() -> float:
    text = os.environ.get("DACSM_SAVE_EVERY") or "600"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise InputError(f"DACSM_SAVE_EVERY is {text!r}, expected seconds, 0 or more; correct it.")
    return seconds


SAVE_EVERY = _save_every()  # seconds from one save to the next inside an epoch
SAVE_AFTER_EPOCH = min(60.0, SAVE_EVERY)  # the same at the end of an epoch, where less is to be saved
DIGEST = 64  # characters of a sha256


class Stateful(Protocol):
    """Whatever can be put back as it was: modules, optimisers, and the like of ours."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


class Generators:
    """Random generators: torch's global ones, of which drop paths are drawn, and others."""

    def __init__(self, device: torch.device, *others: torch.Generator):
        self.device, self.others = device, others

    def state_dict(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return {"torch": torch.get_rng_state(), "cuda": cuda, "others": [other.get_state() for other in self.others]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self.device)
        for other, saved in zip(self.others, state["others"], strict=True):
            other.set_state(saved)


class Resume:
    """What a killed run goes on from: a folder for each configuration of the run, named `place`-<key>.

    The order of calls is `start`, then for each epoch `start_epoch`, `end_step` at each step and `end_epoch`, and
    `finish` once all that the run makes is there. Without a place nothing is saved, and nothing is found.

    A save copies the state, and a thread writes the copy while training goes on. Used as a context, `Resume` waits at
    its end until all is written.

    The file is the sha256 of what follows, in hexadecimal, then tensors and plain values as torch saves them. It is
    written whole or not at all, and no code in it is ever run.
    """

    def __init__(self, place: Path | None = None, key: str = ""):
        self.place = place
        self.path = None if place is None else place.with_name(f"{place.name}-{key}") / "state.pt"
        self.parts: dict[str, Stateful] = {}
        self.epoch_parts: dict[str, Stateful] = {}
        self.waiting: dict[str, Any] = {}  # states of the parts of the epoch that was interrupted
        self.step = 0  # how many steps of that epoch are done
        self.saved = time.monotonic()
        self.writing: Future[None] | None = None

    def __enter__(self) -> Self:
        self.writer = ThreadPoolExecutor(1)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        self.writer.shutdown()  # once all is written
        if kind is None:
            self._wait()

    def _wait(self) -> None:
        """Wait until the last save is written; raises InputError where it could not be."""
        if self.writing is not None:
            writing, self.writing = self.writing, None
            writing.result()

    def start(self, progress: TrainingProgress, **parts: Stateful | None) -> int:
        """Bring back the parts as they were when they were last saved; returns the epoch, from 1, to go on in.

        A file that cannot be read is told on stderr, and the run starts afresh.
        """
        self.parts = {name: part for name, part in {**parts, "progress": progress}.items() if part is not None}
        if self.path is None:
            return 1
        remove_partials(self.path.parent)
        state = _read(self.path)
        wait_for_all()  # the first might remove the file before others have read it
        if state is None:
            return 1
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        self.waiting, self.step = state["epoch_parts"], state["step"]
        progress.go_on(state["epoch"], self.step)
        self.saved = time.monotonic()
        return state["epoch"]

    @property
    def inside_epoch(self) -> bool:
        """Whether the run goes on in the middle of the epoch that comes next."""
        return self.step > 0

    def start_epoch(self, **parts: Stateful) -> int:
        """Name the parts that an epoch has of its own, and bring them back; returns how many of its steps are done."""
        self.epoch_parts = parts
        for name, state in self.waiting.items():
            parts[name].load_state_dict(state)
        step, self.step, self.waiting = self.step, 0, {}
        return step

    def end_step(self, epoch: int, step: int, steps: int) -> None:
        """After `step` of an epoch's `steps`: save, if the last save is long ago.

        Raises InputError where the last one could not be written, as on a full disk.
        """
        if step < steps and time.monotonic() - self.saved >= SAVE_EVERY:
            self._save(epoch, step)

    def end_epoch(self, epoch: int) -> None:
        """After an epoch and what is measured at its end: as after a step."""
        self.epoch_parts = {}
        if time.monotonic() - self.saved >= SAVE_AFTER_EPOCH:
            self._save(epoch + 1, 0)

    def finish(self) -> None:
        """Remove the run's state, and what other configurations of the same run have left."""
        if self.place is not None and first():
            for folder in self.place.parent.glob(f"{self.place.name}-*"):
                shutil.rmtree(folder, ignore_errors=True)

    def _save(self, epoch: int, step: int) -> None:
        if self.path is None or not first():
            return
        state = {
            "epoch": epoch,
            "step": step,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "epoch_parts": {name: part.state_dict() for name, part in self.epoch_parts.items()},
        }
        self._wait()
        self.writing = self.writer.submit(_write, self.path, _copied(state))
        self.saved = time.monotonic()


def _copied(state: Any) -> Any:
    """A state that training no longer changes, on the CPU."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map(_copied, state))
    return state


def _write(path: Path, state: dict[str, Any]) -> None:
    content = io.BytesIO()  # since torch, writing to a full disk itself, hides what the system says
    torch.save(state, content)
    with whole_file(path) as partial, partial.open("wb") as file:
        file.write(hashlib.sha256(content.getbuffer()).hexdigest().encode())
        file.write(content.getbuffer())


def _read(path: Path) -> dict[str, Any] | None:
    """The state in a file of `Resume`; None where there is no such file, or none that is whole."""
    try:
        with path.open("rb") as file:
            digest = file.read(DIGEST)
            if hashlib.file_digest(file, "sha256").hexdigest().encode() != digest:
                raise ValueError("its content is not what was written")
            file.seek(DIGEST)
            return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # torch raises whatever a strange file leads it to
        reason = " ".join(str(error).split())[:100]
        print(f"dacsm: {path} cannot be read ({reason}), so that the run starts afresh.", file=sys.stderr)
        return None
