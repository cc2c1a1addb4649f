"""Metrics of runs that nobody made, to make tables of."""

import csv
import json
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Experiment, Params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.runtime.files import write_csv, write_json
from dacsm.stages.table import table

CLASSES = ("bus", "car", "truck")
TASK = "synthetic-mnist"
SEEDS = (0, 1, 2)
BASE = {"source_only": 60.0, "cdtrans": 70.0, "dacsm": 75.0}
COMPLETE = dict.fromkeys(("selection", "epoch", "per_class", "mean_per_class", "overall"), 0)
SELECTIONS = {"selected": "infomax", "last": "last epoch", "oracle": "oracle (target labels)"}


@dataclass
class Made:
    """Made-up runs, and the table that is made of them."""

    params: Params
    dataset: DatasetSpec
    paths: Paths

    def experiment(self, **changed: tuple[Any, ...]) -> None:
        experiments = {"tiny": self.params.experiments["tiny"].model_copy(update=changed)}
        self.params = self.params.model_copy(update={"experiments": experiments})

    def path(self, method: str, task: str, seed: int) -> Path:
        return self.paths.evaluated("tiny", method, task, seed) / "metrics.json"

    def read(self, method: str, task: str, seed: int) -> dict[str, Any]:
        return json.loads(self.path(method, task, seed).read_text())

    def change(self, method: str, task: str, seed: int, changed: dict[str, Any]) -> None:
        metrics = self.read(method, task, seed) | changed
        self.path(method, task, seed).write_text(json.dumps(metrics))

    def make(self) -> None:
        """Metrics of every run of the experiment: 100 images a class, accuracies about BASE."""
        experiment = self.params.experiments["tiny"]
        for number, task in enumerate(experiment.tasks):
            for method in experiment.methods:
                for seed in experiment.seeds:
                    random = np.random.default_rng([number, sorted(BASE).index(method), seed])
                    self._make_run(method, task, seed, random)

    def _make_run(self, method: str, task: str, seed: int, random: np.random.Generator) -> None:
        def accuracies(selection: str, epoch: int) -> dict[str, Any]:
            right = (BASE[method] + random.integers(-9, 9, len(CLASSES))).astype(int)
            return {
                "selection": selection,
                "epoch": epoch,
                "mean_per_class": round(float(right.mean()), 2),
                "overall": round(float(right.mean()) - 1.25, 2),  # made up, so that no column can stand for another
                "per_class": dict(zip(CLASSES, right.astype(float).tolist(), strict=True)),
            }

        metrics = {"dataset": "tiny", "method": method, "task": task, "seed": seed, "backbone": "deit_small",
                   "protocol": self.dataset.protocol, "images": 300}  # fmt: skip
        if method == "source_only":
            metrics |= dict.fromkeys(("selected", "last"), accuracies("last epoch", 8))
        else:
            metrics |= {kind: accuracies(name, 7 + seed % 2) for kind, name in SELECTIONS.items()}
        path = self.path(method, task, seed)
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(metrics))
        (path.parent / "predictions.csv").write_text(f"index,label,predicted,probability\n0,0,{seed},0.9\n1,2,2,0.8\n")

    def draw(self) -> None:
        table(Project(self.params, self.dataset, self.paths), "tiny")

    def table(self) -> list[dict[str, str]]:
        self.draw()
        with self.paths.table("tiny", "csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def markdown(self) -> str:
        self.draw()
        return self.paths.table("tiny", "md").read_text().replace("\u00a0", " ")

    def rows(self, path: Path) -> list[dict[str, str]]:
        """The rows of a CSV that lies beside the table."""
        self.draw()
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    def metrics(self) -> dict[str, Any]:
        self.draw()
        return json.loads(self.paths.metrics("tiny").read_text())


def rows_of(markdown: str, heading: str, number: int = 0) -> list[list[str]]:
    """The cells of the first table under a heading, or of a later one, header first."""
    lines = markdown.split(heading, 1)[1].splitlines()
    tables = [list(block) for is_table, block in groupby(lines, lambda line: line.startswith("|")) if is_table]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in tables[number]]
    return [rows[0], *rows[2:]]


def make_runs(dataset: DatasetSpec, experiment: Experiment, paths: Paths, images: int = 40) -> None:
    """Metrics and predictions of a whole experiment on any dataset, with accuracies that differ from cell to cell."""
    random = np.random.default_rng(0)

    def accuracies(selection: str, epoch: int) -> dict[str, Any]:
        recalls = random.uniform(5, 95, len(dataset.classes)).round(2).tolist()
        per_class = dict(zip(dataset.classes, recalls, strict=True))
        mean = round(float(np.mean(recalls)), 2)
        return {"selection": selection, "epoch": epoch, "mean_per_class": mean, "overall": round(mean - 1.25, 2),
                "per_class": per_class}  # fmt: skip

    for method, task, seed in product(experiment.methods, experiment.tasks, experiment.seeds):
        metrics = {"dataset": dataset.name, "method": method, "task": task, "seed": seed,
                   "backbone": "deit_base_patch16_224", "protocol": dataset.protocol, "images": images}  # fmt: skip
        if method == "source_only":
            metrics |= dict.fromkeys(("selected", "last"), accuracies("last epoch", 8))
        else:
            metrics |= {kind: accuracies(name, 7) for kind, name in SELECTIONS.items()}
        folder = paths.evaluated(dataset.name, method, task, seed)
        write_json(folder / "metrics.json", metrics)
        rows = [(n, n % len(dataset.classes), n * 7 % len(dataset.classes), 0.5) for n in range(images)]
        write_csv(folder / "predictions.csv", ("index", "label", "predicted", "probability"), rows)
