"""Pretraining and adaptation on a tiny dataset: reproducible, blind to target labels, and stopped by a bad loss."""

import csv
import errno
import itertools
import os
import re
import shutil
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch

from dacsm.adaptation import pairing
from dacsm.adaptation.scores import score_epochs
from dacsm.config.kinds.cdtrans import Consistency, Settings
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.data.shards import ShardedImages
from dacsm.evaluation.metrics import read_epochs
from dacsm.evaluation.predictions import predict
from dacsm.methods.cdtrans.batches import epoch_order
from dacsm.methods.cdtrans.parts.consistency import scale_views
from dacsm.models.classifier import load_checkpoint, load_method_tensors
from dacsm.runtime.device import choose_compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import sha256
from dacsm.runtime.progress import TrainingProgress
from dacsm.runtime.resume import Resume
from dacsm.stages.adapt import adapt
from dacsm.stages.pretrain import pretrain
from dacsm.training.loss_log import LossLog

TASK = "synthetic-optdigits"


@pytest.fixture(scope="module")
def trained(tiny_params, tiny_dataset, tiny_paths, tmp_path_factory) -> Paths:
    """A root with tiny's shards and a source model."""
    paths = Paths(tmp_path_factory.mktemp("trained"))
    shutil.copytree(tiny_paths.root / "data", paths.root / "data")
    pretrain(Project(tiny_params, tiny_dataset, paths), "synthetic", 0, choose_compute("cpu"))
    return paths


def with_method(params: Params, **parts) -> Params:
    """Params with a method `tried`."""
    methods = params.adapt.methods | {"tried": Settings(kind="cdtrans", **parts)}
    return params.model_copy(update={"adapt": params.adapt.model_copy(update={"methods": methods})})


def with_recipe(params: Params, **changes) -> Params:
    recipe = params.adapt.recipes["tiny"].model_copy(update=changes)
    recipes = params.adapt.recipes | {"tiny": recipe}
    return params.model_copy(update={"adapt": params.adapt.model_copy(update={"recipes": recipes})})


def run(params, dataset, paths, method: str, workers: int = 0, features_folder: Path | None = None) -> dict[str, str]:
    """Adapt, and the hashes of what it wrote."""
    folder = paths.adapted("tiny", method, TASK, 0)
    shutil.rmtree(folder, ignore_errors=True)
    adapt(Project(params, dataset, paths), method, TASK, 0, choose_compute("cpu", workers, features_folder))
    return {path.name: sha256(path) for path in folder.iterdir()}


def test_pretraining_again_gives_the_same_bytes(trained, tiny_params, tiny_dataset, tmp_path):
    (tmp_path / "data").symlink_to(trained.root / "data")
    again = Paths(tmp_path)
    pretrain(Project(tiny_params, tiny_dataset, again), "synthetic", 0, choose_compute("cpu", workers=2))
    for name in ("model.safetensors", "log.csv"):
        one, two = (paths.pretrained("tiny", "synthetic", 0) / name for paths in (trained, again))
        assert one.read_bytes() == two.read_bytes()


def test_without_held_out_images_their_accuracy_is_not_spoken_of(trained, tiny_params, tiny_dataset, tmp_path, capsys):
    (tmp_path / "data").symlink_to(trained.root / "data")
    for fraction, said in ((0.1, True), (0.0, False)):
        recipes = tiny_params.pretrain | {
            "tiny": tiny_params.pretrain["tiny"].model_copy(update={"held_out": fraction})
        }
        params = tiny_params.model_copy(update={"pretrain": recipes})
        pretrain(Project(params, tiny_dataset, Paths(tmp_path)), "synthetic", 0, choose_compute("cpu"))
        lines = [line for line in capsys.readouterr().err.splitlines() if "  epoch " in line]
        assert lines
        assert all(("held-out source accuracy" in line) == said and "nan" not in line for line in lines)


def test_adapting_without_the_targets_labels_gives_the_same_bytes(trained, tiny_params, tiny_dataset):
    before = run(tiny_params, tiny_dataset, trained, "dacsm")
    labels = trained.shards("tiny", "optdigits") / "labels.csv"
    hidden = labels.rename(labels.with_suffix(".hidden"))
    try:
        assert run(tiny_params, tiny_dataset, trained, "dacsm", workers=2) == before
    finally:
        hidden.rename(labels)
    assert set(before) == {"model.safetensors", "last.safetensors", "log.csv", "epochs.npz"}


