"""The seam for methods: one of another kind takes three files, and a run imports no part that it does not use."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.methods import load_kind
from dacsm.runtime.device import choose_compute
from dacsm.runtime.errors import InputError
from dacsm.stages.explain import explain
from dacsm.stages.pretrain import pretrain

CHECKOUT = Path(__file__).parents[1]
TASK = "synthetic-optdigits"
SETTINGS = '''
"""Settings of the toy kind."""

from typing import Literal

from pydantic import Field

from dacsm.config.kinds import MethodSettings


class Settings(MethodSettings):
    """Cross-entropy on the source, and low entropy on the target."""

    kind: Literal["toy"]
    entropy: float = Field(0.1, ge=0, description="weight of the target's entropy")
'''
CODE = '''
"""Cross-entropy on the source, and low entropy on the target."""

import torch
from torch.nn import functional as F

from dacsm.data.seeding import numpy_generator
from dacsm.data.transforms import normalise, train_views
from dacsm.methods import Method


class Kind(Method):
    def batches(self, epoch, start):
        size, domains, model = self.recipe.batch_size, self.domains, self.classifier.description.model
        draw = numpy_generator("toy", self.seed, epoch)
        source, target = (draw.permutation(len(images)) for images in (domains.source, domains.target))
        steps = min(len(source), len(target)) // size

        def views(images, order, stream, step):
            view = train_views(model, self.recipe.augment, steps * size, self.seed, epoch, stream)
            places = range(step * size, (step + 1) * size)
            batch = torch.stack([view(images[int(order[place])], place) for place in places])
            return normalise(batch.to(self.compute.device), model)

        def batch(step):
            labels = domains.source_labels[source[step * size : (step + 1) * size]].to(self.compute.device)
            images = views(domains.source, source, "source", step), views(domains.target, target, "target", step)
            return *images, labels

        return map(batch, range(start, steps)), steps

    def losses(self, batch, passed):
        source, target, labels = batch
        prediction = self.classifier(target).softmax(dim=1)
        losses = {
            "source": F.cross_entropy(self.classifier(source), labels),
            "entropy": torch.special.entr(prediction).sum(dim=1).mean(),
        }
        return losses, losses["source"] + self.settings.entropy * losses["entropy"]
'''

DONE = "all runs are made"
ASKS = f"""
from pathlib import Path
from dacsm.cli.main import main
from dacsm.config.datasets import load_dataset
from dacsm.config.params import load_params
from dacsm.config.schema import params_schema
from dacsm.ledger.speed import adapt_speed
from dacsm.runtime.device import choose_compute
from dacsm.runtime.errors import InputError

for name in ("negative", "misspelt", "unknown"):
    try:
        load_params(Path(f"{{name}}.yaml"))
    except InputError as error:
        print(error)
assert main(["explain", "tiny", "confident", "{TASK}", "--seed", "0"]) == 2
params = load_params(Path("params.yaml"))
if adapt_speed(params, load_dataset("tiny"), "confident", choose_compute("cpu")).seconds > 0:
    print("the speed is measured")
if "low entropy on the target" in str(params_schema()):
    print("the schema knows it")
"""


@pytest.fixture(scope="module")
def project(tiny_params: Params, tiny_dataset: DatasetSpec, tiny_paths: Paths, tmp_path_factory) -> Path:
    """A copy of the project with tiny's shards and a source model."""
    folder = tmp_path_factory.mktemp("methods")
    for name in ("dacsm", "workflow"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "workflow/datasets/tiny.yaml").write_text(yaml.safe_dump(tiny_dataset.model_dump(mode="json")))
    (folder / "params.yaml").write_text(yaml.safe_dump(tiny_params.model_dump(mode="json")))
    (folder / "data").symlink_to(tiny_paths.root / "data")
    pretrain(Project(tiny_params, tiny_dataset, Paths(folder)), "synthetic", 0, choose_compute("cpu"))
    return folder


