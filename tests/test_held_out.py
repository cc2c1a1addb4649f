"""A protocol that evaluates on other images than it adapts on, from shards to metrics."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data.shards import read_labels
from dacsm.runtime.device import Compute
from dacsm.stages.adapt import adapt
from dacsm.stages.evaluate import evaluate
from dacsm.stages.pretrain import pretrain
from dacsm.stages.shard import shard

TASK = "synthetic-mnist"
CPU = Compute(torch.device("cpu"))


@pytest.mark.slow
def test_what_is_evaluated_was_not_adapted_on(
    tiny_params: Params, tiny_dataset: DatasetSpec, tiny_paths: Paths, tmp_path: Path
) -> None:
    content = tiny_dataset.model_dump(mode="json")
    content["domains"]["mnist"]["held_out"] = 0.3
    dataset, paths = DatasetSpec.model_validate(content), Paths(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw").symlink_to(tiny_paths.root / "data/raw")
    for domain in dataset.domains_of([TASK]):
        shard(Project(tiny_params, dataset, paths), domain)
    pretrain(Project(tiny_params, dataset, paths), "synthetic", 0, CPU)
    adapt(Project(tiny_params, dataset, paths), "cdtrans", TASK, 0, CPU)

    labels = read_labels(paths.shards("tiny", "mnist_held_out"))
    assert len(labels) == 18
    for method in ("source_only", "cdtrans"):
        evaluate(Project(tiny_params, dataset, paths), method, TASK, 0, CPU)
        folder = paths.evaluated("tiny", method, TASK, 0)
        metrics = json.loads((folder / "metrics.json").read_text())
        with (folder / "predictions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["label"]) for row in rows] == labels.tolist()
        right = np.mean([row["label"] == row["predicted"] for row in rows])
        assert metrics["selected"]["overall"] == pytest.approx(100 * right, abs=0.01)
        assert metrics["images"] == 18
        assert "oracle" not in metrics
        assert metrics["last"]["epoch"] == 2
    assert len(np.load(paths.adapted("tiny", "cdtrans", TASK, 0) / "epochs.npz")["predicted"][0]) == 42
