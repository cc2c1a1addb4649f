"""`python -m benchmarks.gpu`: at sizes for a CPU; it goes on after a cut and after a part that fails."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.gpu_training import covered

SECOND = """import json, sys, time
def say(part, kind, **more): open(sys.argv[1], "a").write(json.dumps({"part": part, "kind": kind, **more}) + chr(10))
row = {"what": "a number", "value": 1.5, "unit": "s", "bound": 2.0, "least": None}
for part in sys.argv[2:]:
    say(part, "begin", title=part, limit=0.5 if part == "training" else 60)
    say(part, "row", row=row)
    if part == "training": time.sleep(600)
    if part == "waiting": sys.exit(7)
    if part == "tests": say(part, "end", state="failed", reason="ValueError: no", seconds=1.0)
    else: say(part, "end", state="done", seconds=1.0)
"""


def run(folder: Path, *options: str) -> int:
    command = sys.argv
    sys.argv = ["gpu", "--out", str(folder), *options]
    try:
        return gpu.main()
    finally:
        sys.argv = command


def parts(folder: Path) -> dict:
    return json.loads((folder / "gpu.json").read_text())["parts"]


@pytest.mark.slow
def test_the_parts_on_a_cpu(tmp_path):
    assert run(tmp_path, "--dry", "--parts", "environment", "step_base_64", "waiting", "pairing", "loader") == 0
    found = parts(tmp_path)
    assert [part["state"] for part in found.values()] == ["done"] * 5
    whats = [row["what"] for part in found.values() for row in part["rows"]]
    assert {"cdtrans / official form", "dacsm / cdtrans", "2 workers", "cdtrans: waits in 1 steps"} < set(whats)
    assert all(row["value"] >= 0 for part in found.values() for row in part["rows"])
    page = (tmp_path / "gpu.md").read_text()
    assert "these numbers mean nothing" in page
    assert "| neighbours other than those of the whole matrix | 0 | at most 0 | kept |" in page


@pytest.mark.slow
def test_training_on_a_cpu(tmp_path):
    assert run(tmp_path, "--dry", "--parts", "training") == 0
    rows = {row["what"]: row["value"] for row in parts(tmp_path)["training"]["rows"]}
    assert 0 < rows["dacsm: GPU idle in training"] < 100
    assert rows["cdtrans: steps of an epoch"] == 7
    assert rows["cdtrans, second epoch: steps"] > 5 * rows["cdtrans: a step in that time"] / 1000 / 3


@pytest.fixture
def pretended(monkeypatch) -> list[list[str]]:
    """A second process that pretends its parts; which it was asked for, each time."""
    asked, start = [], subprocess.Popen

    def popen(command, **options):
        names = [name for name in command[command.index("--parts") + 1 :] if name != "--dry"]
        asked.append(names)
        events = Path(command[command.index("--work") + 1]) / "events"
        return start([sys.executable, "-c", SECOND, str(events), *names], **options)

    monkeypatch.setattr(gpu.subprocess, "Popen", popen)
    return asked


def test_a_part_that_hangs_fails_or_crashes_costs_no_other(tmp_path, pretended, capsys):
    wanted = ["environment", "training", "waiting", "tests", "pairing"]
    assert run(tmp_path, "--parts", *wanted) == 1
    assert pretended == [wanted, wanted[2:], wanted[3:]]
    found = parts(tmp_path)
    assert [found[name]["state"] for name in wanted] == ["done", "cut", "cut", "failed", "done"]
    assert [found[name].get("reason", "")[:20] for name in wanted[1:4]] == [
        "it took too long",
        "its process ended wi",
        "ValueError: no",
    ]
    assert all(len(part["rows"]) == 1 for part in found.values())  # what was measured before is kept
    assert "| a number | 1.5 s | at most 2 | kept |" in capsys.readouterr().out
    assert run(tmp_path, "--parts", *wanted) == 1  # it goes on with what is not done
    assert pretended[3] == wanted[1:4]


def test_the_time_for_all_is_kept(tmp_path, pretended):
    start = time.monotonic()
    assert run(tmp_path, "--minutes", "0.006", "--parts", "environment", "training", "pairing") == 1
    assert time.monotonic() - start < 10
    assert "pairing" not in parts(tmp_path)


def test_overlapping_work_counts_once():
    assert covered([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 2.5)]) == 4.0
