"""`dacsm audit` on the built project: what it says to every way in which results and their origin can fall apart."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_project import ProjectFolder

from dacsm.cli.main import main
from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.ledger import provenance
from dacsm.ledger.audit.traces import missing
from dacsm.ledger.pipeline import STAGES
from dacsm.ledger.runs import run_of
from dacsm.runtime import hashes
from dacsm.runtime.files import sha256

ADAPTED = Path("results/tiny/adapted/dacsm/synthetic-mnist/seed0")
EVALUATED = Path("results/tiny/evaluated/dacsm/synthetic-mnist/seed0")
PAGE = "results/tiny/report.html"
CHECKPOINT = ADAPTED / "model.safetensors"

pytestmark = pytest.mark.slow
Audit = Callable[..., list[dict[str, str]]]


@pytest.fixture(scope="module")
def project(built: ProjectFolder, tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    return built.copy(tmp_path_factory.mktemp("audit"))


@pytest.fixture
def audit(project: ProjectFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Audit:
    """What an audit of the project finds."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr(provenance, "PACKAGE", project.folder / "dacsm")

    def findings(*arguments: str) -> list[dict[str, str]]:
        code = main(["audit", "--json", *arguments])
        found = json.loads(capsys.readouterr().out)["findings"]
        assert code == (1 if found else 0)
        return found

    return findings


@pytest.fixture
def changed(project: ProjectFolder) -> Iterator[Callable[[Path], Path]]:
    """A file of the project that may be changed, and is as before at the end."""
    kept = {}

    def keep(path: Path) -> Path:
        kept[path] = project.folder / "kept"
        shutil.copy2(project.folder / path, kept[path])
        return project.folder / path

    yield keep
    for path, copy in kept.items():
        shutil.move(copy, project.folder / path)


def kinds(findings: list[dict[str, str]]) -> dict[str, set[str]]:
    """The results that something was found of, by kind."""
    return {kind: {f["result"] for f in findings if f["kind"] == kind} for kind in {f["kind"] for f in findings}}


def test_nothing_is_found_of_what_snakemake_made(audit: Audit, project: ProjectFolder) -> None:
    assert audit() == audit("--deep") == []
    printed = project.run("python", "-m", "dacsm", "audit")
    assert printed == "dacsm audit: 14 results looked at, nothing found.\n"


def test_a_table_that_was_made_without_its_page_is_whole(audit: Audit, project: ProjectFolder) -> None:
    page, record = project.folder / PAGE, project.folder / "results/tiny/records/summarised.json"
    kept = {path: path.read_bytes() for path in (page, record)}
    page.unlink()
    assert kinds(audit()) == {"missing": {PAGE}}  # it was made once
    record.unlink()
    assert audit() == []
    assert kinds(audit("--phase", "summarised")) == {"missing": {PAGE}}
    for path, content in kept.items():
        path.write_bytes(content)


@pytest.mark.parametrize("stage", [stage.name for stage in STAGES.values() if not stage.optional])
def test_cards_know_the_inputs_and_outputs_that_rules_have(audit: Audit, project: ProjectFolder, stage: str) -> None:
    used, made = project.files_of(stage)
    records = [json.loads(path.read_text()) for path in (project.folder / "results/tiny/records").rglob("*.json")]
    records = [record for record in records if record["stage"] == stage]
    assert {path for record in records for path in record["inputs"]} == used
    assert {path for record in records for path in record["outputs"]} >= made


def test_a_byte_changed_under_its_old_time_is_noticed(audit: Audit, changed: Callable[[Path], Path]) -> None:
    path = changed(CHECKPOINT)
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = kinds(audit())
    assert found == {"output": {str(CHECKPOINT)}, "input": {str(EVALUATED)}}


