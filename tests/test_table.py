"""The table: every number recomputed from made-up metrics, and what it says of differences."""

import csv
import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import BASE, CLASSES, COMPLETE, SEEDS, SELECTIONS, TASK, Made, rows_of

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.runtime.errors import InputError


@pytest.fixture
def dataset(tiny_dataset: DatasetSpec) -> DatasetSpec:
    return tiny_dataset.model_copy(update={"classes": CLASSES, "title": "Vehicles"})


@pytest.fixture
def runs(tiny_params: Params, dataset: DatasetSpec, tmp_path: Path) -> Made:
    runs = Made(tiny_params, dataset, Paths(tmp_path))
    runs.experiment(seeds=SEEDS)
    runs.make()
    return runs


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes far longer than all else here; test_plots.py looks at the pictures."""
    for name in ("bars", "confusion", "matrices", "differences"):
        monkeypatch.setattr(f"dacsm.report.plots.{name}", lambda *arguments: None)


@pytest.fixture
def made(runs: Made, no_pictures: None) -> Made:
    return runs


def test_every_number_of_the_csv(made: Made) -> None:
    kinds = {name: kind for kind, name in SELECTIONS.items()}
    rows = made.table()
    for row in rows:
        kind = kinds[row["selection"]]
        runs = [made.read(row["method"], row["task"], seed)[kind] for seed in SEEDS]
        columns = {name: [run["per_class"][name] for run in runs] for name in CLASSES}
        columns |= {name: [run[name] for run in runs] for name in ("mean_per_class", "overall")}
        for name, values in columns.items():
            assert row[name] == f"{statistics.mean(values):.1f}"
            assert row[f"{name}_std"] == f"{statistics.stdev(values):.1f}"
        assert row["seeds"] == "0 1 2"
    assert list(rows[0])[:9] == ["task", "method", "selection", "seeds", *CLASSES, "mean_per_class", "overall"]


def test_label_free_rows_come_first_and_none_twice(made: Made) -> None:
    found = [(row["method"], row["selection"]) for row in made.table()]
    assert found[:3] == [("source_only", "last epoch"), ("cdtrans", "infomax"), ("dacsm", "infomax")]
    assert found[3:5] == [("cdtrans", "last epoch"), ("dacsm", "last epoch")]
    assert found[5:] == [(method, "oracle (target labels)") for method in ("cdtrans", "dacsm")]


def test_runs_selected_at_their_last_epoch_have_one_row_for_both(made: Made) -> None:
    for seed in SEEDS:
        run = made.read("cdtrans", TASK, seed)
        made.change("cdtrans", TASK, seed, {"selected": run["last"]})
    found = [(row["method"], row["selection"]) for row in made.table()]
    assert found.count(("cdtrans", "last epoch")) == 1


def test_the_markdown_says_what_the_csv_says(made: Made) -> None:
    rows = {row["method"]: row for row in made.table()[:3]}
    header, *shown = rows_of(made.markdown(), "## synthetic → mnist")
    assert header == ["method", "selection", *CLASSES, "mean per class", "overall"]
    for method, selection, *cells in shown:
        row = rows[method]
        assert selection == row["selection"]
        names = (*CLASSES, "mean_per_class", "overall")
        assert cells == [f"{row[name]} ± {row[f'{name}_std']}" for name in names]


def test_the_markdown_lists_every_seed_and_the_choice_of_checkpoint(made: Made) -> None:
    markdown = made.markdown()
    header, *shown = rows_of(markdown, "### Every seed")
    assert header == ["method", "seed 0", "seed 1", "seed 2"]
    for method, *cells in shown:
        values = [made.read(method, TASK, seed)["selected"]["mean_per_class"] for seed in SEEDS]
        assert cells == [f"{value:.2f}" for value in values]
    choices = {row[0]: row[1:] for row in rows_of(markdown, "### How the checkpoint was chosen")[1:]}
    assert choices["source_only"][2] == "–"
    assert choices["dacsm"][3] == "7, 8, 7"
    oracle = [made.read("dacsm", TASK, seed)["oracle"]["mean_per_class"] for seed in SEEDS]
    assert choices["dacsm"][2] == f"{statistics.mean(oracle):.1f} ± {statistics.stdev(oracle):.1f}"
    assert made.dataset.protocol in markdown


def test_one_seed_has_no_spread_and_no_interval(made: Made) -> None:
    made.experiment(seeds=(1,))
    rows = made.table()
    for row in rows:
        assert row["seeds"] == "1"
        assert {value for name, value in row.items() if name.endswith("_std")} == {""}
    markdown = made.markdown()
    assert "±" not in markdown
    assert "nothing is known of their spread" in markdown


def test_metrics_for_dvc(made: Made) -> None:
    metrics = made.metrics()
    assert list(metrics) == [TASK]
    runs = [made.read("dacsm", TASK, seed) for seed in SEEDS]
    dacsm = metrics[TASK]["dacsm"]
    assert dacsm["overall"] == round(statistics.mean(run["selected"]["overall"] for run in runs), 2)
    assert dacsm["last"] == round(statistics.mean(run["last"]["mean_per_class"] for run in runs), 2)
    assert dacsm["oracle"] == round(statistics.mean(run["oracle"]["mean_per_class"] for run in runs), 2)
    truck = statistics.mean(run["selected"]["per_class"]["truck"] for run in runs)
    assert dacsm["per_class"]["truck"] == round(truck, 2)
    assert "oracle" not in metrics[TASK]["source_only"]


def test_the_headline_measure_is_the_datasets(made: Made) -> None:
    made.dataset = made.dataset.model_copy(update={"headline": "overall"})
    last = [made.read("dacsm", TASK, seed)["last"]["overall"] for seed in SEEDS]
    assert made.metrics()[TASK]["dacsm"]["last"] == round(statistics.mean(last), 2)
    shown = {row[0]: row[1:] for row in rows_of(made.markdown(), "### Every seed")[1:]}
    selected = [made.read("dacsm", TASK, seed)["selected"]["overall"] for seed in SEEDS]
    assert shown["dacsm"] == [f"{value:.2f}" for value in selected]


@pytest.mark.usefixtures("no_pictures")
def test_several_tasks_have_a_section_each_and_an_average(tiny_params: Params, dataset: DatasetSpec, tmp_path) -> None:
    made = Made(tiny_params, dataset, Paths(tmp_path))
    tasks = ("synthetic-mnist", "synthetic-optdigits")
    made.experiment(tasks=tasks, seeds=SEEDS)
    made.make()
    markdown = made.markdown()
    assert "## synthetic → mnist\n" in markdown
    assert "development task" in markdown.split("## synthetic → optdigits\n")[1]
    header, *shown = rows_of(markdown, "## Average over 2 tasks")
    assert header == ["mean per class of", "synthetic → mnist", "synthetic → optdigits", "average"]
    for method, *cells in shown:
        by_seed = [
            statistics.mean(made.read(method, task, seed)["selected"]["mean_per_class"] for task in tasks)
            for seed in SEEDS
        ]
        assert cells[-1] == f"{statistics.mean(by_seed):.1f} ± {statistics.stdev(by_seed):.1f}"
    assert list(made.metrics()) == list(tasks)
    assert len(made.table()) == 2 * 7


def test_a_class_without_images_leaves_gaps_not_zeros(made: Made) -> None:
    for method in BASE:
        for seed in SEEDS:
            run = made.read(method, TASK, seed)
            for kind in SELECTIONS.keys() & run.keys():
                run[kind]["per_class"]["car"] = None
                made.change(method, TASK, seed, {kind: run[kind]})
    for row in made.table():
        assert row["car"] == row["car_std"] == ""
        assert row["bus"]
    assert "car" not in made.metrics()[TASK]["dacsm"]["per_class"]
    assert rows_of(made.markdown(), "## synthetic → mnist")[1][3] == "–"
    assert not math.isnan(made.metrics()[TASK]["dacsm"]["mean_per_class"])


@pytest.mark.usefixtures("no_pictures")
def test_many_classes_are_left_to_the_csv(tiny_params: Params, dataset: DatasetSpec, tmp_path: Path) -> None:
    made = Made(tiny_params, dataset, Paths(tmp_path))
    made.make()
    names = [f"class{number}" for number in range(21)]
    for method in BASE:
        for seed in made.params.experiments["tiny"].seeds:
            run = made.read(method, TASK, seed)
            for kind in SELECTIONS.keys() & run.keys():
                run[kind] |= {"per_class": dict.fromkeys(names, 50.0)}
            made.path(method, TASK, seed).write_text(json.dumps(run))
    made.dataset = dataset.model_copy(update={"classes": tuple(names)})
    assert "class20" in made.table()[0]
    assert rows_of(made.markdown(), "## synthetic → mnist")[0] == ["method", "selection", "mean per class", "overall"]
    assert "21 classes are in the CSV" in made.markdown()


def test_plots_hold_class_names_and_the_first_seed(made: Made) -> None:
    made.experiment(seeds=(2, 0, 1))
    made.draw()
    folder = made.paths.plots("tiny")
    assert (folder / f"confusion_dacsm_{TASK}.csv").read_text() == "actual,predicted\nbus,truck\ntruck,truck\n"
    accuracies = dict(csv.reader((folder / f"per_class_dacsm_{TASK}.csv").read_text().splitlines()[1:]))
    mean = statistics.mean(made.read("dacsm", TASK, seed)["selected"]["per_class"]["car"] for seed in SEEDS)
    assert accuracies["car"] == f"{mean:.2f}"


def test_the_same_metrics_give_the_same_bytes_and_nothing_stale_stays(runs: Made) -> None:
    def outputs() -> dict[str, bytes]:
        runs.draw()
        paths = [runs.paths.table("tiny", kind) for kind in ("csv", "md", "tex")]
        paths += [of("tiny") for of in (runs.paths.differences, runs.paths.validators, runs.paths.metrics)]
        return {path.name: path.read_bytes() for path in [*paths, *sorted(runs.paths.plots("tiny").iterdir())]}

    first = outputs()
    assert len(first) == 6 + 2 + 3 * 3
    assert outputs() == first
    runs.experiment(methods=("source_only", "dacsm"))
    assert not [name for name in outputs() if "cdtrans" in name or name == "differences.png"]


def test_a_missing_seed_is_named_with_its_command(made: Made) -> None:
    made.path("dacsm", TASK, 1).unlink()
    command = "dacsm evaluate tiny dacsm synthetic-mnist --seed 1"
    with pytest.raises(InputError, match=rf"dacsm/synthetic-mnist/seed1/metrics\.json was not found.*`{command}`"):
        made.draw()


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"seed": 2}, "is not of seed 1"),
        ({"method": "cdtrans"}, "is not of method 'dacsm'"),
        ({"selected": COMPLETE | {"per_class": {"bus": 1.0}}}, "selected.per_class does not hold the 3 classes"),
        ({"protocol": "another"}, "is not of protocol"),
        ({"backbone": None}, "names no backbone"),
        ({"last": None}, "last is not what"),
        ({"validators": {"infomax": {"epoch": 7, "mean_per_class": 71.0}}}, "scores for every epoch"),
        (
            {
                "validators": {"infomax": {"epoch": 1, "scores": [0.1]}},
                "validator": "infomax",
                "accuracy_by_epoch": {"mean_per_class": [1.0, 2.0], "overall": [1.0, 2.0]},
            },
            "scores for every epoch",
        ),
        ({"oracle": {"per_class": dict.fromkeys(CLASSES, 1.0)}}, "oracle is not what"),
    ],
)
def test_metrics_of_something_else_are_refused(made: Made, changed: dict[str, Any], sentence: str) -> None:
    made.change("dacsm", TASK, 1, changed)
    with pytest.raises(InputError, match=rf"seed1/metrics\.json.*{sentence}.*`dacsm evaluate tiny dacsm"):
        made.draw()


def test_predictions_that_cannot_be_read_are_named(made: Made) -> None:
    path = made.path("dacsm", TASK, 0).parent / "predictions.csv"
    path.write_text("index,label,predicted,probability\n0,0,9,0.9\n")
    with pytest.raises(InputError, match=r"predictions\.csv cannot be read.*`dacsm evaluate tiny dacsm"):
        made.draw()
    path.unlink()
    with pytest.raises(InputError, match=r"predictions\.csv was not found; make it with `dacsm evaluate tiny dacsm"):
        made.draw()
