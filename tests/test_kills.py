"""Real kills: SIGKILL to the command, while it writes its state."""

import json
import shutil
import signal
import subprocess
import sys

import pytest
import yaml

from dacsm.adapt import adapt
from dacsm.compute import choose_compute
from dacsm.files import sha256
from dacsm.layout import Layout
from dacsm.pretrain import pretrain

TASK = "synthetic-optdigits"
SAVES = 5
KILLS_ITSELF = f"""\
import os, signal, sys
from pathlib import Path
import dacsm.training.resume
from dacsm.cli import main
dacsm.training.resume.SAVE_EVERY = 0
replace, saves = Path.replace, []

def kill(path, target):
    saves.extend([target] if target.name == "state.pt" else [])
    if len(saves) > {SAVES}:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(path, target)

Path.replace = kill
sys.exit(main())"""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("room", ["pretrain", "adapt"])
def test_killed_it_goes_on_in_the_same_bits(room, tiny_params, tiny_dataset, tiny_layout, tmp_path):
    recipe = tiny_params.pretrain["tiny"].model_copy(update={"epochs": 12})
    recipes = {"tiny": tiny_params.adapt.recipes["tiny"].model_copy(update={"epochs": 12, "refresh_epochs": 2})}
    adaptation = tiny_params.adapt.model_copy(update={"recipes": recipes})
    params = tiny_params.model_copy(update={"pretrain": {"tiny": recipe}, "adapt": adaptation})
    layouts = [Layout(tmp_path / name) for name in ("whole", "killed")]
    for layout in layouts:
        layout.root.mkdir()
        (layout.root / "data").symlink_to(tiny_layout.root / "data")
    whole, killed = (layout.root for layout in layouts)
    pretrain(params, tiny_dataset, "synthetic", 0, layouts[0], choose_compute("cpu"))
    arguments = ["tiny", "synthetic"]
    if room == "adapt":
        shutil.copytree(whole / "results", killed / "results")
        adapt(params, tiny_dataset, "dacsm", TASK, 0, layouts[0], choose_compute("cpu"))
        arguments = ["tiny", "dacsm", TASK]
    (killed / "workflow/datasets").mkdir(parents=True)
    (killed / "workflow/datasets/tiny.yaml").write_text(yaml.safe_dump(tiny_dataset.model_dump(mode="json")))
    content = params.model_dump(mode="json")
    content["datasets"], content["experiments"] = ["tiny"], {"tiny": content["experiments"]["tiny"]}
    (killed / "params.yaml").write_text(yaml.safe_dump(content))

    command = [room, *arguments, "--seed", "0", "--device", "cpu"]
    ended = subprocess.run([sys.executable, "-c", KILLS_ITSELF, *command], cwd=killed, capture_output=True)
    assert ended.returncode == -signal.SIGKILL
    state = next((killed / ".resume").iterdir())
    assert {path.suffix for path in state.iterdir()} == {".pt", ".partial"}  # killed before the sixth got its name
    (killed / ".resume" / f"{state.name.rpartition('-')[0]}-of_other_settings").mkdir()
    printed = subprocess.run(
        [sys.executable, "-m", "dacsm", *command], cwd=killed, check=True, capture_output=True, text=True
    ).stderr
    assert f"{room} {' '.join(arguments)} seed 0: going on after epoch " in printed.splitlines()[0]
    assert not list((killed / ".resume").iterdir())
    done = layouts[0].pretrained("tiny", "synthetic", 0)
    output = done if room == "pretrain" else layouts[0].adapted("tiny", "dacsm", TASK, 0)
    for file in output.iterdir():
        assert sha256(file) == sha256(killed / file.relative_to(whole)), file.name
    card = json.loads(layouts[1].card(killed / output.relative_to(whole)).read_text())
    assert card["measured"]["resumed"] == 1