def test_metrics_edited_by_hand_are_noticed_twice(audit: Audit, changed: Callable[[Path], Path]) -> None:
    path = changed(EVALUATED / "metrics.json")
    metrics = json.loads(path.read_text())
    metrics["selected"]["overall"] = 99.0
    path.write_text(json.dumps(metrics, indent=2) + "\n")
    found = audit()
    assert kinds(found) == {
        "output": {str(EVALUATED / "metrics.json")},
        "numbers": {str(EVALUATED / "metrics.json")},
        "input": {"results/tiny_table.csv", PAGE},
    }
    assert "says selected.overall 99.0, where its predictions give" in next(
        f["text"] for f in found if f["kind"] == "numbers"
    )


def test_a_table_of_numbers_from_different_processors_is_noticed(audit: Audit, changed: Callable[[Path], Path]) -> None:
    path = changed(Path("results/tiny/records/adapted/dacsm/synthetic-mnist/seed1.json"))
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"device": "cpu (AMD EPYC 9R14, 64 cores)"}))
    assert audit() == []  # its arithmetic is portable
    path.write_text(json.dumps(record | {"device": "NVIDIA H100 80GB HBM3"}))
    (found,) = audit()
    assert (found["kind"], found["result"]) == ("device", "results/tiny_table.csv")
    assert "different kinds of processors, 7 on a CPU in portable arithmetic, such as " in found["text"]
    assert "and 1 on NVIDIA H100 80GB HBM3, such as results/tiny/adapted/dacsm/synthetic-mnist/seed1;" in found["text"]


@pytest.mark.parametrize(
    "name", ["tiny_table.csv", "tiny_table.md", "tiny_table.tex", "tiny_validators.csv", "tiny_metrics.json"]
)
def test_a_table_whose_record_was_made_to_fit_is_noticed(
    audit: Audit, changed: Callable[[Path], Path], project: ProjectFolder, name: str
) -> None:
    path = changed(Path("results") / name)
    text = path.read_text()
    digits = next(word for word in re.split(r"[\s,|&$\\]+", text) if word.count(".") == 1)
    path.write_text(text.replace(digits, "99.9", 1))
    assert kinds(audit()) == {"output": {f"results/{name}"}, "numbers": {f"results/{name}"}, "input": {PAGE}}
    record = project.folder / "results/tiny/records/tabled.json"
    before = record.read_text()
    content = json.loads(before)
    content["outputs"][f"results/{name}"] = sha256(path)
    record.write_text(json.dumps(content))
    try:
        assert kinds(audit()) == {"numbers": {f"results/{name}"}, "input": {PAGE}}
    finally:
        record.write_text(before)


def test_params_edited_back_and_forth(audit: Audit, project: ProjectFolder) -> None:
    with project.setting("adapt.methods.dacsm.style.weight", 2.0):
        found = audit()
        assert kinds(found) == {"settings": {str(ADAPTED), str(ADAPTED.with_name("seed1"))}}
        text = "was made with adapt.methods.dacsm.style.weight 1.0, where the settings now say 2.0"
        assert all(text in finding["text"] for finding in found)
    assert audit() == []


def test_code_counts_where_it_does_a_stages_work(audit: Audit, project: ProjectFolder) -> None:
    with project.edited("dacsm/stages/table.py", '"""', '# A comment.\n"""More. '):
        assert audit() == []
    with (
        project.edited("dacsm/stages/table.py", "def table(", "EDITED = 1\n\n\ndef table("),
        project.edited("dacsm/cli/main.py", "def main(", "EDITED = 1\n\n\ndef main("),
    ):
        found = audit()
    assert kinds(found) == {"code": {"results/tiny_table.csv"}}
    assert "other code than there is now in dacsm/stages/table.py" in found[0]["text"]


