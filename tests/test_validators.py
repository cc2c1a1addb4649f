"""Validators, judged with target labels: from made-up scores and accuracies of epochs, worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import CLASSES, SEEDS, TASK, Made, rows_of
from scipy.stats import spearmanr

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment, Params
from dacsm.config.paths import Paths
from dacsm.report.measured import Runs
from dacsm.report.validators import HEADER, judge_validators

Scores = dict[str, list[float | None]]


@pytest.fixture
def made(tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    for name in ("bars", "confusion", "matrices", "differences"):
        monkeypatch.setattr(f"dacsm.report.plots.{name}", lambda *arguments: None)
    made = Made(tiny_params, tiny_dataset.model_copy(update={"classes": CLASSES}), Paths(tmp_path))
    made.experiment(seeds=SEEDS)
    made.make()
    return made


def score(made: Made, method: str, seed: int, accuracy: list[float], scores: Scores, task: str = TASK) -> None:
    """Let a run have these accuracies and scores of its epochs; overall is one point less, and infomax the default."""

    def of(values: list[float | None]) -> dict:
        known = [-np.inf if value is None else value for value in values]
        return {"epoch": None if set(values) == {None} else int(np.argmax(known)) + 1, "scores": values}

    by_epoch = {"mean_per_class": accuracy, "overall": [value - 1 for value in accuracy]}
    validators = {name: of(values) for name, values in scores.items()}
    made.change(method, task, seed, {"validator": "infomax", "validators": validators, "accuracy_by_epoch": by_epoch})


# Epochs' accuracies; infomax takes epochs 3, 3 and 2, entropy 1, 3 and none.
ACCURACY = {0: [70.0, 72.0, 71.0], 1: [60.0, 61.0, 63.0], 2: [80.0, 79.0, 78.0]}
SCORES: dict[int, Scores] = {
    0: {"infomax": [0.1, 0.2, 0.3], "entropy": [-0.1, -0.2, -0.3], "last": [1, 2, 3]},
    1: {"infomax": [0.2, 0.3, 0.4], "entropy": [-0.3, None, -0.1], "last": [1, 2, 3]},
    2: {"infomax": [0.5, 0.9, 0.7], "entropy": [None, None, None], "last": [1, 2, 3]},
}


@pytest.fixture
def scored(made: Made) -> Made:
    """CDTrans with the numbers above; DACSM five points above them, with the same scores."""
    for seed in SEEDS:
        score(made, "cdtrans", seed, ACCURACY[seed], SCORES[seed])
        score(made, "dacsm", seed, [value + 5 for value in ACCURACY[seed]], SCORES[seed])
    return made


def rows(made: Made) -> dict[tuple[str, str, str], dict[str, str]]:
    found = made.rows(made.paths.validators("tiny"))
    return {(row["task"], row["method"], row["validator"]): row for row in found}


def test_every_number_by_hand(scored: Made) -> None:
    found = rows(scored)
    assert list(found) == [("all", method, name) for method in ("all", "cdtrans", "dacsm") for name in SCORES[0]]
    row = found["all", "cdtrans", "infomax"]
    assert (row["default"], row["measure"], row["runs"], row["runs_without_scores"]) == (
        "yes",
        "mean_per_class",
        "3",
        "0",
    )
    # The choices have 71, 63, 79 where 72, 63, 80 are there.
    assert (row["accuracy"], row["oracle"]) == ("71.00", "71.67")
    assert (row["gap"], row["worst_gap"]) == ("0.67", "1.00")
    # In the runs: ranks 1 2 3 against 1 3 2 (0.5), against 1 2 3 (1), and 1 3 2 against 3 2 1 (-0.5).
    assert row["rank_correlation_epochs"] == f"{(0.5 + 1 - 0.5) / 3:.3f}"
    # Over runs: scores 0.3, 0.4, 0.9 with 71, 63, 79.
    assert row["rank_correlation_runs"] == "0.500"

    together = found["all", "all", "infomax"]
    assert (together["runs"], together["accuracy"], together["gap"]) == ("6", "73.50", "0.67")
    scores, accuracies = [0.3, 0.4, 0.9] * 2, [71, 63, 79, 76, 68, 84]
    assert together["rank_correlation_runs"] == f"{spearmanr(scores, accuracies).statistic:.3f}"


def test_epochs_and_runs_without_a_score_are_passed_over(scored: Made) -> None:
    row = rows(scored)["all", "cdtrans", "entropy"]
    assert (row["default"], row["runs"], row["runs_without_scores"]) == ("no", "2", "1")
    assert (row["accuracy"], row["oracle"], row["gap"], row["worst_gap"]) == ("66.50", "67.50", "1.00", "2.00")
    assert row["rank_correlation_epochs"] == "-0.500"  # of the first run alone: the second has two scores
    assert row["rank_correlation_runs"] == ""  # two runs
    text = scored.markdown()
    assert "entropy in 2 of 6" in text
    assert rows_of(text, "## Choosing without labels")[2][:6] == ["entropy", "4", "69.00", "1.00", "2.00", "−0.50"]


def test_equal_scores_have_no_rank(scored: Made) -> None:
    """The last epoch has the same number in every run."""
    row = rows(scored)["all", "all", "last"]
    assert row["rank_correlation_runs"] == ""
    assert row["rank_correlation_epochs"] == f"{(0.5 + 1 - 1) / 3:.3f}"


def test_a_validator_that_could_never_be_computed_has_a_row_without_numbers(scored: Made) -> None:
    for method in ("cdtrans", "dacsm"):
        for seed in SEEDS:
            score(scored, method, seed, ACCURACY[seed], SCORES[seed] | {"source_accuracy": [None] * 3})
    row = rows(scored)["all", "all", "source_accuracy"]
    assert (row["runs"], row["runs_without_scores"]) == ("0", "6")
    assert {row[name] for name in HEADER[7:]} == {""}
    text = scored.markdown()
    assert "source_accuracy in 6 of 6" in text
    assert rows_of(text, "## Choosing without labels")[-1] == ["source_accuracy", "0", "–", "–", "–", "–", "–"]
    assert rows_of(text, "## Choosing without labels", 1)[-1] == ["source_accuracy", "–", "–"]


def test_the_page_marks_the_default_and_says_what_labels_were_for(scored: Made) -> None:
    text = scored.markdown()
    assert "Target labels were used here to judge the validators, and not to choose an epoch" in text
    header, *shown = rows_of(text, "## Choosing without labels")
    assert header[2:5] == ["accuracy", "mean gap", "worst gap"]
    assert shown[0][:5] == ["**infomax** (default)", "6", "73.50", "0.67", "1.00"]
    header, *shown = rows_of(text, "## Choosing without labels", 1)
    assert header == ["validator", "cdtrans", "dacsm"]
    assert shown[1] == ["entropy", "1.00 (2.00)", "1.00 (2.00)"]


def test_the_gap_is_of_the_headline_measure(scored: Made) -> None:
    scored.dataset = scored.dataset.model_copy(update={"headline": "overall"})
    row = rows(scored)["all", "cdtrans", "infomax"]
    assert (row["measure"], row["accuracy"], row["gap"]) == ("overall", "70.00", "0.67")


def test_tasks_stand_alone_and_together(tiny_params: Params, made: Made) -> None:
    made.paths = Paths(made.paths.root / "two")
    tasks = (TASK, "synthetic-optdigits")
    made.experiment(tasks=tasks)
    made.make()
    for number, task in enumerate(tasks):
        for method in ("cdtrans", "dacsm"):
            for seed in SEEDS:
                accuracy = [value - 20 * number for value in ACCURACY[seed]]
                score(made, method, seed, accuracy, SCORES[2 - seed if number else seed], task)
    found = rows(made)
    alone = [float(found[task, "cdtrans", "infomax"]["rank_correlation_runs"]) for task in tasks]
    assert alone[0] != alone[1]
    together = found["all", "cdtrans", "infomax"]
    assert together["runs"] == "6"
    assert float(together["rank_correlation_runs"]) == pytest.approx(np.mean(alone), abs=0.001)
    assert "averaged over tasks" in made.markdown()


def test_runs_without_scores_leave_a_header(made: Made) -> None:
    """As where the images that are evaluated on are not those that were adapted on."""
    assert rows(made) == {}
    assert made.paths.validators("tiny").read_text() == ",".join(HEADER) + "\n"
    assert "Choosing without labels" not in made.markdown()
    domains = made.dataset.domains | {
        "mnist": made.dataset.domains["mnist"].model_copy(update={"evaluated_on": "optdigits"})
    }
    made.dataset = made.dataset.model_copy(update={"domains": domains})
    assert "no validator can be judged" in made.markdown().split("## Choosing without labels")[1]


epochs = st.lists(st.tuples(st.integers(0, 10_000), st.none() | st.integers(-5, 5)), min_size=1, max_size=9)


def judged(dataset: DatasetSpec, runs: list[list[tuple[int, int | None]]]) -> dict[str, Any]:
    """One validator over runs, each a list of accuracies in hundredths and scores."""
    metrics = []
    for run in runs:
        scores = np.array([np.nan if score is None else score for _accuracy, score in run], dtype=float)
        chosen = None if np.isnan(scores).all() else int(np.nanargmax(scores)) + 1
        accuracy = {dataset.headline: [accuracy / 100 for accuracy, _score in run]}
        found = {"x": {"epoch": chosen, "scores": [score for _accuracy, score in run]}}
        metrics.append({"validator": "x", "validators": found, "accuracy_by_epoch": accuracy})
    experiment = Experiment(tasks=(TASK,), methods=("cdtrans",), seeds=tuple(range(len(runs))))
    return judge_validators(Runs(dataset, experiment, {(TASK, "cdtrans"): metrics}, "deit"))[0]


@given(st.lists(epochs, min_size=1, max_size=5))
def test_no_choice_is_better_than_the_oracles(tiny_dataset, runs: list[list[tuple[int, int | None]]]) -> None:
    found = judged(tiny_dataset, runs)
    assert found["runs"] + found["runs_without_scores"] == len(runs)
    if found["runs"]:
        assert -1e-9 <= found["gap"] <= found["worst_gap"] + 1e-9
        assert found["accuracy"] <= found["oracle"] + 1e-9
    for correlation in (found["rank_correlation_epochs"], found["rank_correlation_runs"]):
        assert np.isnan(correlation) or -1 - 1e-9 <= correlation <= 1 + 1e-9


@given(st.lists(st.lists(st.integers(0, 10_000), min_size=3, max_size=9, unique=True), min_size=1, max_size=5))
def test_a_validator_that_knows_the_accuracy_is_the_oracle(tiny_dataset, runs: list[list[int]]) -> None:
    found = judged(tiny_dataset, [[(accuracy, accuracy) for accuracy in run] for run in runs])
    assert found["worst_gap"] == 0
    assert found["rank_correlation_epochs"] == pytest.approx(1)
