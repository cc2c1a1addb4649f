"""Real kills: SIGKILL to the command itself, and to Snakemake with it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from dacsm.adapt import adapt
from dacsm.compute import choose_compute
from dacsm.files import sha256
from dacsm.layout import Layout
from dacsm.pretrain import pretrain

TASK = "synthetic-optdigits"
OFTEN = """\
import sys
import dacsm.training.resume
from dacsm.cli import main
dacsm.training.resume.SAVE_EVERY = 0
sys.exit(main())"""

pytestmark = pytest.mark.slow


def kill_after_saves(command: list[str], folder: Path, saves: int, environment: dict[str, str]) -> None:
    """SIGKILL a command, and all that it started, once it has saved its state so many times."""
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
    seen = set()
    while process.poll() is None and len(seen) < saves:
        for state in folder.glob(".resume/*/state.pt"):
            try:
                seen.add(state.stat().st_ino)
            except FileNotFoundError:
                continue
        time.sleep(0.0005)
    assert process.poll() is None, f"{command} was over before it had saved {saves} times"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


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

    command = [sys.executable, "-c", OFTEN, room, *arguments, "--seed", "0", "--device", "cpu"]
    kill_after_saves(command, killed, 5, dict(os.environ))
    state = next((killed / ".resume").iterdir())
    (killed / ".resume" / f"{state.name.rpartition('-')[0]}-of_other_settings").mkdir()
    printed = subprocess.run(command, cwd=killed, check=True, capture_output=True, text=True).stderr
    assert f"{room} {' '.join(arguments)} seed 0: going on after epoch " in printed.splitlines()[0]
    assert not list((killed / ".resume").iterdir())
    done = layouts[0].pretrained("tiny", "synthetic", 0)
    output = done if room == "pretrain" else layouts[0].adapted("tiny", "dacsm", TASK, 0)
    for file in output.iterdir():
        assert sha256(file) == sha256(killed / file.relative_to(whole)), file.name
    card = json.loads(layouts[1].card(killed / output.relative_to(whole)).read_text())
    assert card["measured"]["resumed"] == 1
