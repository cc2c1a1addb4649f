"""Runs of every kind of method: exact resume, what they read, what they leave, and any backbone."""

import json
import math
import random
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import dacsm.runtime.resume as resume_module
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.evaluation.metrics import read_epochs
from dacsm.ledger.speed import AdaptationSteps
from dacsm.methods import load_kind
from dacsm.models.classifier import Classifier, Description, load_checkpoint
from dacsm.runtime.device import choose_compute
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import sha256
from dacsm.runtime.progress import TrainingProgress
from dacsm.runtime.resume import Resume
from dacsm.stages.adapt import adapt
from dacsm.stages.evaluate import evaluate
from dacsm.stages.pretrain import pretrain

TASK = "synthetic-optdigits"
KINDS = ("shot", "cdan", "mic")
METHODS = (*KINDS, "dann", "dacsm_mic")
KILLS = 5


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@pytest.fixture(scope="module")
def params(tiny_params: Params) -> Params:
    """Several steps an epoch, dropped paths, a narrow discriminator, a teacher that lags, and DANN besides."""
    content = tiny_params.model_dump(mode="json")
    narrow = {"hidden": 16}
    methods = content["adapt"]["methods"]
    methods["cdan"]["adversarial"] |= narrow | {"widest": 10, "random_width": 12}
    methods["mic"]["adversarial"] |= narrow
    methods["dann"] = {"kind": "cdan", "adversarial": {"conditioned": False} | narrow}
    content["adapt"]["recipes"]["tiny"] |= {"epochs": 3, "batch_size": 8, "refresh_epochs": 2, "averaging": 0.5}
    content["pretrain"]["tiny"] |= {"epochs": 8}
    content["pretrain"]["tiny"]["model"] |= {"drop_path": 0.2}
    return Params.model_validate(content)


@pytest.fixture(scope="module")
def base(params, tiny_dataset, tiny_paths, tmp_path_factory) -> Path:
    """A root with a source model."""
    root = tmp_path_factory.mktemp("base")
    (root / "data").symlink_to(tiny_paths.root / "data")
    pretrain(Project(params, tiny_dataset, Paths(root)), "synthetic", 0, choose_compute("cpu"))
    return root


@pytest.fixture(scope="module")
def run(base, tiny_dataset, params) -> Callable[..., dict[str, str]]:
    """Adapt by a method; gives the hashes of what it wrote."""

    def run(method: str, resume: Resume | None = None, root: Path = base, workers: int = 0, **given) -> dict[str, str]:
        project = Project(given.get("params", params), tiny_dataset, Paths(root))
        adapt(project, method, TASK, 0, choose_compute("cpu", workers), resume)
        return {path.name: sha256(path) for path in project.paths.adapted("tiny", method, TASK, 0).iterdir()}

    return run


@pytest.fixture(scope="module")
def whole(run) -> dict[str, dict[str, str]]:
    """What each method writes when nothing interrupts it."""
    return {method: run(method) for method in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_killed_five_times_it_ends_in_the_same_bytes(method, run, whole, tmp_path, monkeypatch):
    draw, step = random.Random(method), TrainingProgress.step
    monkeypatch.setattr(resume_module, "SAVE_EVERY", 0.0)  # saved after each step; a kill loses the one that it is in
    kills = 0
    while True:
        most = 2 if method == "dacsm_mic" else 4  # its few pairs make few steps
        left = draw.randint(1, most) if kills < KILLS else None

        def counted(progress, *arguments) -> None:
            nonlocal left
            if left is not None:
                left -= 1
                if not left:
                    raise Killed
            step(progress, *arguments)

        monkeypatch.setattr(TrainingProgress, "step", counted)
        try:
            found = run(method, Resume(tmp_path / "resume"))
            break
        except Killed:
            kills += 1
    assert kills == KILLS
    assert found == whole[method]


def test_killed_between_saves_the_last_epoch_counts(run, whole, tmp_path, monkeypatch):
    """Nothing is saved inside an epoch: what the epoch before has left makes all of the next."""
    end = Resume.end_epoch
    for method in KINDS:
        place = tmp_path / method

        def ended(resume, epoch: int) -> None:
            end(resume, epoch)
            if epoch == 2:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Resume, "end_epoch", ended)
            with pytest.raises(Killed):
                run(method, Resume(place))
        assert run(method, Resume(place)) == whole[method]


