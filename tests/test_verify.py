"""Whether a machine gives the published bytes: what is compared, and what is said where they differ."""

import hashlib
import json
from pathlib import Path

import pytest

from dacsm.config.project import PARAMS_FILE, Project, open_project
from dacsm.ledger import verify
from dacsm.ledger.runs import run_of
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_json, write_text

HERE = {"device": "cpu (This Processor, 2 cores)", "versions": {"torch": "2.14.1"}}


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Project:
    """The demo's settings; runs are pretended, with the content of a file as its hash."""
    found = open_project(PARAMS_FILE, experiment=verify.TABLE)
    monkeypatch.chdir(tmp_path)

    def make_anew(_project: Project, again: Project, wanted: list, _cores: int) -> None:
        source = run_of(again, "pretrain", source="synthetic", seed=0)
        for run in (source, *wanted):
            for file in run.outputs:
                write_text(file, file.name)
            hashes = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in run.outputs}
            facts = {"stage": run.stage, "arguments": dict(run.arguments), "settings": {}, "code": {}, "inputs": {}}
            write_json(run.record, {**facts, **HERE, "outputs": hashes, "arithmetic": {"instructions": "AVX2"}})

    monkeypatch.setattr(verify, "make_anew", make_anew)
    return found


def published(**made_with: str) -> None:
    """What the project ships, of the same files."""
    runs = (("pretrained/synthetic/seed0", ("model.safetensors", "log.csv")),)
    runs += (
        ("adapted/cdtrans/synthetic-mnist/seed0", ("model.safetensors", "last.safetensors", "log.csv", "epochs.npz")),
    )
    names = [f"results/digits/{folder}/{name}" for folder, files in runs for name in files]
    lines = [f"{hashlib.sha256(Path(name).name.encode()).hexdigest()}  {name}" for name in names]
    first = {"processor": HERE["device"], **HERE["versions"], "instructions": "AVX2", **made_with}
    write_text(verify.FILE, "\n".join([f"# {json.dumps(first)}", *lines]) + "\n")


def test_equal_bytes_are_said_to_be_equal(project: Project) -> None:
    published()
    *runs, last = verify.verify(project, cores=1)
    assert len(runs) == 2
    assert all("as published, byte for byte" in line for line in runs)
    assert last == "this machine gives the published bytes"


def test_other_bytes_are_named_with_what_differs(project: Project) -> None:
    published(processor="cpu (Another Processor, 8 cores)", torch="2.13.0")
    text = verify.FILE.read_text()
    verify.FILE.write_text(text.replace(hashlib.sha256(b"epochs.npz").hexdigest(), "0" * 64))
    lines = verify.verify(project, cores=1)
    assert "as published" in next(lines)
    assert "epochs.npz differ" in next(lines)
    with pytest.raises(InputError) as refused:
        next(lines)
    assert "processor cpu (Another Processor, 8 cores), here cpu (This Processor, 2 cores)" in str(refused.value)
    assert "torch 2.13.0, here 2.14.1" in str(refused.value)


def test_a_damaged_list_is_refused(project: Project) -> None:
    write_text(verify.FILE, "nonsense\n")
    with pytest.raises(InputError, match="cannot be read"):
        list(verify.verify(project, cores=1))