def test_a_class_that_the_source_lacks_stops_no_method(trained, tiny_params, tiny_dataset, tmp_path):
    """Labels by transport give it a log probability of minus infinity."""
    shutil.copytree(trained.root, tmp_path / "root")
    paths = Paths(tmp_path / "root")
    file = paths.shards("tiny", "synthetic") / "labels.csv"
    with file.open(newline="") as opened:
        rows = [row | {"label": "0" if row["label"] == "9" else row["label"]} for row in csv.DictReader(opened)]
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    run(tiny_params, tiny_dataset, paths, "csm")
    epochs = read_epochs(paths.adapted("tiny", "csm", TASK, 0) / "epochs.npz", "dacsm adapt", images=60, classes=10)
    assert set(range(10)) > set(epochs.pseudo_labels.flatten().tolist())
    assert not (epochs.pseudo_labels == 9).any()


def test_all_weights_zero_is_cdtrans_bit_for_bit(trained, tiny_params, tiny_dataset):
    off = {"weight": 0}
    params = with_method(tiny_params, style=off, noise=off, pyramid=off, consistency=off, matching={"scales": []})
    assert run(params, tiny_dataset, trained, "tried") == run(params, tiny_dataset, trained, "cdtrans")


@pytest.mark.parametrize(
    "parts",
    [
        {"style": {"weight": 1}},
        {"noise": {"weight": 1}},
        {"pyramid": {"weight": 1}},
        {"consistency": {"weight": 1}},
        {"masking": {"weight": 1}},
        {"masking": {"weight": 1, "held_to": "soft_targets", "every": 1}},
        {"matching": {"scales": [0.75, 1.25], "after_epochs": 0}},
        {"mix_cross_entropy": 1},
        {"attention_dropout": 0.5},
        {"teacher_detached": True},
        {"recipe": {"zoom": 0.5}},
        {"recipe": {"epochs": 1.5}},
    ],
    ids=lambda parts: next(iter(parts)),
)
def test_each_part_changes_the_model_and_nothing_else_moves(trained, tiny_params, tiny_dataset, parts):
    params = with_method(tiny_params, **parts)
    assert run(params, tiny_dataset, trained, "tried") != run(params, tiny_dataset, trained, "cdtrans")


def test_what_an_adaptation_leaves(trained, tiny_params, tiny_dataset):
    run(tiny_params, tiny_dataset, trained, "cdtrans")
    path = trained.adapted("tiny", "cdtrans", TASK, 0) / "epochs.npz"
    epochs = read_epochs(path, "dacsm adapt", images=60, classes=10)
    assert epochs.predicted.shape == epochs.pseudo_labels.shape == (2, 60)
    assert epochs.logits.shape == (2, 60, 10)
    assert epochs.features.shape == (2, 60, 32)
    assert epochs.logits.dtype == epochs.features.dtype == np.float16
    assert np.array_equal(epochs.logits[0].argmax(axis=1), epochs.predicted[0])  # a sample of all
    scores = score_epochs(epochs)
    assert epochs.kept == scores["infomax"].argmax() + 1
    assert np.isfinite([*scores.values()]).all()
    with (path.parent / "log.csv").open(newline="") as file:
        assert [float(row["infomax"]) for row in csv.DictReader(file)] == pytest.approx(scores["infomax"], rel=1e-4)


@pytest.mark.parametrize("validator", ["snd", "class_ami", "source_accuracy", "last"])
def test_the_weights_of_the_epoch_that_the_recipes_validator_selects_are_kept(
    trained, tiny_params, tiny_dataset, validator
):
    run(with_recipe(tiny_params, validator=validator), tiny_dataset, trained, "cdtrans")
    folder = trained.adapted("tiny", "cdtrans", TASK, 0)
    epochs = read_epochs(folder / "epochs.npz", "dacsm adapt", images=60, classes=10)
    assert epochs.kept == score_epochs(epochs)[validator].argmax() + 1
    classifier = load_checkpoint(folder / "model.safetensors")
    seen = predict(classifier, ShardedImages(trained.shards("tiny", "optdigits")), choose_compute("cpu"))
    assert np.array_equal(seen.predicted, epochs.predicted[epochs.kept - 1])


