"""A run that is stopped at any moment goes on, and ends in the same bytes as one that never was."""

import errno
import hashlib
import io
import os
import pickle
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dacsm.runtime.resume as resume_module
from dacsm.adaptation import history as history_module
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.models.classifier import load_checkpoint, save_checkpoint
from dacsm.runtime.device import choose_compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import sha256
from dacsm.runtime.progress import TrainingProgress
from dacsm.runtime.resume import Resume
from dacsm.stages import adapt as adapt_module
from dacsm.stages import pretrain as pretrain_module

TASK = "synthetic-optdigits"
STAGES = ("pretrain", "adapt")
NEVER = 1e9  # seconds
MOMENTS = 150  # more than any of the runs here has


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@dataclass
class Moments:
    """Counts the moments at which a run may be killed, and kills it at one of them."""

    kill_at: int | None = None
    seen: list[str] = field(default_factory=list)

    def pass_by(self, name: str) -> None:
        self.seen.append(name)
        if len(self.seen) == self.kill_at:
            raise Killed

    def around(self, name: str, function: Callable) -> Callable:
        def watched(*arguments, **options):
            self.pass_by(f"before {name}")
            found = function(*arguments, **options)
            self.pass_by(f"after {name}")
            return found

        return watched


class AtOnce(Executor):
    """Does in this thread what another one would do."""

    def submit(self, function, *arguments):
        done = Future()
        done.set_result(function(*arguments))
        return done


