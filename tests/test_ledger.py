"""The ledger holds: through clones, checkouts, edits, kills, and two people at once.

These are the acceptance checks of the design that joins Snakemake with DVC, with the real Snakefile and dvc.yaml, on
the tiny project. `changed` has a second commit, run2, in which one setting of one method differs.
"""

import csv
import os
import re
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from tiny_project import BIN, CHECKOUT, ProjectFolder

from dacsm.cli.main import main
from dacsm.ledger.pipeline import STAGES
from dacsm.runtime.files import sha256

NOTHING = "Nothing to be done"
CLEAN = "Data and pipelines are up to date."
CHECKPOINT = Path("results/tiny/adapted/dacsm/synthetic-mnist/seed0/model.safetensors")
WEIGHT = "adapt.methods.dacsm.mix_cross_entropy"
METHOD = {"adapt": 2, "evaluate": 2, "table": 1, "summarise": 1}  # the jobs of one method with two seeds

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def changed(built: ProjectFolder, tmp_path_factory: pytest.TempPathFactory) -> ProjectFolder:
    """A clone of the built project: one method's setting was edited, `dvc repro` made it, and this is run2."""
    clone = built.clone(tmp_path_factory.mktemp("changed"))
    assert_up_to_date(clone)  # checks 1 and 2: nothing to do after `dvc pull`
    set_weight(clone, 20.0)
    assert clone.jobs() == METHOD  # check 3
    assert stages(clone.run("dvc", "status")) == ["adapt"]
    assert made(clone.run("dvc", "repro")) == METHOD  # check 4
    assert_up_to_date(clone)
    clone.commit("run2")
    clone.git("tag", "run2")
    return clone


def set_weight(project: ProjectFolder, weight: float) -> None:
    path = project.folder / "params.yaml"
    content = yaml.safe_load(path.read_text())
    content["adapt"]["methods"]["dacsm"]["mix_cross_entropy"] = weight
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def assert_up_to_date(project: ProjectFolder) -> None:
    """For Snakemake, for DVC, and for the audit."""
    assert NOTHING in project.snakemake("-n")
    assert project.run("dvc", "status").strip() == CLEAN
    assert "nothing found" in project.run("python", "-m", "dacsm", "audit")


def stages(status: str) -> list[str]:
    return re.findall(r"^(\w+)@tiny:", status, flags=re.MULTILINE)


def made(printed: str) -> dict[str, int]:
    """How many jobs of each rule were run, without the targets of phases."""
    rules = re.findall(r"^(?:local)?rule (\w+):|^Job \d+: (\w+): ", printed, flags=re.MULTILINE)
    names = [rule or job for rule, job in rules]
    return {rule: names.count(rule) for rule in dict.fromkeys(names) if not rule.startswith(("tiny", "all"))}


def test_a_clone_that_changed_one_setting(changed: ProjectFolder) -> None:
    """Checks 1 to 4; and what git is left with is what docs/pipeline.md says to commit."""
    listed = changed.git("show", "--stat=200", "--name-only", "--format=", "run1").splitlines()
    places = {re.sub(r"(metadata|receipts|records|plots)/.*", r"\1", name) for name in listed}
    assert places == {
        ".snakemake/metadata",
        "data/raw/tiny/receipts",
        "dvc.lock",
        "results/tiny/records",
        "results/tiny/plots",
        "results/tiny_costs.csv",
        "results/tiny_differences.csv",
        "results/tiny_metrics.json",
        "results/tiny_table.csv",
        "results/tiny_table.md",
        "results/tiny_table.tex",
        "results/tiny/report.html",
        "results/tiny_validators.csv",
    }


def test_after_snakemake_dvc_only_records(built: ProjectFolder) -> None:
    """Check 5."""
    recorded = (built.folder.parent / "recorded.txt").read_text()
    assert recorded.count(NOTHING) == 7  # one a stage: Snakemake had done it all
    assert recorded.count("nothing found") == 7
    assert_up_to_date(built)


