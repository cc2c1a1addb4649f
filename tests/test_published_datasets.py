"""Each published dataset from download to table, on its look-alike, through Snakemake: minutes, in `make test-all`.

The archives are served over HTTP on 127.0.0.1. Models are tiny and learn for an epoch: the numbers mean nothing.
"""

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from faulty_server import Server, serving
from look_alikes import look_alike
from tiny_project import ProjectFolder

from dacsm.config.datasets import DatasetSpec
from dacsm.config.presets import Presets
from dacsm.evaluation.metrics import measure

CHECKOUT = Path(__file__).parents[1]
METHODS = ["source_only", "cdtrans"]
SIZES = {"image_size": 28, "resize": 32, "patch_size": 7, "dim": 32, "depth": 2, "heads": 2, "channels": 3}
COLOURS = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[ProjectFolder, Server, DatasetSpec]]:
    """A project whose params.yaml asks for the look-alike of a dataset, and the server of its archives."""
    with ExitStack() as stack:

        def made(
            name: str, tasks: list[str] | None = None, per_class: int = 3
        ) -> tuple[ProjectFolder, Server, DatasetSpec]:
            content = look_alike(name, tmp_path / "served", per_class)
            server = stack.enter_context(serving(tmp_path / "served"))
            text = yaml.safe_dump(content, sort_keys=False).replace("{server}", server.url)
            project = copied(tmp_path / "project")
            (project.folder / f"workflow/datasets/{name}.yaml").write_text(text)
            dataset = DatasetSpec.model_validate(yaml.safe_load(text))
            params = settings(name, tasks or list(dataset.tasks))
            (project.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
            return project, server, dataset

        yield made


def copied(folder: Path) -> ProjectFolder:
    """The checkout's files in another folder, without its results and records."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in listed:
        if name and not name.startswith((".snakemake/", "results/", "dvc.lock")) and (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, folder / name)
    return ProjectFolder(folder)


def settings(name: str, tasks: list[str]) -> dict[str, Any]:
    """The checkout's params for one dataset, with a tiny model and an epoch of training."""
    params = Presets("params.yaml").resolve(yaml.safe_load((CHECKOUT / "params.yaml").read_text(encoding="utf-8")))
    pretrain, adapt = params["pretrain"]["digits"], params["adapt"]["recipes"]["digits"]
    pretrain |= {"model": pretrain["model"] | SIZES | COLOURS, "epochs": 1, "batch_size": 16, "held_out": 0}
    adapt |= {"epochs": 1, "batch_size": 16, "refresh_epochs": 1, "max_pairs": 32}
    shard = {"image_size": 32, "encoding": "jpeg", "images_per_shard": 1000}
    params |= {"datasets": [name], "tables": {name: name}, "shard": {name: shard}, "pretrain": {name: pretrain}}
    params["experiments"] = {name: {"tasks": tasks, "methods": METHODS, "seeds": [0]}}
    params["adapt"]["recipes"] = {name: adapt}
    return params


def rows_of(project: ProjectFolder, name: str) -> list[dict[str, str]]:
    with (project.folder / f"results/{name}_table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_visda(make: Callable) -> None:
    """From end to end as a user has it: each job is a process that loads the libraries itself."""
    project, server, dataset = make("visda", per_class=6)
    project.cold = True
    project.snakemake("results/visda_table.csv", "results/visda/report.html")
    rows = rows_of(project, "visda")
    assert {row["method"] for row in rows} >= set(METHODS)
    assert set(dataset.classes) <= rows[0].keys()
    assert "VisDA-2017 (a look-alike" in (project.folder / "results/visda_table.md").read_text()
    receipts = sorted(path.name for path in (project.folder / "data/raw/visda/receipts").iterdir())
    assert receipts == ["train.json", "train.sha256", "validation.json", "validation.sha256"]
    assert "Nothing to be done" in project.snakemake("-n", "results/visda_table.csv")
    asked = len(server.faults.requests)
    project.snakemake("visda_downloaded", "--forcerun", "download")
    assert len(server.faults.requests) == asked  # it is there, and checked


def test_a_fault_ends_in_its_sentence(make: Callable) -> None:
    project, server, _ = make("visda")
    server.faults.page = True
    printed = project.snakemake("results/visda_table.csv", ok=False)
    last = printed.rstrip().splitlines()[-1]
    assert last.startswith("dacsm: data/raw/visda/")
    assert "web page" in last
    assert "fetch it by hand from http://ai.bu.edu/visda-2017/" in last
    assert not list((project.folder / "data").rglob("index.json"))


@pytest.mark.parametrize("name", ["office31", "office_home"])
def test_office(make: Callable, name: str) -> None:
    project, _, dataset = make(name)
    project.snakemake(f"results/{name}_table.csv")
    text = (project.folder / f"results/{name}_table.csv").read_text()
    for source, target in (dataset.split_task(task) for task in dataset.tasks):
        assert f"{source}-{target}" in text
    evaluated = list((project.folder / f"results/{name}/evaluated").rglob("metrics.json"))
    assert len(evaluated) == len(METHODS) * len(dataset.tasks)


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("pacs", ["photo-sketch"]),
        ("pacs_thinned", ["photo-sketch_thinned"]),
        ("office_caltech10", ["caltech-dslr", "dslr-caltech"]),
    ],
)
def test_small_photographs(make: Callable, name: str, tasks: list[str]) -> None:
    project, _, dataset = make(name, tasks, per_class=4)
    project.snakemake(f"results/{name}_table.csv")
    rows = rows_of(project, name)
    assert {row["method"] for row in rows} == set(METHODS)
    assert set(tasks) <= rows[0].keys()
    for source, target in map(dataset.split_task, tasks):
        found = project.folder / f"results/{name}/evaluated/cdtrans/{source}-{target}/seed0/metrics.json"
        assert json.loads(found.read_text())["images"] == dataset.domains[target].stored
    assert (project.folder / f"data/raw/{dataset.raw_name}/{dataset.archives['images'].file}").exists()


