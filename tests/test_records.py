"""The record of a run: what it was made from and with, what it wrote, and what it took."""

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from dacsm.ledger import provenance
from dacsm.ledger.runs import Run, git_state, recorded
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import sha256

CPU = SimpleNamespace(type="cpu")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run that reads `in` and writes the folder `out`."""
    (tmp_path / "in").write_text("data")
    place = tmp_path / "out"
    return Run("adapt", {"seed": 0}, place, tmp_path / "records/run.json", (tmp_path / "in",), (), (place,))


def writing(run: Run, text: str) -> None:
    run.place.mkdir(exist_ok=True)
    (run.place / "model").write_text(text)


def test_a_record_says_what_happened(run: Run) -> None:
    with recorded(run, {"epochs": 2}, {"dacsm/stages/adapt.py": "c0de"}, CPU) as measured:
        writing(run, "weights")
        measured["images_per_second"] = 12.5
    found = json.loads(run.record.read_text())
    assert found["stage"] == "adapt"
    assert found["arguments"] == {"seed": 0}
    assert found["inputs"] == {str(run.inputs[0]): sha256(run.inputs[0])}
    assert found["outputs"] == {str(run.place / "model"): sha256(run.place / "model")}
    assert found["code"] == {"dacsm/stages/adapt.py": "c0de"}
    assert found["measured"] == {"images_per_second": 12.5}
    assert found["settings"] == {"epochs": 2}
    assert found["versions"]["torch"]
    assert found["arithmetic"]["threads"] >= 1
    assert found["peak_memory_mb"]["ram"] > 1


def test_a_stage_without_a_model_has_no_arithmetic(run: Run) -> None:
    with recorded(run, {}, {}):
        writing(run, "table")
    found = json.loads(run.record.read_text())
    assert "arithmetic" not in found
    assert found["device"].startswith("cpu")


def test_inputs_are_those_that_the_run_began_with(run: Run) -> None:
    before = sha256(run.inputs[0])
    with recorded(run, {}, {}, CPU):
        writing(run, "weights")
        run.inputs[0].write_text("edited meanwhile")
    assert json.loads(run.record.read_text())["inputs"] == {str(run.inputs[0]): before}


@pytest.mark.parametrize("failure", [InputError("no shards"), KeyboardInterrupt()])
def test_a_failed_run_leaves_no_record_of_its_own(run: Run, failure: BaseException) -> None:
    with pytest.raises(type(failure)), recorded(run, {}, {}, CPU):
        raise failure
    assert not run.record.exists()


def test_a_failed_run_leaves_the_record_of_an_earlier_one(run: Run) -> None:
    """The record names hashes, so that it vouches for what the earlier run wrote and for nothing else."""
    with recorded(run, {}, {}, CPU):
        writing(run, "weights")
    before = run.record.read_text()
    with pytest.raises(InputError), recorded(run, {}, {}, CPU):
        raise InputError("no shards")
    assert run.record.read_text() == before


def test_git_state_looks_at_what_decides_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=tmp_path, check=True)

    (tmp_path / "dacsm").mkdir()
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "dacsm")
    assert git_state() == (None, None)
    git("init", "--quiet")
    assert git_state() == (None, None)  # no commit yet
    (tmp_path / "params.yaml").write_text("root: .")
    git("add", "--all")
    git("commit", "--quiet", "--message", "one")
    commit, clean = git_state()
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert clean
    (tmp_path / "results").mkdir()
    (tmp_path / "results/digits_table.csv").write_text("task")
    assert git_state() == (commit, True)
    (tmp_path / "dacsm/new.py").write_text("")
    assert git_state() == (commit, False)
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "inside/dacsm")
    (tmp_path / "inside/dacsm").mkdir(parents=True)
    assert git_state() == (None, None)  # that repository is another project's
    monkeypatch.setenv("PATH", "")
    assert git_state() == (None, None)