@contextmanager
def watched(moments: Moments, save_every: float) -> Iterator[None]:
    """Moments pass at each step, each look at a domain, and each file that is written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume_module, "SAVE_EVERY", save_every)
        patch.setattr(resume_module, "SAVE_AFTER_EPOCH", 0.0)
        patch.setattr(resume_module, "ThreadPoolExecutor", lambda threads: AtOnce())  # so that moments have an order
        patch.setattr(TrainingProgress, "step", moments.around("step", TrainingProgress.step))
        for module, name in ((adapt_module, "predict"), (adapt_module, "accuracy"), (pretrain_module, "accuracy")):
            patch.setattr(module, name, moments.around("predict", getattr(module, name)))
        patch.setattr(Path, "replace", moments.around("rename", Path.replace))
        patch.setattr(history_module, "write_csv", moments.around("log", history_module.write_csv))
        yield


@pytest.fixture(scope="module")
def small(tiny_params):
    """Params with several steps an epoch, epochs without a refresh, a weight average, and every part of DACSM."""
    adapt, pretrain = tiny_params.adapt.recipes["tiny"], tiny_params.pretrain["tiny"]
    changes = {"epochs": 4, "batch_size": 4, "max_pairs": 14, "refresh_epochs": 2, "averaging": 0.5}
    recipes = {"tiny": adapt.model_copy(update=changes)}
    return tiny_params.model_copy(
        update={
            "adapt": tiny_params.adapt.model_copy(update={"recipes": recipes}),
            "pretrain": {"tiny": pretrain.model_copy(update={"epochs": 3, "batch_size": 12})},
        }
    )


@pytest.fixture(scope="module")
def start(small, tiny_dataset, tiny_paths, tmp_path_factory) -> Callable[..., dict[str, str]]:
    """Run a stage under a root of its own; gives the hashes of what it wrote."""
    base = Paths(tmp_path_factory.mktemp("base"))
    (base.root / "data").symlink_to(tiny_paths.root / "data")
    longer = small.pretrain["tiny"].model_copy(update={"epochs": 25})  # so that many labels agree
    params = small.model_copy(update={"pretrain": {"tiny": longer}})
    pretrain_module.pretrain(Project(params, tiny_dataset, base), "synthetic", 0, choose_compute("cpu"))

    def run(stage: str, root: Path, resume: Resume | None = None) -> dict[str, str]:
        root.mkdir(exist_ok=True)
        paths = Paths(root)
        if not (root / "data").exists():
            (root / "data").symlink_to(tiny_paths.root / "data")
        if stage == "pretrain":
            output = paths.pretrained("tiny", "synthetic", 0)
            arguments = (Project(small, tiny_dataset, paths), "synthetic", 0, choose_compute("cpu"), resume)
            measured = pretrain_module.pretrain(*arguments)
        else:
            source = paths.pretrained("tiny", "synthetic", 0)
            source.mkdir(parents=True, exist_ok=True)
            shutil.copy(base.pretrained("tiny", "synthetic", 0) / "model.safetensors", source)
            output = paths.adapted("tiny", "dacsm", TASK, 0)
            arguments = (Project(small, tiny_dataset, paths), "dacsm", TASK, 0, choose_compute("cpu"), resume)
            measured = adapt_module.adapt(*arguments)
        assert "training_seconds" in measured
        return {path.name: sha256(path) for path in output.iterdir()}

    return run


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory) -> dict[str, dict[str, str]]:
    """What each stage writes when nothing interrupts it."""
    return {stage: start(stage, tmp_path_factory.mktemp(stage)) for stage in STAGES}


def killed(start, stage: str, root: Path, kill_at: int, save_every: float) -> list[str]:
    """Run until the moment comes; the moments that passed."""
    moments = Moments(kill_at)
    with watched(moments, save_every), pytest.raises(Killed):
        start(stage, root, Resume(root / "resume"))
    return moments.seen


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("save_every", [0.0, NEVER])
def test_saving_changes_nothing(stage, save_every, start, whole, tmp_path):
    moments = Moments()
    with watched(moments, save_every):
        assert start(stage, tmp_path, Resume(tmp_path / "resume")) == whole[stage]
    assert len(moments.seen) < MOMENTS
    assert moments.seen.count("after step") > 8  # several an epoch
    assert (moments.seen.count("after rename") > 10) == (save_every == 0)


@settings(max_examples=15)
@given(
    stage=st.sampled_from(STAGES),
    kills=st.lists(st.integers(1, MOMENTS), min_size=1, max_size=4),
    save_every=st.sampled_from([0.0, NEVER]),
)
def test_killed_anywhere_it_ends_in_the_same_bytes(stage, kills, save_every, start, whole, tmp_path_factory):
    root = tmp_path_factory.mktemp("killed")
    finished = None
    for kill_at in (*kills, None):
        with watched(Moments(kill_at), save_every):
            try:
                finished = start(stage, root, Resume(root / "resume"))
            except Killed:
                continue
            break
    assert finished == whole[stage]
    shutil.rmtree(root)


@pytest.mark.parametrize("stage", STAGES)
def test_every_step_is_taken_once(stage, start, whole, tmp_path, capsys):
    """With a save after each step nothing is done again: the steps of both parts add up."""
    moments = Moments()
    with watched(moments, 0.0):
        start(stage, tmp_path / "whole", Resume(tmp_path / "whole/resume"))
    steps = moments.seen.count("before step")
    at = [number for number, name in enumerate(moments.seen, start=1) if name == "before step"][steps // 2]
    before = killed(start, stage, tmp_path / "killed", at, 0.0)
    moments = Moments()
    with watched(moments, 0.0):
        assert start(stage, tmp_path / "killed", Resume(tmp_path / "killed/resume")) == whole[stage]
    assert before.count("after step") + moments.seen.count("after step") == steps
    assert " seed 0: going on after epoch " in capsys.readouterr().err


def test_without_saves_inside_an_epoch_the_last_epoch_counts(start, whole, tmp_path, capsys):
    moments = Moments()
    with watched(moments, NEVER):
        start("adapt", tmp_path / "whole", Resume(tmp_path / "whole/resume"))
    third_save = [number for number, name in enumerate(moments.seen, start=1) if name == "after rename"][2]
    killed(start, "adapt", tmp_path / "killed", third_save + 3, NEVER)  # in the fourth epoch
    capsys.readouterr()
    assert start("adapt", tmp_path / "killed", Resume(tmp_path / "killed/resume")) == whole["adapt"]
    first = capsys.readouterr().err.splitlines()[0]
    assert first == f"adapt tiny dacsm {TASK} seed 0: going on after epoch 3 of 4"


def test_a_run_killed_while_it_writes_its_results_trains_no_more(start, whole, tmp_path):
    moments = Moments()
    with watched(moments, NEVER):
        start("adapt", tmp_path / "whole", Resume(tmp_path / "whole/resume"))
    log = moments.seen.index("after log") + 1
    for at in range(log, len(moments.seen), 2):
        root = tmp_path / str(at)
        killed(start, "adapt", root, at, NEVER)
        again = Moments()
        with watched(again, NEVER):
            assert start("adapt", root, Resume(root / "resume")) == whole["adapt"]
        assert "before step" not in again.seen


def test_what_is_measured_covers_all_parts(start, tmp_path, small, tiny_dataset, monkeypatch):
    monkeypatch.setattr(resume_module, "SAVE_AFTER_EPOCH", 0.0)
    killed(start, "adapt", tmp_path, 20, 0.0)
    state = Resume(tmp_path / "resume")
    arguments = (Project(small, tiny_dataset, Paths(tmp_path)), "dacsm", TASK, 0, choose_compute("cpu"))
    measured = adapt_module.adapt(*arguments, state)
    assert measured["resumed"] == 1
    again = adapt_module.adapt(*arguments, state)  # nothing is left to train
    assert again["resumed"] == 2
    saved = torch.load(io.BytesIO((tmp_path / "resume-/state.pt").read_bytes()[64:]), weights_only=True)
    before = saved["parts"]["progress"]["seconds"]
    assert before > 0
    assert again["training_seconds"] >= round(before, 1)
    assert "resumed" not in adapt_module.adapt(*arguments)


def test_only_tensors_and_plain_values_are_saved(start, tmp_path):
    killed(start, "adapt", tmp_path, 30, 0.0)
    content = (tmp_path / "resume-/state.pt").read_bytes()
    assert hashlib.sha256(content[64:]).hexdigest().encode() == content[:64]
    state = torch.load(io.BytesIO(content[64:]), weights_only=True)
    assert set(state["parts"]) == {
        "classifier",
        "method",
        "average",
        "optimiser",
        "generators",
        "history",
        "progress",
    }


class Code:
    def __reduce__(self):
        return os.system, ("echo the code ran",)


def _with_code() -> bytes:
    content = io.BytesIO()
    torch.save({"epoch": 2, "parts": Code()}, content, pickle_module=pickle)
    return hashlib.sha256(content.getvalue()).hexdigest().encode() + content.getvalue()


DAMAGES = {
    "empty": lambda content: b"",
    "short": lambda content: content[:-1],
    "cut in the digest": lambda content: content[:20],
    "one bit": lambda content: content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
    "other": lambda content: b"this is no state",
    "code": lambda content: _with_code(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_starts_afresh_with_a_line(damage, start, whole, tmp_path, capfd):
    killed(start, "adapt", tmp_path, 30, 0.0)
    path = tmp_path / "resume-/state.pt"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    capfd.readouterr()
    assert start("adapt", tmp_path, Resume(tmp_path / "resume")) == whole["adapt"]
    printed = capfd.readouterr()
    first = printed.err.splitlines()[0]
    assert first.startswith(f"dacsm: {path} cannot be read (")
    assert first.endswith("so that the run starts afresh.")
    assert "going on" not in printed.err
    assert "the code ran" not in printed.out


def test_another_configuration_starts_afresh(start, whole, tmp_path, capsys):
    killed(start, "adapt", tmp_path, 30, 0.0)
    assert start("adapt", tmp_path, Resume(tmp_path / "resume", "other")) == whole["adapt"]
    assert "going on" not in capsys.readouterr().err


def test_what_is_saved_is_not_what_training_goes_on_to_change(tmp_path, monkeypatch):
    """The copy is made before the save returns, though the thread that writes it may be late."""
    monkeypatch.setattr(resume_module, "SAVE_AFTER_EPOCH", 0.0)
    may_write, write = Event(), resume_module._write

    def late(*arguments):
        may_write.wait()
        write(*arguments)

    monkeypatch.setattr(resume_module, "_write", late)
    layer, saved = torch.nn.Linear(2, 2), Resume(tmp_path / "run")
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    with saved:
        assert saved.start(TrainingProgress("", 2), layer=layer) == 1
        saved.end_epoch(1)
        torch.nn.init.zeros_(layer.weight)
        assert not saved.path.exists()
        may_write.set()
    again = torch.nn.Linear(2, 2)
    assert Resume(tmp_path / "run").start(TrainingProgress("", 2), layer=again) == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in again.state_dict().items())


def test_a_run_saves_by_the_clock(tmp_path, monkeypatch):
    """Short epochs are not saved one by one."""
    times, written = iter(range(0, 10_000, 7)), []
    monkeypatch.setattr(resume_module, "time", SimpleNamespace(monotonic=lambda: next(times)))
    monkeypatch.setattr(resume_module, "_write", lambda path, state: written.append((state["epoch"], state["step"])))
    saved = Resume(tmp_path / "run")
    saved.start(TrainingProgress("", 40))
    with saved:
        for epoch in range(1, 31):
            saved.end_epoch(epoch)
    assert len(written) == 3
    assert all(step == 0 for _epoch, step in written)


def test_success_removes_the_state_and_that_of_other_configurations(tmp_path):
    for name in ("tiny-seed1-aa", "tiny-seed1-bb", "tiny-seed10-aa", "tiny-seed2-aa"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state.pt").write_text("")
    Resume(tmp_path / "tiny-seed1", "aa").finish()
    Resume(tmp_path / "never-started", "aa").finish()
    assert {path.name for path in tmp_path.iterdir()} == {"tiny-seed10-aa", "tiny-seed2-aa"}


def test_a_partial_file_that_a_kill_left_is_removed(start, tmp_path):
    killed(start, "adapt", tmp_path, 30, 0.0)
    partial = tmp_path / "resume-/.state.pt.abc.partial"
    partial.write_text("half")
    start("adapt", tmp_path, Resume(tmp_path / "resume"))
    assert not partial.exists()


def test_a_full_disk_ends_in_a_sentence_and_keeps_the_last_state(start, whole, tmp_path, monkeypatch):
    killed(start, "adapt", tmp_path, 30, 0.0)
    before = sha256(tmp_path / "resume-/state.pt")

    class Full(io.BytesIO):
        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(resume_module, "SAVE_AFTER_EPOCH", 0.0)
    with monkeypatch.context() as patch:
        full = lambda path, *mode, **rest: (  # noqa: E731
            Full() if path.name.startswith(".state.pt") else opened(path, *mode, **rest)
        )
        patch.setattr(Path, "open", full)
        with pytest.raises(InputError, match=r"state\.pt cannot be written: No space left on device; free the place"):
            start("adapt", tmp_path, Resume(tmp_path / "resume"))
    assert sha256(tmp_path / "resume-/state.pt") == before
    assert [path.name for path in (tmp_path / "resume-").iterdir()] == ["state.pt"]
    assert start("adapt", tmp_path, Resume(tmp_path / "resume")) == whole["adapt"]


@pytest.fixture
def little_disk(tmp_path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(start, whole, tmp_path, little_disk, monkeypatch):
    monkeypatch.setattr(resume_module, "SAVE_AFTER_EPOCH", 0.0)
    with pytest.raises(InputError, match=r"state\.pt cannot be written: No space left on device"):
        start("adapt", tmp_path / "run", Resume(little_disk / "resume"))
    root = tmp_path / "whole"
    start("pretrain", root)
    classifier = load_checkpoint(Paths(root).pretrained("tiny", "synthetic", 0) / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors cannot be written: No space left on device"):
        save_checkpoint(little_disk / "model.safetensors", classifier.description, classifier.state_dict())
    assert not list(little_disk.rglob("*.safetensors"))
    assert not list(little_disk.rglob(".*.partial"))