def test_shot_needs_no_source_and_no_method_needs_target_labels(run, base, whole, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(base / "data", root / "data")
    shutil.copytree(base / "results/tiny/pretrained", root / "results/tiny/pretrained")
    (root / "data/shards/tiny/optdigits/labels.csv").unlink()
    for method in KINDS:
        assert run(method, root=root) == whole[method]
    shutil.rmtree(root / "data/shards/tiny/synthetic")
    assert run("shot", root=root) == whole["shot"]
    with pytest.raises(InputError, match="synthetic"):
        run("cdan", root=root)


def test_the_head_of_shot_stays_as_the_source_left_it(base, whole):
    paths = Paths(base)
    source = load_checkpoint(paths.pretrained("tiny", "synthetic", 0) / "model.safetensors")
    adapted = load_checkpoint(paths.adapted("tiny", "shot", TASK, 0) / "last.safetensors")
    assert torch.equal(source.head.weight, adapted.head.weight)
    assert not torch.equal(source.neck.weight, adapted.neck.weight)


def test_shot_renews_its_labels_in_each_epoch(base, whole):
    """Also where the recipe renews those of other methods less often."""
    path = Paths(base).adapted("tiny", "shot", TASK, 0) / "epochs.npz"
    labels = read_epochs(path, "dacsm adapt", images=60, classes=10).pseudo_labels
    assert all((before != after).any() for before, after in pairwise(labels))


def test_no_bit_depends_on_the_workers(run, whole):
    assert run("mic", workers=2) == whole["mic"]


@pytest.mark.parametrize("method", KINDS)
def test_validators_and_metrics(method, base, whole, params, tiny_dataset):
    project = Project(params, tiny_dataset, Paths(base))
    evaluate(project, method, TASK, 0, choose_compute("cpu"))
    metrics = json.loads((project.paths.evaluated("tiny", method, TASK, 0) / "metrics.json").read_text())
    assert metrics["validator"] == "infomax"
    unscored = {name for name, found in metrics["validators"].items() if found["epoch"] is None}
    assert unscored == ({"source_accuracy"} if method == "shot" else set())  # of held-out source images, it has none
    assert ("pseudo_label_accuracy" in metrics) == (method == "shot")


def test_each_setting_of_a_kind_changes_the_model(run, whole, params, tmp_path):
    changes = {
        "shot": [{"information": 0.5}, {"pseudo_labels": 0.0}],
        "cdan": [{"adversarial": {"weight": 0.1, "hidden": 16}}],
        "mic": [{"confusion": {"weight": 0.0}}, {"masking": {"weight": 1.0, "ratio": 0.1}}],
    }
    for method, variants in changes.items():
        for variant in variants:
            content = params.model_dump(mode="json")
            content["adapt"]["methods"][method] |= variant
            assert run(method, params=Params.model_validate(content)) != whole[method], variant
        run(method)  # as the other tests find it


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto"])
@pytest.mark.parametrize("method", KINDS)
def test_any_backbone_will_do(name, method, params):
    model = params.recipe("pretrain", "tiny").model
    plain = {
        "name": name,
        "image_size": 32,
        "resize": 32,
        "patch_size": None,
        "dim": None,
        "depth": None,
        "heads": None,
    }
    classifier = Classifier(Description(model.model_copy(update={**plain, "drop_path": 0.0}), tuple("abc")))
    recipe, compute = params.adaptation("tiny", method), choose_compute("cpu")
    before = classifier.head.weight.clone(), next(classifier.backbone.parameters()).clone()
    steps = AdaptationSteps(recipe, params.method(method), classifier, compute)
    steps.step(4)
    assert not torch.equal(next(classifier.backbone.parameters()), before[1])
    assert torch.equal(classifier.head.weight, before[0]) == (method == "shot")
    with pytest.raises(InputError, match="methods of kind cdtrans ask for a plain Vision Transformer"):
        load_kind("cdtrans")(classifier, recipe, params.method("cdtrans"), None, 0, compute)


def test_losses_in_bfloat16_are_near_those_in_float32(params):
    """Losses are float32 whatever the network computes in."""
    model = params.recipe("pretrain", "tiny").model
    for method in METHODS:
        totals = []
        for precision in ("float32", "bfloat16"):
            torch.manual_seed(0)
            classifier = Classifier(Description(model.model_copy(update={"drop_path": 0.0}), tuple("abc"))).train()
            recipe = params.adaptation("tiny", method).model_copy(update={"precision": precision})
            chosen = params.method(method)
            kind = load_kind(chosen.kind)(classifier, recipe, chosen, None, 0, choose_compute("cpu"))
            losses, total = kind.losses(kind.made_up_batches(8)[0], 0.5)
            assert all(loss.dtype == torch.float32 for loss in losses.values()), method
            totals.append(total.item())
        assert totals[1] == pytest.approx(totals[0], rel=0.05, abs=0.02), method


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_on_a_gpu_a_killed_run_goes_on(method, params, tiny_dataset, base, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(base / "data")
    shutil.copytree(base / "results/tiny/pretrained", tmp_path / "results/tiny/pretrained")
    monkeypatch.setattr(resume_module, "SAVE_EVERY", 0.0)
    project, seen, step = Project(params, tiny_dataset, Paths(tmp_path)), [], TrainingProgress.step

    def counted(progress, images, losses) -> None:
        seen.append(losses())
        if len(seen) == 3:
            raise Killed
        step(progress, images, losses)

    monkeypatch.setattr(TrainingProgress, "step", counted)
    compute, resume = choose_compute("cuda"), Resume(tmp_path / "resume")
    with pytest.raises(Killed):
        adapt(project, method, TASK, 0, compute, resume)
    measured = adapt(project, method, TASK, 0, compute, resume)
    assert measured["resumed"] == 1
    assert len(seen) > 3
    assert all(math.isfinite(loss) for losses in seen for loss in losses.values())
