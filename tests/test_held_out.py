"""A protocol that evaluates on other images than it adapts on, from shards to metrics."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dacsm.adapt import adapt
from dacsm.catalog import DatasetSpec
from dacsm.compute import Compute
from dacsm.evaluate import evaluate
from dacsm.layout import Layout
from dacsm.params import Params
from dacsm.pretrain import pretrain
from dacsm.reading import read_labels
from dacsm.shard import shard

TASK = "synthetic-mnist"
CPU = Compute(torch.device("cpu"))


@pytest.mark.slow
def test_what_is_evaluated_was_not_adapted_on(
    tiny_params: Params, tiny_dataset: DatasetSpec, tiny_layout: Layout, tmp_path: Path
) -> None:
    content = tiny_dataset.model_dump(mode="json")
    content["domains"]["mnist"]["held_out"] = 0.3
    dataset, layout = DatasetSpec.model_validate(content), Layout(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw").symlink_to(tiny_layout.root / "data/raw")
    for domain in dataset.domains_of([TASK]):
        shard(tiny_params, dataset, domain, layout)
    pretrain(tiny_params, dataset, "synthetic", 0, layout, CPU)
    adapt(tiny_params, dataset, "cdtrans", TASK, 0, layout, CPU)

    labels = read_labels(layout.shards("tiny", "mnist_held_out"))
    assert len(labels) == 18
    for method in ("source_only", "cdtrans"):
        evaluate(tiny_params, dataset, method, TASK, 0, layout, CPU)
        folder = layout.evaluated("tiny", method, TASK, 0)
        metrics = json.loads((folder / "metrics.json").read_text())
        with (folder / "predictions.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["label"]) for row in rows] == labels.tolist()
        right = np.mean([row["label"] == row["predicted"] for row in rows])
        assert metrics["selected"]["overall"] == pytest.approx(100 * right, abs=0.01)
        assert metrics["images"] == 18
        assert "oracle" not in metrics
        assert metrics["last"]["epoch"] == 2
    assert len(np.load(layout.adapted("tiny", "cdtrans", TASK, 0) / "epochs.npz")["predicted"][0]) == 42
