"""The plots of dvc.yaml: files that a table and its runs write, with columns that these files have."""

import csv
import json
from pathlib import Path

import pytest
from made_up_runs import make_runs

from dacsm.config.datasets import load_dataset
from dacsm.config.params import Params, load_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.ledger.dvc_file import plots_of
from dacsm.stages.table import table

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(PROJECT / "params.yaml")


def test_classes_and_confusions_are_files_of_the_table(params: Params, tmp_path, monkeypatch) -> None:
    dataset, experiment, paths = load_dataset("digits"), params.experiments["digits"], Paths(tmp_path)
    for name in ("bars", "confusion", "differences"):
        monkeypatch.setattr(f"dacsm.report.plots.{name}", lambda *arguments: None)
    make_runs(dataset, experiment, paths)
    table(Project(params, dataset, paths), "digits")
    found = [next(iter(entry.values())) for entry in plots_of(Project(params, dataset, paths), experiment)]
    drawn = [entry for entry in found if entry["template"] != "linear"]
    for entry in drawn:
        ((path, column),) = entry["y"].items()
        with Path(path).open(newline="") as file:
            assert set(next(csv.reader(file))) == {column, entry["x"]}
    files = {path for path in paths.plots("digits").iterdir() if path.suffix == ".csv"}
    assert {Path(path) for entry in drawn for path in entry["y"]} == files
    assert len(drawn) == len(files) == 2 * 3


def test_curves_are_of_the_first_seed_of_each_method_that_adapts(params: Params) -> None:
    experiment = params.experiments["digits"].model_copy(update={"seeds": (2, 0)})
    found = {}
    for entry in plots_of(Project(params, load_dataset("digits"), Paths()), experiment):
        found |= {title: content["y"] for title, content in entry.items() if content["template"] == "linear"}
    runs = [f"results/digits/adapted/{method}/synthetic-mnist/seed2/log.csv" for method in ("cdtrans", "dacsm")]
    assert found == {
        "digits: held-out source accuracy, first seed": {
            "results/digits/pretrained/synthetic/seed2/log.csv": "held_out_accuracy"
        },
        "digits: validator, synthetic to mnist, first seed": dict.fromkeys(runs, "infomax"),
        "digits: loss of the target stream, synthetic to mnist, first seed": dict.fromkeys(runs, "target"),
    }


def test_titles_are_unique_and_entries_plain(params: Params) -> None:
    names = ("digits", "digits_claim", "digits_ablation", "visda", "office_home", "domainnet")
    entries = []
    for name in names:
        experiment = params.experiments[name]
        entries += plots_of(Project(params, load_dataset(experiment.dataset or name), Paths()), experiment)
    titles = [title for entry in entries for title in entry]
    assert len(set(titles)) == len(titles) == len(entries)
    assert json.loads(json.dumps(entries)) == entries


def test_a_table_of_tasks_has_curves_alone(params: Params) -> None:
    entries = plots_of(Project(params, load_dataset("office31"), Paths()), params.experiments["office31"])
    contents = [content for entry in entries for content in entry.values()]
    assert {content["template"] for content in contents} == {"linear"}
    assert len(contents) == 1 + 2 * 6
    assert len(contents[0]["y"]) == 3  # amazon, dslr, webcam
    only = params.experiments["office31"].model_copy(update={"methods": ("source_only",)})
    assert len(plots_of(Project(params, load_dataset("office31"), Paths()), only)) == 1