def test_the_weight_average_is_what_is_evaluated(trained, tiny_params, tiny_dataset):
    plain = run(tiny_params, tiny_dataset, trained, "cdtrans")
    assert run(with_recipe(tiny_params, averaging=0.9), tiny_dataset, trained, "cdtrans") != plain


def test_a_rate_that_is_too_high_stops_with_a_sentence(trained, tiny_params, tiny_dataset):
    optimiser = tiny_params.adapt.recipes["tiny"].optimiser
    wild = optimiser.model_copy(update={"learning_rate": 1e30, "warmup_epochs": 0.0})
    with pytest.raises(InputError, match=r"(nan|inf) in epoch \d+, step \d+"):
        run(with_recipe(tiny_params, optimiser=wild), tiny_dataset, trained, "cdtrans")
    assert not (trained.adapted("tiny", "cdtrans", TASK, 0) / "model.safetensors").exists()


def test_the_first_bad_loss_is_named():
    log = LossLog(epoch=3)
    log.append({"source": torch.tensor(1.0), "target": torch.tensor(2.0)})
    with pytest.raises(InputError, match="target is nan in epoch 3, step 2"):
        log.append({"source": torch.tensor(1.0), "target": torch.tensor(float("nan"))})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_losses_of_a_resumed_epoch_can_be_saved_again():
    """Those that were saved come back on the CPU, and those that follow are on the GPU."""
    log, resumed = LossLog(epoch=1), LossLog(epoch=1)
    log.append({"source": torch.tensor(1.0, device="cuda")})
    resumed.load_state_dict({**log.state_dict(), "rows": log.state_dict()["rows"].cpu()})
    resumed.append({"source": torch.tensor(3.0, device="cuda")})
    assert resumed.state_dict()["rows"].tolist() == [[1.0], [3.0]]
    assert resumed.means() == {"source": 2.0}


def test_a_loss_that_comes_now_and_then_counts_as_it_last_was():
    log = LossLog(epoch=1)
    for source, consistency in ((1.0, 4.0), (2.0, None), (3.0, 8.0), (4.0, None)):
        extra = {} if consistency is None else {"consistency": torch.tensor(consistency)}
        log.append({"source": torch.tensor(source)} | extra)
    assert log.means() == {"source": 2.5, "consistency": 6.0}


