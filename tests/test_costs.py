"""What methods cost stands beside what they reach, and changes no byte of the table."""

import csv
from pathlib import Path
from statistics import mean

import pytest
from made_up_runs import CLASSES, SEEDS, TASK, Made

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.ledger.pipeline import STAGES
from dacsm.runtime.files import write_json
from dacsm.stages.table import write_numbers


@pytest.fixture
def made(tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path) -> Made:
    made = Made(tiny_params, tiny_dataset.model_copy(update={"classes": CLASSES}), Paths(tmp_path))
    made.experiment(seeds=SEEDS)
    made.make()
    return made


def record(made: Made, method: str, seed: int, seconds: float, device: str = "cpu (here)", cuda: int = 0) -> None:
    place = made.paths.adapted("tiny", method, TASK, seed)
    arguments = {"dataset": "tiny", "method": method, "task": TASK, "seed": seed}
    assert made.paths.record(place) == STAGES["adapt"].record_of(made.paths, arguments)
    measured = {"training_seconds": seconds, "images_per_second": 1000 / seconds}
    memory = {"ram": 500 + seed, **({"cuda": cuda} if cuda else {})}
    made_from = {"settings": {}, "code": {}, "inputs": {}, "versions": {}, "git": {"commit": None, "clean": None}}
    took = {"device": device, "measured": measured, "peak_memory_mb": memory, "seconds": seconds}
    write_json(made.paths.record(place), made_from | took)


def costs(made: Made) -> dict[str, dict[str, str]]:
    write_numbers(Project(made.params, made.dataset, made.paths), "tiny")
    with made.paths.costs("tiny").open(newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_time_and_memory_stand_beside_accuracy(made: Made) -> None:
    for seed in SEEDS:
        record(made, "cdtrans", seed, 10.0 + seed)
        record(made, "dacsm", seed, 20.0)
    found = costs(made)
    assert list(found) == ["source_only", "cdtrans", "dacsm"]
    assert found["source_only"]["training_seconds"] == found["source_only"]["ram_mib"] == ""
    expected = {"runs": "3", "training_seconds": "11.0", "of_cdtrans": "1.00", "ram_mib": "502", "gpu_mib": ""}
    assert expected.items() <= found["cdtrans"].items()
    assert found["dacsm"]["of_cdtrans"] == "1.82"
    accuracies = [made.read("dacsm", TASK, seed)["selected"]["mean_per_class"] for seed in SEEDS]
    assert float(found["dacsm"]["accuracy"]) == pytest.approx(mean(accuracies), abs=0.005)


def test_times_of_different_devices_are_not_compared(made: Made) -> None:
    for seed in SEEDS:
        record(made, "cdtrans", seed, 10.0)
        record(made, "dacsm", seed, 5.0, "a GPU", cuda=300 + seed)
    found = costs(made)["dacsm"]
    assert (found["of_cdtrans"], found["gpu_mib"], found["device"]) == ("", "302", "a GPU")


def test_without_records_and_with_others_the_table_is_the_same(made: Made) -> None:
    files = [made.paths.table("tiny", suffix) for suffix in ("csv", "md", "tex")]
    assert costs(made)["cdtrans"]["runs"] == "0"
    before = [file.read_bytes() for file in files]
    record(made, "cdtrans", 1, 10.0)
    assert costs(made)["cdtrans"]["runs"] == "1"
    assert [file.read_bytes() for file in files] == before