def test_results_of_another_run_are_noticed(
    audit: Audit, changed: Callable[[Path], Path], project: ProjectFolder
) -> None:
    """A checkpoint and even its record, copied from elsewhere."""
    path = changed(CHECKPOINT)
    shutil.copy(project.folder / ADAPTED.with_name("seed1") / CHECKPOINT.name, path)
    record = project.folder / "results/tiny/records/adapted/dacsm/synthetic-mnist/seed0.json"
    before = record.read_text()
    record.write_text(record.with_name("seed1.json").read_text())
    try:
        found = kinds(audit())
    finally:
        record.write_text(before)
    assert found == {"record": {str(ADAPTED)}, "input": {str(EVALUATED)}}


@pytest.mark.parametrize("content", [None, "{}", "not JSON", "[]"])
def test_a_result_without_a_record_is_in_doubt(audit: Audit, project: ProjectFolder, content: str | None) -> None:
    record = project.folder / "results/tiny/records/pretrained/synthetic/seed0.json"
    before = record.read_text()
    record.unlink() if content is None else record.write_text(content)
    try:
        assert kinds(audit()) == {"record": {"results/tiny/pretrained/synthetic/seed0"}}
    finally:
        record.write_text(before)


@pytest.mark.parametrize(
    "file", ["data/shards/tiny/mnist/000000.tar", "data/raw/tiny/synthetic.npz", "data/shards/tiny/mnist/offsets.npy"]
)
def test_shards_and_archives_are_held_to_their_index_and_receipt(
    audit: Audit, changed: Callable[[Path], Path], file: str
) -> None:
    path = changed(Path(file))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert any(finding["kind"] == "data" and file in finding["text"] for finding in audit())


def test_an_archive_that_was_removed_is_no_finding(audit: Audit, changed: Callable[[Path], Path]) -> None:
    changed(Path("data/raw/tiny/synthetic.npz")).unlink()
    assert audit() == []


def test_data_that_is_not_here_is_one_finding_a_phase(audit: Audit, project: ProjectFolder) -> None:
    folders = [project.folder / "data/shards", project.folder / "results/tiny/adapted"]
    for folder in folders:
        folder.rename(folder.with_name("hidden"))
    try:
        found = kinds(audit())
    finally:
        for folder in folders:
            folder.with_name("hidden").rename(folder)
    assert found == {"missing": {"data/shards", "results/tiny/adapted"}}


@pytest.mark.parametrize(("stage", "stored"), [("adapt", True), ("explain", False), ("export", False)])
def test_dvc_pull_is_advised_for_what_dvc_tracks(
    tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, stage: str, stored: bool
) -> None:
    project = Project(tiny_params, tiny_dataset, Paths(tmp_path))
    run = run_of(project, stage, method="dacsm", task="synthetic-mnist", seed=0)
    assert ("dvc pull" in missing(run.outputs[0], run).text) == stored


def test_one_phase_alone(audit: Audit, changed: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]) -> None:
    changed(CHECKPOINT).write_bytes(b"")
    assert audit("--phase", "pretrained") == []
    assert kinds(audit("--phase", "adapted")) == {"output": {str(CHECKPOINT)}}
    assert main(["audit", "--phase", "adapt"]) == 2
    assert "expected one of downloaded, sharded" in capsys.readouterr().err


def test_bad_input_has_a_code_of_its_own(audit: Audit, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "nothing"]) == 2
    assert "experiments has no entry for 'nothing'; it has " in capsys.readouterr().err
    assert main(["audit", "--dataset", "nothing"]) == 2
    assert "experiments has no entry of the dataset 'nothing'" in capsys.readouterr().err


def test_a_second_audit_reads_only_what_changed(
    audit: Audit, changed: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "SETTLED", -1.0)  # as if all had been written long ago
    read: list[Path] = []
    monkeypatch.setattr(hashes, "sha256", lambda path: read.append(path) or sha256(path))
    audit("--deep")
    first = len(read)
    assert first > 50
    audit()
    assert len(read) == first
    path = changed(CHECKPOINT)
    path.write_bytes(path.read_bytes())
    audit()
    assert [file.name for file in read[first:]] == [CHECKPOINT.name]
