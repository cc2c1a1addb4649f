"""Several experiments of one dataset: what is said of one that cannot be, and which runs and files are whose."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_up_runs import make_runs

from dacsm.config.datasets import load_dataset
from dacsm.config.params import Params, load_params, parse_params
from dacsm.config.paths import Paths
from dacsm.config.presets import Presets
from dacsm.config.project import Project
from dacsm.ledger.runs import runs_of
from dacsm.runtime.errors import InputError
from dacsm.stages.table import table

PROJECT = Path(__file__).parents[1]
MORE = {"dataset": "digits", "tasks": ["synthetic-mnist"], "methods": ["cdtrans", "csm"], "seeds": [2, 3]}


@pytest.fixture
def content() -> dict[str, Any]:
    return Presets("params.yaml").resolve(yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8")))


@pytest.fixture
def params(content: dict[str, Any]) -> Params:
    content["experiments"]["more"] = MORE
    return parse_params(content)


def test_an_experiment_is_of_the_dataset_of_its_name_or_of_another(content: dict[str, Any]) -> None:
    content["experiments"]["more"] = MORE | {"tasks": "all"}
    params = parse_params(content)
    assert (params.dataset_of("digits"), params.dataset_of("more")) == ("digits", "digits")
    assert params.experiment("more").name == "more"
    assert params.experiment("more").tasks == params.load_dataset_of("more").tasks == load_dataset("digits").tasks


def test_the_phases_of_a_dataset_are_those_of_its_listed_tables(content: dict[str, Any]) -> None:
    content["experiments"]["more"] = MORE
    params = parse_params(content)
    assert params.experiments_of("digits") == ("digits",)
    assert params.experiments_of("visda") == ("visda",)  # none is listed
    content["tables"]["more"] = "digits"
    assert parse_params(content).experiments_of("digits") == ("digits", "more")
    with pytest.raises(InputError, match="experiments has no entry of the dataset 'moons'"):
        params.experiments_of("moons")


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"experiments": {"more": MORE | {"contrasts": [["csm", "dat"]]}}},
            "experiments.more: contrasts has 'dat', expected one of cdtrans, csm",
        ),
        (
            {"experiments": {"more": MORE | {"contrasts": [["csm", "csm"]]}}},
            "experiments.more: contrasts has 'csm' against itself; name two methods",
        ),
        (
            {"experiments": {"more": MORE | {"dataset": "digit"}}},
            "experiments.more is of the dataset 'digit', but shard",
        ),
        (
            {"experiments": {"more": MORE | {"dataset": "digit", "tasks": "all"}}},
            "experiments.more: unknown dataset 'digit': .* the catalog has digits",
        ),
        ({"experiments": {"visda": MORE}}, "experiments.visda is of the dataset 'digits', but 'visda' is another"),
        ({"tables": {"more": "digits"}}, "tables names 'more', but experiments has only digits"),
        ({"tables": {"visda": "visda"}}, "tables.visda is of the dataset 'visda', but datasets has only digits"),
        (
            {"experiments": {"more": MORE}, "tables": {"more": "visda"}},
            "tables.more is 'visda', but experiments.more is of the dataset 'digits'",
        ),
        ({"datasets": ["digits", "visda"]}, "datasets names 'visda', but tables has no experiment of it"),
    ],
)
def test_what_cannot_be_is_one_sentence(content: dict[str, Any], changed: dict[str, Any], sentence: str) -> None:
    for key, value in copy.deepcopy(changed).items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    with pytest.raises(InputError, match=sentence) as caught:
        parse_params(content)
    assert str(caught.value).startswith("params.yaml: ")
    assert "\n" not in str(caught.value)


def test_a_task_of_another_dataset_is_named_with_the_experiment(content: dict[str, Any]) -> None:
    content["experiments"]["more"] = MORE | {"tasks": ["art-clipart"]}
    with pytest.raises(
        InputError, match=r"experiments\.more: digits has no task 'art-clipart'; it has synthetic-mnist"
    ):
        parse_params(content).load_dataset_of("more")


def test_experiments_share_the_runs_they_have_in_common(params: Params) -> None:
    dataset, paths = load_dataset("digits"), Paths()
    digits, more = (
        {run.record: run for run in runs_of(Project(params, dataset, paths), params.experiment(name))}
        for name in ("digits", "more")
    )
    common = [run for record, run in digits.items() if record in more]
    assert [run.arguments for run in common if run.stage == "adapt"] == [
        {"dataset": "digits", "method": "cdtrans", "task": "synthetic-mnist", "seed": 2}
    ]
    assert common == [more[run.record] for run in common]
    assert {run.stage for run in common} == {"download", "shard", "pretrain", "adapt", "evaluate"}
    own = [run for record, run in more.items() if record not in digits]
    assert [str(run.place) for run in own if run.stage == "adapt"] == [
        "results/digits/adapted/cdtrans/synthetic-mnist/seed3",
        "results/digits/adapted/csm/synthetic-mnist/seed2",
        "results/digits/adapted/csm/synthetic-mnist/seed3",
    ]
    assert [str(path) for path in own[-2].outputs] == [
        "results/more_table.csv",
        "results/more_table.md",
        "results/more_table.tex",
        "results/more_differences.csv",
        "results/more_validators.csv",
        "results/more_metrics.json",
        "results/more/plots/accuracy.png",
    ]
    assert str(own[-2].record) == "results/more/records/tabled.json"
    assert [str(path) for path in (*own[-1].outputs, own[-1].record)] == [
        "results/more/report.html",
        "results/more/records/summarised.json",
    ]


def test_the_table_of_the_plain_experiment_is_where_it_was(params: Params) -> None:
    run = runs_of(Project(params, load_dataset("digits"), Paths()), params.experiment("digits"), ["table"])[-1]
    assert [str(path) for path in (*run.outputs, run.record)] == [
        "results/digits_table.csv",
        "results/digits_table.md",
        "results/digits_table.tex",
        "results/digits_differences.csv",
        "results/digits_validators.csv",
        "results/digits_metrics.json",
        "results/digits/plots/accuracy.png",
        "results/digits/records/tabled.json",
    ]


def test_two_tables_of_one_dataset_stand_side_by_side(params: Params, tmp_path: Path, monkeypatch) -> None:
    titles = []
    for name in ("bars", "confusion"):
        monkeypatch.setattr(f"dacsm.report.plots.{name}", lambda _path, title, *_: titles.append(title))
    dataset, paths = load_dataset("digits"), Paths(tmp_path)
    for name in ("digits", "more"):
        make_runs(dataset, params.experiment(name), paths)
    table(Project(params, dataset, paths), "digits")
    before = {path: path.read_bytes() for path in (tmp_path / "results").rglob("*.*")}
    table(Project(params, dataset, paths), "more")
    assert {path: path.read_bytes() for path in before} == before
    markdown, latex = (
        {name: paths.table(name, suffix).read_text(encoding="utf-8") for name in ("digits", "more")}
        for suffix in ("md", "tex")
    )
    assert markdown["digits"].startswith("# Digits\n")
    assert markdown["more"].startswith("# Digits (more)\n")
    assert r"\label{tab:digits-measured-1}" in latex["digits"]
    assert r"\label{tab:more-measured-1}" in latex["more"]
    assert "Digits (more), measured" in latex["more"]
    assert any(title.startswith("Digits (more), synthetic → mnist") for title in titles)
    assert {path.name for path in paths.plots("more").iterdir()} == {"differences.png"} | {
        f"{kind}_{method}_synthetic-mnist.csv" for kind in ("per_class", "confusion") for method in ("cdtrans", "csm")
    }


def test_the_experiments_of_digits_keep_the_development_task_apart() -> None:
    """Settings are chosen on one task, and what is claimed or reported is of the others."""
    params, dataset = load_params(PROJECT / "params.yaml"), load_dataset("digits")
    tasks = {
        name: set(params.experiment(name).tasks) for name in params.experiments if params.dataset_of(name) == "digits"
    }
    for development in ("digits_ablation", "digits_baselines_development", "digits_fractions"):
        assert tasks.pop(development) == set(dataset.development_tasks)
    assert not set(dataset.development_tasks) & set().union(*tasks.values())
    assert set().union(*tasks.values()) == set(dataset.tasks) - set(dataset.development_tasks)
