"""The seam for backbones: source-only takes any network of timm, and a method says what it asks for."""

import csv
import json

import pytest
import timm
from torch import nn

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.models.backbone import load_weights
from dacsm.runtime.device import choose_compute
from dacsm.runtime.errors import InputError
from dacsm.stages.adapt import adapt
from dacsm.stages.evaluate import evaluate
from dacsm.stages.pretrain import pretrain
from dacsm.stages.rescale import rescale
from dacsm.stages.shard import shard
from dacsm.stages.table import table

TASK = "synthetic-mnist"
CPU = choose_compute("cpu")
SHAPE = dict.fromkeys(("patch_size", "dim", "depth", "heads"))


@pytest.mark.parametrize("name", ["resnet50", "convnext_tiny"])
def test_source_only_takes_any_network_and_cdtrans_says_what_it_asks_for(
    name: str, tiny_params: Params, tiny_dataset: DatasetSpec, tiny_paths: Paths, tmp_path
) -> None:
    """From raw digits through shards of 32 pixels to metrics and a table."""
    recipe = tiny_params.pretrain["tiny"]
    model = recipe.model.model_copy(update={"name": name, "image_size": 32, "resize": 32, **SHAPE})
    stored = tiny_params.shard["tiny"].model_copy(update={"image_size": 32})
    pretraining = recipe.model_copy(update={"model": model, "epochs": 1})
    shown = tiny_params.experiments["tiny"].model_copy(
        update={"tasks": (TASK,), "methods": ("source_only",), "seeds": (0,)}
    )
    params = tiny_params.model_copy(
        update={"shard": {"tiny": stored}, "pretrain": {"tiny": pretraining}, "experiments": {"tiny": shown}}
    )
    paths = Paths(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/raw").symlink_to(tiny_paths.root / "data/raw")
    for domain in ("synthetic", "mnist"):
        shard(Project(params, tiny_dataset, paths), domain)
    pretrain(Project(params, tiny_dataset, paths), "synthetic", 0, CPU)
    evaluate(Project(params, tiny_dataset, paths), "source_only", TASK, 0, CPU)
    rescale(Project(params, tiny_dataset, paths), "source_only", TASK, 0, CPU)
    metrics = json.loads((paths.evaluated("tiny", "source_only", TASK, 0) / "metrics.json").read_text())
    assert metrics["backbone"] == name
    assert 0 <= metrics["selected"]["mean_per_class"] <= 100
    table(Project(params, tiny_dataset, paths), "tiny")
    with paths.table("tiny").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["method"] == "source_only"
    assert float(row["mean_per_class"]) == round(metrics["selected"]["mean_per_class"], 1)
    with pytest.raises(InputError, match=rf"^methods of kind cdtrans ask for a plain Vision Transformer .* is {name};"):
        adapt(Project(params, tiny_dataset, paths), "cdtrans", TASK, 0, CPU)
    assert not paths.adapted("tiny", "cdtrans", TASK, 0).exists()


def test_weights_that_timm_does_not_have_or_cannot_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> nn.Module:
        raise ConnectionError("no route\nto the hub")

    network = timm.create_model("resnet10t", pretrained=False)
    with pytest.raises(InputError, match="'timm:resnet_ten', which timm does not know; name another"):
        load_weights(network, "timm:resnet_ten", "resnet10t")
    with pytest.raises(InputError, match=r"model.weights names missing.pth, which is not a file"):
        load_weights(network, "missing.pth", "resnet10t")
    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(InputError, match=r"resnet10t could not be fetched \(no route to the hub\); give model.weights"):
        load_weights(network, "timm:resnet10t", "resnet10t")
