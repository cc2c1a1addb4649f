"""Paired differences to CDTrans: every number of the CSV and of the page, worked out with scipy."""

from pathlib import Path

import numpy as np
import pytest
from made_up_runs import CLASSES, SEEDS, SELECTIONS, TASK, Made, rows_of
from scipy.stats import ttest_rel

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.report.statistics import seeds_needed

TASKS = (TASK, "synthetic-optdigits")
MEASURES = ("mean_per_class", "overall", *CLASSES)


@pytest.fixture
def dataset(tiny_dataset: DatasetSpec) -> DatasetSpec:
    return tiny_dataset.model_copy(update={"classes": CLASSES, "title": "Vehicles"})


@pytest.fixture
def made(tiny_params: Params, dataset: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    for name in ("bars", "confusion", "matrices"):
        monkeypatch.setattr(f"dacsm.report.plots.{name}", lambda *arguments: None)
    made = Made(tiny_params, dataset, Paths(tmp_path))
    made.experiment(seeds=SEEDS)
    return made


def rows(made: Made) -> list[dict[str, str]]:
    return made.rows(made.paths.differences("tiny"))


def values(made: Made, method: str, measure: str, tasks: tuple[str, ...], seeds: tuple[int, ...]) -> np.ndarray:
    """The selected epoch's accuracy of each seed, averaged over tasks."""
    found = [[made.read(method, task, seed)["selected"] for seed in seeds] for task in tasks]
    return np.mean([[run.get(measure, run["per_class"].get(measure)) for run in of_task] for of_task in found], axis=0)


def assert_row(made: Made, row: dict[str, str], tasks: tuple[str, ...]) -> None:
    for measure in MEASURES:
        first, second = (values(made, row[name], measure, tasks, SEEDS) for name in ("method", "baseline"))
        low, high = ttest_rel(first, second).confidence_interval(0.95)
        found = [float(row[f"{measure}{end}"]) for end in ("", "_low", "_high")]
        assert found == pytest.approx([(first - second).mean(), low, high], abs=0.0051)
        if measure in MEASURES[:2]:
            spread = (first - second).std(ddof=1)
            assert float(row[f"{measure}_std"]) == pytest.approx(spread, abs=0.0051)
            assert int(row[f"{measure}_seeds_needed"]) == seeds_needed(spread)
    low, high = float(row["mean_per_class_low"]), float(row["mean_per_class_high"])
    assert row["verdict"] == ("better" if low > 0 else "worse" if high < 0 else "not told apart")


def test_every_number_of_the_csv_is_that_of_a_paired_t_test(made: Made) -> None:
    made.make()
    (row,) = rows(made)
    assert [row[name] for name in ("task", "method", "baseline", "seeds", "headline")] == [
        TASK, "dacsm", "cdtrans", "3", "mean_per_class"]  # fmt: skip
    assert_row(made, row, (TASK,))
    assert (made.paths.plots("tiny") / "differences.png").is_file()


def test_several_tasks_have_a_row_each_and_one_for_their_average(made: Made) -> None:
    made.experiment(tasks=TASKS)
    made.make()
    found = rows(made)
    assert [row["task"] for row in found] == [*TASKS, "average"]
    for row, tasks in zip(found, [(task,) for task in TASKS] + [TASKS], strict=True):
        assert_row(made, row, tasks)
    text = made.markdown()
    section = text.split("## Differences to cdtrans")[1]
    assert "### synthetic → optdigits (development task)" in section
    assert "over the seeds' averages of the 2 tasks" in section.split("### Average over 2 tasks")[1]
    assert "may share source models and target images" in section


@pytest.mark.parametrize(("lift", "verdict"), [(5.0, "better"), (-5.0, "worse"), (0.0, "not told apart")])
def test_a_verdict_is_said_where_the_interval_excludes_zero(made: Made, lift: float, verdict: str) -> None:
    made.make()
    for seed, wobble in zip(SEEDS, (-1.0, 0.0, 1.0), strict=True):
        baseline = made.read("cdtrans", TASK, seed)["selected"]
        chosen = baseline | {"mean_per_class": round(baseline["mean_per_class"] + lift + wobble, 2)}
        made.change("dacsm", TASK, seed, {"selected": chosen})
    (row,) = rows(made)
    assert row["verdict"] == verdict
    assert row["mean_per_class_std"] == "1.00"
    assert float(row["mean_per_class"]) == lift
    shown = rows_of(made.markdown(), "## Differences to cdtrans")
    assert shown[0][-1] == "verdict"
    assert shown[1][-1] == verdict


def test_the_page_says_what_the_csv_says(made: Made) -> None:
    made.make()
    (row,) = rows(made)
    text = made.markdown()
    header, *shown = rows_of(text, "## Differences to cdtrans")
    assert header == ["method", "n", "difference", "95 % interval", "deviation", "seeds for 2 points", "verdict"]
    signed = {end: f"{float(row[f'mean_per_class{end}']):+.2f}".replace("-", "−") for end in ("", "_low", "_high")}
    assert shown == [
        ["dacsm", "3", signed[""], f"{signed['_low']} to {signed['_high']}", row["mean_per_class_std"],
         row["mean_per_class_seeds_needed"], row["verdict"]]
    ]  # fmt: skip
    header, (_method, *cells) = rows_of(text, "## Differences to cdtrans", 1)
    assert header == ["method", *CLASSES, "mean per class", "overall"]
    for name, cell in zip((*CLASSES, "mean_per_class", "overall"), cells, strict=True):
        mean, half_width = cell.strip("*").replace("−", "-").split(" ± ")
        low, high = float(row[f"{name}_low"]), float(row[f"{name}_high"])
        assert float(mean) == pytest.approx(float(row[name]), abs=0.056)
        assert float(half_width) == pytest.approx((high - low) / 2, abs=0.06)
        assert cell.startswith("**") == (low > 0 or high < 0)


def test_the_headline_measure_has_the_verdict(made: Made) -> None:
    made.make()
    made.dataset = made.dataset.model_copy(update={"headline": "overall"})
    for seed in SEEDS:
        selected = made.read("dacsm", TASK, seed)["selected"] | {"overall": 99.0, "mean_per_class": 1.0}
        made.change("dacsm", TASK, seed, {"selected": selected})
    (row,) = rows(made)
    assert (row["headline"], row["verdict"]) == ("overall", "better")
    assert float(row["mean_per_class_high"]) < 0


def test_one_seed_has_a_difference_and_nothing_more(made: Made) -> None:
    made.experiment(seeds=(1,))
    made.make()
    (row,) = rows(made)
    first, second = (made.read(method, TASK, 1)["selected"] for method in ("dacsm", "cdtrans"))
    assert float(row["overall"]) == pytest.approx(first["overall"] - second["overall"])
    assert (row["seeds"], row["verdict"]) == ("1", "not told apart")
    assert {value for name, value in row.items() if name.endswith(("_low", "_high", "_std", "_needed"))} == {""}
    text = made.markdown()
    assert "One seed (n = 1) gives no interval" in text
    assert rows_of(text, "## Differences to cdtrans")[1][3:] == ["–", "–", "–", "not told apart"]
    assert (made.paths.plots("tiny") / "differences.png").is_file()


def test_a_class_without_images_has_no_difference(made: Made) -> None:
    made.make()
    for method in ("source_only", "cdtrans", "dacsm"):
        for seed in SEEDS:
            run = made.read(method, TASK, seed)
            for kind in SELECTIONS.keys() & run.keys():
                run[kind]["per_class"]["car"] = None
                made.change(method, TASK, seed, {kind: run[kind]})
    (row,) = rows(made)
    assert [row[f"car{end}"] for end in ("", "_low", "_high")] == ["", "", ""]
    assert row["bus_low"]
    assert rows_of(made.markdown(), "## Differences to cdtrans", 1)[1][2] == "–"


@pytest.mark.parametrize("methods", [("source_only", "cdtrans", "dacsm"), ("source_only", "dacsm")])
def test_a_contrast_is_a_difference_of_its_own(made: Made, methods: tuple[str, ...]) -> None:
    made.experiment(methods=methods, tasks=TASKS, contrasts=(("dacsm", "source_only"),))
    made.make()
    found = rows(made)
    *others, contrast = [row for row in found if row["task"] == "average"]
    assert [row["baseline"] for row in others] == ["cdtrans"][: len(methods) - 2]
    assert [contrast[name] for name in ("method", "baseline")] == ["dacsm", "source_only"]
    for row in found:
        assert_row(made, row, TASKS if row["task"] == "average" else (row["task"],))
    section = made.markdown().split("## Differences")[1]
    assert "| dacsm − source_only |" in section
    assert "A row with two names is the first method less the second." in section
    assert (made.paths.plots("tiny") / "differences.png").is_file()


@pytest.mark.parametrize("methods", [("source_only", "dacsm"), ("source_only", "cdtrans"), ("cdtrans",)])
def test_nothing_is_compared_without_cdtrans_or_with_it_alone(made: Made, methods: tuple[str, ...]) -> None:
    made.experiment(methods=methods)
    made.make()
    assert rows(made) == []
    header = made.paths.differences("tiny").read_text().splitlines()[0].split(",")
    assert header[:3] == ["task", "method", "baseline"]
    assert header[-3:] == ["truck", "truck_low", "truck_high"]
    assert "Differences to" not in made.markdown()
    assert not (made.paths.plots("tiny") / "differences.png").exists()


def test_more_lines_than_a_page_holds_are_drawn_as_their_average(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict] = []
    monkeypatch.setattr("dacsm.report.plots.differences", lambda path, title, groups: drawn.append(groups))
    made.experiment(tasks=TASKS)
    made.make()
    rows(made)
    monkeypatch.setattr("dacsm.report.figures.MOST_DIFFERENCES", 2)
    rows(made)
    assert list(drawn[0]) == ["synthetic → mnist", "synthetic → optdigits", "average of 2 tasks"]
    assert list(drawn[1]) == ["average of 2 tasks"]
    assert drawn[1]["average of 2 tasks"] == drawn[0]["average of 2 tasks"]