def test_views_at_other_scales_come_every_other_step_and_go_on_where_they_stopped(trained, tiny_params, tiny_dataset):
    images = ShardedImages(trained.shards("tiny", "optdigits"))
    recipe, model = tiny_params.adaptation("tiny", "dacsm"), tiny_params.recipe("pretrain", "tiny").model

    def views(steps: range) -> list:
        of_epoch = scale_views(Consistency(weight=1, every=2), images, model, recipe, 0, 1, 7)
        return [of_epoch(step) for step in steps]

    whole = views(range(7))
    assert [batch is not None for batch in whole] == [True, False, True, False, True, False, True]
    for done in (3, 4):
        for ours, theirs in zip(whole[done:], views(range(done, 7)), strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    seen = torch.cat([batch[1] for batch in whole if batch is not None])
    assert sorted(seen[: len(images)].tolist()) == list(range(len(images)))  # all of them before one comes again


def test_one_set_of_workers_makes_all_of_a_step(trained, tiny_params, tiny_dataset, monkeypatch):
    started, counted = [], []
    start = BaseProcess.start
    monkeypatch.setattr(BaseProcess, "start", lambda self: started.append(self) or start(self))
    for kind, name in ((Resume, "start_epoch"), (TrainingProgress, "step")):
        known = getattr(kind, name)
        watch = lambda *given, known=known, name=name, **parts: (  # noqa: E731
            counted.append((name, len(started))) or known(*given, **parts)
        )
        monkeypatch.setattr(kind, name, watch)
    run(tiny_params, tiny_dataset, trained, "dacsm", workers=2)
    of_epoch = [after - before for (name, before), (_, after) in itertools.pairwise(counted) if name == "start_epoch"]
    assert of_epoch == [2, 2]


def test_what_the_method_leaves_is_in_the_last_checkpoint_and_not_in_the_classifier(trained, tiny_params, tiny_dataset):
    for method, layers in (("dacsm", 2), ("cdtrans", 0)):
        run(tiny_params, tiny_dataset, trained, method)
        folder = trained.adapted("tiny", method, TASK, 0)
        assert len(load_method_tensors(folder / "last.safetensors")) == layers
        assert not load_method_tensors(folder / "model.safetensors")
        load_checkpoint(folder / "last.safetensors")


@pytest.mark.parametrize(("pairs", "expected"), [(100, 96), (48, 48), (17, 16), (5, 16), (1, 16)])
def test_an_epoch_is_whole_batches_even_of_few_pairs(tiny_params, pairs, expected):
    recipe = tiny_params.adapt.recipes["tiny"].model_copy(update={"max_pairs": None})
    order = epoch_order(pairs, recipe, 0, 1)
    assert len(order) == expected
    assert set(order) <= set(range(pairs))
    assert pairs < 16 or len(set(order)) == len(order)


def test_fewer_pairs_than_a_batch_are_repeated_and_said(trained, tiny_params, tiny_dataset, capsys):
    run(with_recipe(tiny_params, batch_size=2, max_pairs=None), tiny_dataset, trained, "cdtrans")
    assert "fewer than a batch" not in capsys.readouterr().err
    run(with_recipe(tiny_params, batch_size=500, max_pairs=None), tiny_dataset, trained, "cdtrans")
    said = capsys.readouterr().err
    assert re.search(r"epoch 1/2  \d+ pairs are fewer than a batch of 500, and are repeated to fill one\n", said)
    assert "epoch 2/2" in said


def test_a_refresh_without_pairs_keeps_the_former_ones_and_says_so(
    trained, tiny_params, tiny_dataset, capsys, monkeypatch
):
    found = []

    def agreeing_pairs(*arguments):
        found.append(pairing.agreeing_pairs(*arguments))
        none = np.zeros(0, dtype=np.int64)
        return found[0] if len(found) == 1 else pairing.Pairs(none, none, none, none)

    monkeypatch.setattr("dacsm.methods.cdtrans.method.agreeing_pairs", agreeing_pairs)
    run(tiny_params, tiny_dataset, trained, "cdtrans")
    notes = [line for line in capsys.readouterr().err.splitlines() if "former pairs are kept" in line]
    assert len(notes) == 1
    assert "epoch 2/2" in notes[0]
    with (trained.adapted("tiny", "cdtrans", TASK, 0) / "log.csv").open() as file:
        assert [row["pairs"] for row in csv.DictReader(file)] == [str(len(found[0]))] * 2


def test_no_pair_at_all_is_a_sentence(trained, tiny_params, tiny_dataset, monkeypatch):
    none = np.zeros(0, dtype=np.int64)
    monkeypatch.setattr("dacsm.methods.cdtrans.method.agreeing_pairs", lambda *_: pairing.Pairs(none, none, none, none))
    with pytest.raises(InputError, match="no pair to adapt on"):
        run(tiny_params, tiny_dataset, trained, "cdtrans")


def test_features_on_disk_change_nothing_and_those_in_float16_stay_so(
    trained, tiny_params, tiny_dataset, tmp_path, monkeypatch
):
    before = run(tiny_params, tiny_dataset, trained, "dacsm")
    assert run(tiny_params, tiny_dataset, trained, "dacsm", features_folder=tmp_path) == before
    assert not list(tmp_path.iterdir())
    kept = set()

    def nearest_over_scales(source, targets, *others):
        kept.update(part.dtype for part in (source, *targets))
        return pairing.nearest_over_scales(source, targets, *others)

    monkeypatch.setattr("dacsm.methods.cdtrans.method.nearest_over_scales", nearest_over_scales)
    run(with_recipe(tiny_params, features="float16"), tiny_dataset, trained, "dacsm")
    assert kept == {torch.float16}


def test_a_features_folder_without_stage_is_said(trained, tiny_params, tiny_dataset, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"features folder .* cannot take 0 MB \(No space left on device\)"):
        run(tiny_params, tiny_dataset, trained, "cdtrans", features_folder=tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        choose_compute("cpu", features_folder=tmp_path / "missing")


def test_a_missing_source_model_is_named(tiny_params, tiny_dataset, trained):
    with pytest.raises(InputError, match=r"seed5.*was not found"):
        adapt(Project(tiny_params, tiny_dataset, trained), "cdtrans", TASK, 5, choose_compute("cpu"))
    assert not Path(trained.adapted("tiny", "cdtrans", TASK, 5)).exists()
