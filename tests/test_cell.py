"""A cell of a table: its number, what it rests on, and what is said where there is no such cell."""

import json
import statistics
from pathlib import Path

import pytest
from made_up_runs import make_runs

from dacsm.config.datasets import DatasetSpec, load_dataset
from dacsm.config.params import Params, load_params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.ledger.cell import describe_cell, find_cell
from dacsm.ledger.runs import run_of
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_json

PROJECT = Path(__file__).parents[1]
FILE = Path("params.yaml")


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(PROJECT / "params.yaml")


@pytest.fixture(scope="module")
def paths(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Paths:
    paths = Paths(tmp_path_factory.mktemp("cells"))
    for name in ("visda", "office31", "domainnet"):
        make_runs(load_dataset(name), params.experiments[name], paths)
    return paths


def said(params: Params, paths: Paths, *cell: str, task: str | None = None, file: Path = FILE) -> str:
    name, method, place = cell
    return "\n".join(describe_cell(Project(params, load_dataset(name), paths, file), name, method, place, task))


def selected(paths: Paths, dataset: DatasetSpec, task: str, method: str = "dacsm") -> list[dict]:
    folders = [paths.evaluated(dataset.name, method, task, seed) for seed in (0, 1, 2)]
    return [json.loads((folder / "metrics.json").read_text())["selected"] for folder in folders]


def shown(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def test_a_class_of_visda(params: Params, paths: Paths) -> None:
    text = said(params, paths, "visda", "dacsm", "truck")
    trucks = [run["per_class"]["truck"] for run in selected(paths, load_dataset("visda"), "synthetic-real")]
    first, *lines = text.splitlines()
    assert first == f"visda, dacsm, truck of synthetic → real: {shown(trucks)}"
    assert [line for line in lines if line.startswith("  seed")] == [
        f"  seed {seed}: {value:.2f}, epoch 7, selected by infomax" for seed, value in enumerate(trucks)
    ]
    assert load_dataset("visda").protocol in text
    assert "  last epoch: " in text
    assert "  oracle, with target labels: " in text


@pytest.mark.parametrize(
    ("dataset", "name", "tasks"),
    [
        ("office31", "Amazon-DSLR", ["amazon-dslr"]),
        ("office31", "average", None),
        (
            "domainnet",
            "real-mean",
            [f"real-{other}" for other in ["clipart", "infograph", "painting", "quickdraw", "sketch"]],
        ),
        (
            "domainnet",
            "mean-sketch",
            [f"{other}-sketch" for other in ["clipart", "infograph", "painting", "quickdraw", "real"]],
        ),
    ],
)
def test_a_task_and_means_over_tasks(params: Params, paths: Paths, dataset: str, name: str, tasks: list | None) -> None:
    tasks = tasks or list(params.experiments[dataset].tasks)
    by_task = [[run["overall"] for run in selected(paths, load_dataset(dataset), task)] for task in tasks]
    over_seeds = [statistics.mean(values) for values in zip(*by_task, strict=True)]
    text = said(params, paths, dataset, "dacsm", name)
    assert text.splitlines()[0].endswith(f": {shown(over_seeds)}")
    assert text.count("metrics.json") == 3 * len(tasks)


def test_a_class_within_a_task(params: Params, paths: Paths) -> None:
    text = said(params, paths, "office31", "cdtrans", "MUG", task="Webcam-Amazon")
    mugs = [run["per_class"]["mug"] for run in selected(paths, load_dataset("office31"), "webcam-amazon", "cdtrans")]
    assert text.splitlines()[0] == f"office31, cdtrans, mug of webcam → amazon: {shown(mugs)}"


def test_source_only_is_made_again_from_its_pretraining(params: Params, paths: Paths) -> None:
    text = said(params, paths, "visda", "source_only", "overall", file=Path("other.yaml"))
    command = text.splitlines()[-1]
    assert command.startswith("  snakemake --cores all --configfile other.yaml --forcerun pretrain evaluate -- ")
    assert "oracle" not in text


@pytest.mark.parametrize(
    ("cell", "task", "sentence"),
    [
        (("visda", "dacsm", "truk"), None, "synthetic → real of visda has no cell 'truk'; near are truck"),
        (("visda", "dacms", "truck"), None, "experiments.visda.methods has no 'dacms'; near are dacsm; name one"),
        (("office31", "dacsm", "amazon-dsl"), None, "office31 has no cell 'amazon-dsl'; near are .*amazon-dslr"),
        (
            ("office31", "dacsm", "mug"),
            None,
            "'mug' is a cell of each task of office31; say of which, as in `--task amazon",
        ),
        (("office31", "dacsm", "mgu"), "amazon-dslr", "amazon → dslr of office31 has no cell 'mgu'; near are .*mug"),
        (("office31", "dacsm", "mug"), "amazon-amazon", "--task: office31 has no task 'amazon-amazon'; near are"),
        (("office31", "dacsm", "zzzzzzzzzz"), None, "no cell 'zzzzzzzzzz'; it has amazon-dslr, amazon-webcam"),
    ],
)
def test_what_is_not_in_the_table_is_one_sentence(
    params: Params, paths: Paths, cell: tuple[str, ...], task: str | None, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        said(params, paths, *cell, task=task)
    assert "\n" not in str(caught.value)


def test_a_cell_that_is_not_made_says_how_to(params: Params, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"seed0/metrics\.json is not made yet.* `snakemake --cores all \S+json`\."):
        said(params, Paths(tmp_path), "visda", "dacsm", "truck")


def test_every_class_and_mean_of_every_table_is_a_cell(params: Params) -> None:
    for name, experiment in params.experiments.items():
        dataset = params.load_dataset_of(name)
        for task in experiment.tasks:
            for place in (*dataset.classes, "mean_per_class", "overall"):
                assert find_cell(Project(params, dataset, Paths()), experiment, place, task).tasks == (task,)
            if dataset.table_form != "classes":
                assert find_cell(Project(params, dataset, Paths()), experiment, task, None).tasks == (task,)


def test_hashes_time_and_memory_come_from_the_records(params: Params, paths: Paths) -> None:
    dataset, settings = load_dataset("visda"), {"pretrain.visda": {"epochs": 20}}
    for seed in (0, 1, 2):
        for stage in ("pretrain", "adapt", "evaluate"):
            arguments = (
                {"source": "synthetic"} if stage == "pretrain" else {"method": "dacsm", "task": "synthetic-real"}
            )
            run = run_of(Project(params, dataset, paths), stage, **arguments, seed=seed)
            record = {
                "stage": stage,
                "arguments": run.arguments,
                "outputs": {},
                "settings": settings | {"stage": stage, **({"odd": 1} if (stage, seed) == ("adapt", 2) else {})},
                "git": {"commit": "c0ffee" * 7, "clean": stage != "adapt"},
                "code": {},
                "inputs": {"data/shards/visda/real/index.json": "ab" * 32, "x/model.safetensors": "00"},
                "device": "a GPU",
                "seconds": 90.0 + seed,
                "peak_memory_mb": {"ram": 1000 + seed, "cuda": 7000 + seed},
            }
            write_json(run.record, record)
    lines = said(params, paths, "visda", "dacsm", "truck").splitlines()
    stages = {line.split(":")[0].strip(): line for line in lines if "settings" in line}
    assert list(stages) == ["pretrain", "adapt", "evaluate"]
    assert len(stages["pretrain"].split("settings ")[1].split(";")[0].split(", ")) == 1
    assert len(stages["adapt"].split("settings ")[1].split(";")[0].split(", ")) == 2  # one run had other settings
    assert "(commit c0ffeec0ffee with changes); a GPU" in stages["adapt"]
    assert "with changes" not in stages["pretrain"]
    assert "  data: real abababababab" in lines
    assert "took 14 min in 9 runs, with at most 1002 MiB of memory, 7002 MiB on the GPU" in lines
    assert "  adapt dacsm/synthetic-real/seed1: 2 min, 1001 MiB, 7001 MiB on the GPU" in lines
    assert dataset.name == "visda"