def test_to_an_older_commit_and_back(changed: ProjectFolder) -> None:
    """Check 6."""
    try:
        for tag in ("run1", "run2"):
            changed.git("checkout", "--quiet", tag)
            changed.run("dvc", "checkout")
            assert_up_to_date(changed)
    finally:
        changed.git("checkout", "--quiet", "run2")
        changed.run("dvc", "checkout")


def test_two_commits_are_compared(changed: ProjectFolder, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Check 7, and `dacsm compare` on top of it."""
    metrics = changed.run("dvc", "metrics", "diff", "run1", "run2")
    rows = re.findall(r"results/tiny_metrics.json +synthetic-mnist\.(\w+)\.(\S+)", metrics)
    assert {method for method, _cell in rows} == {"dacsm"}
    params = changed.run("dvc", "params", "diff", "run1", "run2").strip().splitlines()
    assert params[-1].split() == ["params.yaml", WEIGHT, "1.0", "20.0"]
    assert len([line for line in params if "params.yaml" in line]) == 1

    monkeypatch.chdir(changed.folder)
    assert main(["compare", "run1", "run2"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("tiny  synthetic-mnist  ") == 1
    assert f"made with  {WEIGHT}  1.0 → 20.0" in printed
    assert "code of" not in printed
    for _method, cell in rows:
        assert cell.removeprefix("per_class.") in printed
    assert main(["compare", "run1", "run1", "tiny"]) == 0
    assert "tiny: no cell changed" in capsys.readouterr().out
    for bad, sentence in ((["run1", "run3"], "'run3' is no commit"), (["run1", "run2", "visda"], "neither run1 nor")):
        assert main(["compare", *bad]) == 2
        assert sentence in capsys.readouterr().err


def test_times_mean_nothing(changed: ProjectFolder) -> None:
    """Check 8."""
    files = [
        path for top in ("data", "results", "dacsm") for path in (changed.folder / top).rglob("*") if path.is_file()
    ]
    for path in files:
        path.touch()
    assert NOTHING in changed.snakemake("-n")
    for path in files:
        os.utime(path, (1577836800, 1577836800))
    assert NOTHING in changed.snakemake("-n")


@pytest.mark.long
def test_everything_made_again_is_the_same(built: ProjectFolder, tmp_path: Path) -> None:
    """Check 9; records hold times, and are compared by what the audit reads."""
    copy = built.copy(tmp_path)
    copy.snakemake("--forceall")
    copy.run("dvc", "repro")
    clocks = (":!results/*_costs.csv", ":!results/*/report.html")
    copy.git("diff", "--exit-code", "dvc.lock", "results", ":!results/*/records/*", *clocks)
    assert_up_to_date(copy)


@pytest.mark.long
def test_two_at_once_and_kills(changed: ProjectFolder, tmp_path: Path) -> None:
    """Checks 10 and 11: a second tool is refused; after Ctrl-C and after kill -9 only unfinished jobs run."""
    project = changed.copy(tmp_path)
    set_weight(project, 30.0)
    running = start(project, "dvc", "repro")
    wait_for(project, running)
    os.killpg(running.pid, signal.SIGSTOP)  # so that it does not end first, however busy the machine is
    assert "is busy, it is being blocked by" in project.run("dvc", "repro", ok=False)
    assert "cannot be locked" in project.snakemake(ok=False)
    os.killpg(running.pid, signal.SIGINT)  # it waits for them, so that they do not end between the two
    os.killpg(running.pid, signal.SIGCONT)
    running.wait()

    running = start(project, "dvc", "repro")  # no lock was left
    wait_for(project, running)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    project.snakemake("--unlock")
    assert made(project.run("dvc", "repro")) == METHOD
    assert_up_to_date(project)


def start(project: ProjectFolder, *command: str) -> subprocess.Popen:
    return subprocess.Popen(
        [BIN / command[0], *command[1:]],
        cwd=project.folder,
        env=project.environment(command[0]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for(project: ProjectFolder, running: subprocess.Popen) -> None:
    """Until an adaptation has begun."""
    log = project.folder / "logs/results/tiny/adapted/dacsm/synthetic-mnist/seed0.log"
    log.unlink(missing_ok=True)
    for _ in range(600):
        if log.exists():
            return
        assert running.poll() is None, "it ended before it adapted"
        time.sleep(0.1)
    raise AssertionError("it did not begin to adapt")


def test_a_changed_checkpoint_stops_dvc(changed: ProjectFolder) -> None:
    """Check 12."""
    path = changed.folder / CHECKPOINT
    before, kept = path.stat(), path.read_bytes()
    path.write_bytes(kept + b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    lock = sha256(changed.folder / "dvc.lock")
    try:
        assert NOTHING in changed.snakemake("-n")  # it looks at times first
        printed = changed.run("dvc", "repro", ok=False)
        assert f"{CHECKPOINT}: is not what `adapt` wrote" in printed
        assert sha256(changed.folder / "dvc.lock") == lock
        assert str(CHECKPOINT) in changed.run("python", "-m", "dacsm", "audit", ok=False)
    finally:
        path.unlink()
        changed.run("dvc", "checkout")
    assert_up_to_date(changed)


@pytest.mark.long
def test_an_experiment_runs_that_method_alone(changed: ProjectFolder, tmp_path: Path) -> None:
    """Check 14."""
    project = changed.copy(tmp_path)
    printed = project.run("dvc", "exp", "run", "--temp", "--name", "forty", "-S", f"{WEIGHT}=40")
    assert made(printed) == METHOD
    assert project.git("status", "--porcelain") == ""
    header, *rows = csv.reader(project.run("dvc", "exp", "show", "--csv").splitlines())
    weights = {row[header.index("Experiment")]: row[header.index(WEIGHT)] for row in rows}
    assert (weights[""], weights["forty"]) == ("20.0", "40")
    project.run("dvc", "exp", "apply", "forty")
    assert_up_to_date(project)


def test_the_workflow_is_in_good_condition(changed: ProjectFolder, tmp_path: Path) -> None:
    """Check 15; `make lint` runs --lint and snakefmt."""
    changed.snakemake("--report", str(tmp_path / "report.html"))
    report = " ".join((tmp_path / "report.html").read_text().replace("\\n", " ").split())
    for name in ("workflow", "page", "table", "differences", "validators", "accuracy"):
        caption = (CHECKOUT / f"workflow/report/{name}.rst").read_text()
        assert " ".join(caption.split()[-3:]) in report, name
    graph = changed.run("dvc", "dag", "--dot")
    for first, second in pairwise(stage.name for stage in STAGES.values() if not stage.optional):
        assert f'"{first}@tiny" -> "{second}@tiny"' in graph


def test_new_seeds_run_alone(changed: ProjectFolder) -> None:
    """Check 16."""
    assert changed.run("dvc", "config", "cache.type").strip() == "reflink,copy"
    path = changed.folder / "params.yaml"
    before = path.read_text()
    content = yaml.safe_load(before)
    content["experiments"]["tiny"]["seeds"] += [7, 8]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    try:
        assert changed.jobs() == {"pretrain": 2, "adapt": 2, "evaluate": 4, "table": 1, "summarise": 1}
    finally:
        path.write_text(before)


def test_raw_data_never_reaches_a_remote(built: ProjectFolder) -> None:
    from hashlib import md5

    stored = {path.parent.name + path.name for path in (built.folder.parent / "storage").rglob("*") if path.is_file()}
    assert md5((built.folder / CHECKPOINT).read_bytes()).hexdigest() in stored
    raw = [path for path in (built.folder / "data/raw").rglob("*") if path.is_file() and path.suffix != ".json"]
    assert raw
    for path in raw:
        assert md5(path.read_bytes()).hexdigest() not in stored
        assert "data/raw" in built.git("check-ignore", "--no-index", str(path.relative_to(built.folder)))