def test_domainnet(make: Callable) -> None:
    trained = ["clipart-painting", "painting-sketch", "sketch-clipart"]
    project, _, dataset = make("domainnet", trained, per_class=1)
    sharded = [f"data/shards/domainnet/{domain}/index.json" for domain in dataset.domains]
    project.snakemake("results/domainnet_table.csv", *sharded)
    found = {path: json.loads((project.folder / path).read_text())["images"] for path in sharded}
    assert list(found.values()) == [domain.images for domain in dataset.domains.values()]
    made_up = project.folder / "made_up"
    make_up_all(project, made_up, dataset, trained[0])
    params = settings("domainnet", list(dataset.tasks)) | {"root": "made_up"}
    (project.folder / "made_up.yaml").write_text(yaml.safe_dump(params))
    project.run("python", "-m", "dacsm", "table", "domainnet", "--params", "made_up.yaml")
    table = (made_up / "results/domainnet_table.csv").read_text()
    assert all(task in table for task in dataset.tasks) or all(f"{domain}" in table for domain in dataset.domains)


def make_up_all(project: ProjectFolder, root: Path, dataset: DatasetSpec, trained: str) -> None:
    """Metrics and predictions of every task, drawn by chance, in the form of those of a trained one."""
    labels = np.arange(2 * len(dataset.classes)) % len(dataset.classes)
    for method in METHODS:
        run = project.folder / f"results/domainnet/evaluated/{method}/{trained}/seed0"
        for number, task in enumerate(dataset.tasks):
            metrics = json.loads((run / "metrics.json").read_text()) | {"task": task, "images": len(labels)}
            random = np.random.default_rng([number, len(method)])
            predicted = np.where(random.random(len(labels)) < 0.5, labels, random.permutation(labels))
            for kind in ("selected", "last", "oracle"):
                if kind in metrics:
                    metrics[kind] |= measure(labels, predicted, dataset.classes)
            folder = root / f"results/domainnet/evaluated/{method}/{task}/seed0"
            folder.mkdir(parents=True)
            (folder / "metrics.json").write_text(json.dumps(metrics))
            lines = (
                f"{n},{label},{guess},0.5\n" for n, (label, guess) in enumerate(zip(labels, predicted, strict=True))
            )
            (folder / "predictions.csv").write_text("index,label,predicted,probability\n" + "".join(lines))


def test_domainnet_split(make: Callable) -> None:
    task = "painting-sketch"
    project, _, dataset = make("domainnet_split", [task], per_class=1)
    project.snakemake("results/domainnet_split_table.csv")
    for method in METHODS:
        folder = project.folder / f"results/domainnet_split/evaluated/{method}/{task}/seed0"
        assert json.loads((folder / "metrics.json").read_text())["images"] == dataset.domains["sketch_test"].images
    assert (project.folder / "data/raw/domainnet/sketch.zip").exists()
    assert not (project.folder / "data/raw/domainnet_split/sketch.zip").exists()
    assert dataset.protocol in (project.folder / "results/domainnet_split_table.md").read_text()