def python(folder: Path, *arguments: str, code: int = 0) -> str:
    """What Python prints in the project, both streams together; its own modules come first."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == code, ended.stdout
    return ended.stdout


def test_a_method_of_another_kind_is_three_files(project: Path) -> None:
    """From settings to a table: its settings, its code, and its entries in params.yaml."""
    (project / "dacsm/config/kinds/toy.py").write_text(SETTINGS)
    (project / "dacsm/methods/toy.py").write_text(CODE)
    content = yaml.safe_load((project / "params.yaml").read_text())
    content["adapt"]["methods"]["confident"] = {"kind": "toy", "entropy": 0.2}
    shown = {"dataset": "tiny", "tasks": [TASK], "methods": ["source_only", "confident"], "seeds": [0]}
    content["experiments"]["confidence"] = shown
    (project / "params.yaml").write_text(yaml.safe_dump(content))

    runs = (("adapt", "confident"), ("evaluate", "confident"), ("evaluate", "source_only"))
    commands = [[stage, "tiny", method, TASK, "--seed", "0", "--device", "cpu"] for stage, method in runs]
    commands.append(["table", "confidence"])
    methods = content["adapt"]["methods"]
    for name, wrong in (("negative", {"entropy": -1}), ("misspelt", {"entropi": 1}), ("unknown", {"kind": "toys"})):
        content["adapt"]["methods"] = methods | {name: {"kind": "toy"} | wrong}
        (project / f"{name}.yaml").write_text(yaml.safe_dump(content))
    runs = f"from dacsm.cli.main import main\nfor run in {commands}:\n    assert not main(run)\nprint('{DONE}')\n"
    said = python(project, "-c", runs + ASKS).partition(f"{DONE}\n")[2].splitlines()
    paths = Paths(project)
    assert "confident" in paths.table("confidence", "md").read_text()
    log = (paths.adapted("tiny", "confident", TASK, 0) / "log.csv").read_text().splitlines()
    assert log[0].startswith("epoch,source,entropy")
    metrics = json.loads((paths.evaluated("tiny", "confident", TASK, 0) / "metrics.json").read_text())
    assert 0 <= metrics["selected"]["mean_per_class"] <= 100
    assert "pseudo_label_accuracy" not in metrics
    assert "adapt.methods.negative.entropy is -1, but it should be greater than" in said[0]
    assert "adapt.methods.misspelt.entropi is not a known key; expected one of entropy, kind, recipe" in said[1]
    assert "adapt.methods.unknown.kind is 'toys', expected one of cdan, cdtrans, mic, shot, toy" in said[2]
    assert "confident is of the kind toy, and explain can only show methods of the kind cdtrans" in said[3]
    assert said[4:] == ["the speed is measured", "the schema knows it"]


def test_only_the_parts_that_settings_name_are_imported(project: Path) -> None:
    """Method after method in one process: what each brings in besides those before it."""
    brought = {
        "cdtrans": set(),
        "equal_compute": set(),
        "transport_labels": {"matching"},
        "dat": {"noise"},
        "csm": {"pyramid", "consistency"},
        "dacsm_mic": {"masking"},
    }
    program = (
        "import sys\nfrom dacsm.cli.main import main\n"
        f"for method in {list(brought)}:\n"
        f"    assert main(['adapt', 'tiny', method, '{TASK}', '--seed', '0', '--device', 'cpu']) == 0\n"
        "    print(method, *(name.rpartition('.')[2] for name in sys.modules if '.parts.' in name))"
    )
    lines = [line.split() for line in python(project, "-c", program).splitlines() if line.split()[0] in brought]
    imported = set()
    for (method, *found), parts in zip(lines, brought.values(), strict=True):
        assert set(found) - imported == parts, method
        imported |= set(found)


def test_every_kind_has_settings_and_code(tiny_params: Params) -> None:
    for settings in tiny_params.adapt.methods.values():
        assert load_kind(settings.kind).__module__.startswith(f"dacsm.methods.{settings.kind}")
        for part in settings.parts:
            assert (CHECKOUT / "dacsm/methods" / settings.kind / "parts" / f"{part}.py").is_file()


def test_explain_says_what_it_can_show(tiny_params: Params, tiny_dataset: DatasetSpec, tmp_path: Path) -> None:
    """A method of another kind is refused before anything is read."""
    other = tiny_params.method("cdtrans").model_copy(update={"kind": "other"})
    adaptation = tiny_params.adapt.model_copy(update={"methods": {"cdtrans": other}})
    params = tiny_params.model_copy(update={"adapt": adaptation})
    with pytest.raises(InputError, match="cdtrans is of the kind other"):
        explain(Project(params, tiny_dataset, Paths(tmp_path)), "cdtrans", TASK, 0, choose_compute("cpu"))
