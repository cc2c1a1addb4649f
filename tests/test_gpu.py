"""On a GPU: a run of each kind of method, a refresh, and a run that is killed inside an epoch."""

import csv
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dacsm.runtime.resume as resume_module
from benchmarks.photographs import DOMAINS, NAME, PROJECT, TASK, made_up_project
from dacsm.config.params import load_params
from dacsm.config.project import Project
from dacsm.data.domains import open_domains
from dacsm.methods import load_kind
from dacsm.models.classifier import load_checkpoint
from dacsm.runtime.device import Compute, choose_compute
from dacsm.runtime.progress import TrainingProgress
from dacsm.runtime.resume import Resume
from dacsm.stages.adapt import adapt
from dacsm.stages.pretrain import pretrain

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a CUDA device"),
]
METHODS = load_params(PROJECT / "params.yaml").adapt.methods
ONE_OF_EACH_KIND = {settings.kind: name for name, settings in reversed(METHODS.items())} | {"whole": "dacsm"}
SIZES = {"image_size": 32, "resize": 36, "patch_size": 8, "dim": 32, "depth": 3, "heads": 2}


EXACT_RUN = f"""import pickle, sys
from pathlib import Path
from dacsm.runtime.device import choose_compute
from dacsm.runtime.files import sha256
from dacsm.stages.adapt import adapt
project = pickle.loads(Path(sys.argv[1]).read_bytes())
adapt(project, "dacsm", "{TASK}", 0, choose_compute(sys.argv[2], workers=1))
print(sha256(project.paths.adapted("{NAME}", "dacsm", "{TASK}", 0) / "last.safetensors"))"""


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@pytest.fixture(scope="module")
def compute() -> Compute:
    return choose_compute(DEVICE, workers=1)


@pytest.fixture(scope="module")
def project(compute, tmp_path_factory) -> Project:
    """Two domains of made-up photographs, and a source model that has learned something."""
    recipe = {"batch_size": 8, "threads": 1, "precision": "float32"}
    fast = {"name": "adamw", "learning_rate": 0.001, "schedule": "cosine", "warmup_epochs": 0.0}
    optimiser = load_params(PROJECT / "params.yaml").pretrain["visda"].optimiser.model_copy(update=fast)
    made = made_up_project(
        tmp_path_factory.mktemp("photographs"),
        64,
        model={**SIZES, "name": "vit_tiny_patch16_224"},
        pretrain={**recipe, "epochs": 4, "optimiser": optimiser},
        adapt={**recipe, "epochs": 2, "refresh_epochs": 2, "max_pairs": 48},
    )
    pretrain(made, DOMAINS[0], 0, compute)
    return made


def numbers(checkpoint: Path) -> torch.Tensor:
    """All that the classifier in a checkpoint is made of, one after another."""
    state = load_checkpoint(checkpoint).state_dict().values()
    return torch.cat([tensor.flatten().double() for tensor in state])


@pytest.mark.parametrize("method", ONE_OF_EACH_KIND.values(), ids=ONE_OF_EACH_KIND)
def test_a_run_of_each_kind_of_method(method, project, compute):
    adapt(project, method, TASK, 0, compute)
    with (project.paths.adapted(NAME, method, TASK, 0) / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == project.params.adaptation(NAME, method).epochs
    assert all(math.isfinite(float(value)) for row in rows for value in row.values() if value)
    assert torch.isfinite(numbers(project.paths.adapted(NAME, method, TASK, 0) / "last.safetensors")).all()


def test_a_refresh_finds_what_it_finds_on_a_cpu(project, compute):
    found = []
    for where in (compute, Compute(torch.device("cpu"))):
        classifier = load_checkpoint(project.paths.pretrained(NAME, DOMAINS[0], 0) / "model.safetensors", where.device)
        domains = open_domains(*(project.paths.shards(NAME, domain) for domain in DOMAINS), 0.0, SIZES["resize"])
        recipe, settings = project.params.adaptation(NAME, "dacsm"), project.params.method("dacsm")
        method = load_kind(settings.kind)(classifier, recipe, settings, domains, 0, where)
        method.refresh(recipe.epochs, classifier, TrainingProgress("", 1))
        found.append(method.matches)
    gpu, cpu = found
    assert (gpu.pseudo_labels == cpu.pseudo_labels).float().mean() > 0.95
    pairs = [set(zip(each.pairs.source, each.pairs.target, strict=True)) for each in found]
    assert len(pairs[0] & pairs[1]) > 0.9 * len(pairs[0] | pairs[1])


def test_an_exact_run_gives_the_same_bits_again(project, tmp_path):
    (tmp_path / "project").write_bytes(pickle.dumps(project))
    command = [sys.executable, "-c", EXACT_RUN, str(tmp_path / "project"), DEVICE]
    environment = os.environ | {"DACSM_DETERMINISTIC": "1"}
    hashes = [subprocess.run(command, env=environment, check=True, capture_output=True).stdout for _ in range(2)]
    assert hashes[0] == hashes[1] != b""


@pytest.mark.parametrize("method", ["cdtrans", "dacsm"])
def test_a_run_that_is_killed_inside_an_epoch_goes_on(method, project, compute, tmp_path, monkeypatch):
    last = project.paths.adapted(NAME, method, TASK, 0) / "last.safetensors"
    before = numbers(project.paths.pretrained(NAME, DOMAINS[0], 0) / "model.safetensors")
    adapt(project, method, TASK, 0, compute)
    whole = numbers(last)
    known, taken = TrainingProgress.step, []

    def step(self, *given):
        taken.append(None)
        if len(taken) == 9:  # the third of the second epoch; the two before it were saved
            raise Killed
        known(self, *given)

    monkeypatch.setattr(resume_module, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(TrainingProgress, "step", step)
    with pytest.raises(Killed):
        adapt(project, method, TASK, 0, compute, Resume(tmp_path / "state"))
    assert adapt(project, method, TASK, 0, compute, Resume(tmp_path / "state"))["resumed"] == 1
    assert len(taken) == 12 + 1
    # A GPU adds up in an order of its own, so that the same run twice differs by roundings.
    assert (numbers(last) - whole).norm() < 0.01 * (whole - before).norm()
