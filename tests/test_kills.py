"""Real kills: SIGKILL to the command, while it writes its state."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.runtime.device import choose_compute
from dacsm.runtime.files import sha256
from dacsm.stages.adapt import adapt
from dacsm.stages.pretrain import pretrain

TASK = "synthetic-optdigits"
SAVES = 5
KILLS_ITSELF = f"""\
import os, signal, sys
from pathlib import Path
import dacsm.runtime.resume
from dacsm.cli.main import main
dacsm.runtime.resume.SAVE_EVERY = dacsm.runtime.resume.SAVE_AFTER_EPOCH = 0
replace, saves = Path.replace, []

def kill(path, target):
    saves.extend([target] if target.name == "state.pt" else [])
    if len(saves) > {SAVES}:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)

Path.replace = kill
sys.exit(main())"""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("stage", ["pretrain", "adapt"])
def test_killed_it_goes_on_in_the_same_bits(stage, tiny_params, tiny_dataset, tiny_paths, tmp_path):
    recipe = tiny_params.pretrain["tiny"].model_copy(update={"epochs": 12})
    recipes = {"tiny": tiny_params.adapt.recipes["tiny"].model_copy(update={"epochs": 12, "refresh_epochs": 2})}
    adaptation = tiny_params.adapt.model_copy(update={"recipes": recipes})
    params = tiny_params.model_copy(update={"pretrain": {"tiny": recipe}, "adapt": adaptation})
    layouts = [Paths(tmp_path / name) for name in ("whole", "killed")]
    for paths in layouts:
        paths.root.mkdir()
        (paths.root / "data").symlink_to(tiny_paths.root / "data")
    whole, killed = (paths.root for paths in layouts)
    pretrain(Project(params, tiny_dataset, layouts[0]), "synthetic", 0, choose_compute("cpu"))
    arguments = ["tiny", "synthetic"]
    if stage == "adapt":
        shutil.copytree(whole / "results", killed / "results")
        adapt(Project(params, tiny_dataset, layouts[0]), "dacsm", TASK, 0, choose_compute("cpu"))
        arguments = ["tiny", "dacsm", TASK]
    (killed / "workflow/datasets").mkdir(parents=True)
    (killed / "workflow/datasets/tiny.yaml").write_text(yaml.safe_dump(tiny_dataset.model_dump(mode="json")))
    content = params.model_dump(mode="json")
    content["datasets"], content["experiments"] = ["tiny"], {"tiny": content["experiments"]["tiny"]}
    (killed / "params.yaml").write_text(yaml.safe_dump(content))

    command = [stage, *arguments, "--seed", "0", "--device", "cpu"]
    ended = subprocess.run([sys.executable, "-c", KILLS_ITSELF, *command], cwd=killed, capture_output=True)
    assert ended.returncode == -signal.SIGKILL
    state = next((killed / ".resume").iterdir())
    assert {path.suffix for path in state.iterdir()} == {".pt", ".partial"}  # killed before the sixth got its name
    (killed / ".resume" / f"{state.name.rpartition('-')[0]}-of_other_settings").mkdir()
    printed = subprocess.run(
        [sys.executable, "-m", "dacsm", *command], cwd=killed, check=True, capture_output=True, text=True
    ).stderr
    assert f"{stage} {' '.join(arguments)} seed 0: going on after epoch " in printed.splitlines()[0]
    assert not list((killed / ".resume").iterdir())
    done = layouts[0].pretrained("tiny", "synthetic", 0)
    output = done if stage == "pretrain" else layouts[0].adapted("tiny", "dacsm", TASK, 0)
    for file in output.iterdir():
        assert sha256(file) == sha256(killed / file.relative_to(whole)), file.name
    (record,) = map(Path.read_text, layouts[1].records("tiny").rglob("seed0.json"))
    assert json.loads(record)["measured"]["resumed"] == 1
