"""Kill -9 a run at random moments, carry on, and compare its bytes with those of a run that nothing interrupted.

    python -m benchmarks.kills --kills 20

Each kill is a run of its own: start, SIGKILL, and the same command again until it ends; every fourth is killed twice.
Moments are spread over the whole time that the uninterrupted run took; some are aimed at the time after the first save,
and at the writing of the state and of the results, which take too little time to be met by chance. Every other run
saves inside its epochs as well. The dataset is made of a few digits a class, in a temporary folder. Exits with 1 unless
all runs end in the same bytes.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from tabulate import tabulate

from dacsm.config.paths import Paths
from dacsm.config.presets import Presets
from dacsm.runtime.files import sha256

PROJECT = Path(__file__).parents[1]
TASK = "synthetic-mnist"
COMMANDS = {"pretrain": ["pretrain", "few", "synthetic"], "adapt": ["adapt", "few", "dacsm", TASK]}
SAVING = """\
import sys
import dacsm.runtime.resume
from dacsm.cli.main import main
dacsm.runtime.resume.SAVE_EVERY, dacsm.runtime.resume.SAVE_AFTER_EPOCH = {}  # seconds
sys.exit(main())"""
OFTEN, AFTER_EPOCHS = SAVING.format((0.3, 0.3)), SAVING.format((600, 0))
PLANS = ("at a time", "as the state is written", "while it trains", "as the results are written", "while it trains")


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.kills", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="runs that are killed (20)")
    parser.add_argument("--stage", choices=COMMANDS, default="adapt", help="the stage that is killed (adapt)")
    parser.add_argument("--per-class", type=int, default=30, help="images a class of each domain (30)")
    parser.add_argument("--epochs", type=int, default=6, help="of the run that is killed (6)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (0)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        runs = Runs(Path(folder), args.stage, args.per_class, args.epochs)
        return compare(runs, args.kills, random.Random(args.seed))


class Runs:
    """One run in a folder of its own, to be started again and again."""

    def __init__(self, folder: Path, stage: str, per_class: int, epochs: int):
        self.folder, self.stage = folder, stage
        write_project(folder, stage, per_class, epochs)
        for archive in ("synthetic", "mnist"):
            self.finish(self.start(["download", "few", archive]))
        for domain in ("synthetic", "mnist"):
            self.finish(self.start(["shard", "few", domain]))
        if stage == "adapt":
            self.finish(self.start([*COMMANDS["pretrain"], "--seed", "0"]))
        paths = Paths(folder)
        source, adapted = paths.pretrained("few", "synthetic", 0), paths.adapted("few", "dacsm", TASK, 0)
        self.output = source if stage == "pretrain" else adapted
        self.states = folder / ".resume"

    def start(self, command: list[str] | None = None, often: bool = False) -> subprocess.Popen:
        command = command or [*COMMANDS[self.stage], "--seed", "0", "--device", "cpu"]
        return subprocess.Popen(
            [sys.executable, "-c", OFTEN if often else AFTER_EPOCHS, *command],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen) -> str:
        """Wait for the end; what was said on stderr."""
        printed = process.communicate()[1]
        if process.returncode:
            raise SystemExit(f"the command {process.args} ended with {process.returncode}:\n{printed}")
        return printed

    def kill(self, process: subprocess.Popen, wait: Callable[[], bool]) -> tuple[bool, str]:
        """SIGKILL as soon as `wait` says so; whether the run was still alive, and what it said on stderr."""
        while process.poll() is None and not wait():
            time.sleep(0.0005)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        printed = process.communicate()[1]
        return process.returncode == -signal.SIGKILL, printed

    def clean(self) -> None:
        shutil.rmtree(self.output, ignore_errors=True)
        shutil.rmtree(self.states, ignore_errors=True)

    def hashes(self) -> dict[str, str]:
        """The sha256 of each file in the run's folder, whatever its name."""
        return {path.name: sha256(path) for path in sorted(self.output.iterdir())}


def write_project(folder: Path, stage: str, per_class: int, epochs: int) -> None:
    """A params.yaml, and the digits with fewer images as the dataset `few`."""
    spec = yaml.safe_load((PROJECT / "workflow/datasets/digits.yaml").read_text(encoding="utf-8"))
    spec["name"] = "few"
    for domain in spec["domains"].values():
        domain["images"] = 10 * per_class
        domain["options"]["per_class"] = per_class
        domain["options"].pop("pixels", None)  # those of all images
    params = Presets("params.yaml").resolve(yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8")))
    recipes = (params["experiments"], params["shard"], params["pretrain"], params["adapt"]["recipes"])
    for part in recipes:
        digits = part["digits"]
        part.clear()
        part["few"] = digits
    params |= {"datasets": ["few"], "tables": {"few": "few"}}
    pretrain = params["pretrain"]["few"]
    model = {**pretrain["model"], "dim": 48, "depth": 4}
    changes = {"epochs": epochs if stage == "pretrain" else 15, "batch_size": 16, "model": model}
    params["pretrain"]["few"] = {**pretrain, **changes}
    # More than one epoch between refreshes, and a weight average, so that more has to come back.
    changes = {"epochs": epochs, "batch_size": 16, "max_pairs": 320, "refresh_epochs": 2, "averaging": 0.9}
    params["adapt"]["recipes"]["few"] = {**params["adapt"]["recipes"]["few"], **changes}
    (folder / "workflow/datasets").mkdir(parents=True)
    (folder / "workflow/datasets/few.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def compare(runs: Runs, kills: int, draw: random.Random) -> int:
    """Kill and carry on; prints a row for each run that was killed. 1 where one ends in other bytes."""
    started = time.monotonic()
    runs.finish(runs.start())
    seconds, expected = time.monotonic() - started, runs.hashes()
    print(f"uninterrupted: {seconds:.1f} s, {runs.stage}'s files:")
    print(tabulate(expected.items(), ("file", "sha256"), tablefmt="github"), flush=True)
    rows = []
    for number in range(kills):
        runs.clean()
        often = number % 2 == 1
        moments, place = [], []
        share = (number + draw.random()) / kills  # of the time: a random moment in each of as many equal parts
        plans = [PLANS[number % len(PLANS)], *(["at a time"] if number % 4 == 3 else [])]
        for plan in plans:
            alive = False
            while not alive:  # a run that was over before is started anew
                begun = time.monotonic()
                wait = waiting(runs, plan, begun + share * seconds, draw)
                alive, printed = runs.kill(runs.start(often=often), wait)
                if not alive:
                    share *= 0.9
                    runs.clean()
            moments.append(f"{time.monotonic() - begun:.2f} s")
            place.append(f"{plan}, {where(printed)}")
        went_on = [line for line in runs.finish(runs.start(often=often)).splitlines() if "going on" in line]
        found = runs.hashes()
        left = list(runs.states.iterdir()) if runs.states.exists() else []
        verdict = "identical" if found == expected and not left else "DIFFERENT" if not left else "state left behind"
        remark = went_on[0].split("going on ")[1] if went_on else "started again"
        row = [number + 1, "; ".join(moments), "; ".join(place), remark, found["model.safetensors"][:16], verdict]
        rows.append(row)
        print(*row, sep=" | ", file=sys.stderr, flush=True)
    print(tabulate(rows, ("run", "killed after", "where", "went on", "model's sha256", "all files"), tablefmt="github"))
    same = sum(row[-1] == "identical" for row in rows)
    print(f"{same} of {kills} runs ended in the bytes of the uninterrupted one.")
    return int(same != kills)


def waiting(runs: Runs, plan: str, moment: float, draw: random.Random) -> Callable[[], bool]:
    """What tells that the moment to kill has come."""
    if plan == "at a time":
        return lambda: time.monotonic() >= moment
    delay = draw.uniform(0, max(0.0, moment - time.monotonic()) if plan == "while it trains" else 0.01)
    folder, pattern = {
        "while it trains": (runs.states, "*/state.pt"),
        "as the state is written": (runs.states, "*/.*.partial"),
        "as the results are written": (runs.output, "*"),
    }[plan]
    earliest = moment if plan == "as the state is written" else 0.0
    seen: list[float] = []  # when the file was found

    def come() -> bool:
        if not seen and time.monotonic() >= earliest and any(folder.glob(pattern)):
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() >= seen[0] + delay

    return come


def where(printed: str) -> str:
    """How far a run had come, from what it said."""
    ends = [line.split("  ")[1] for line in printed.splitlines() if "  epoch " in line]
    return f"after {ends[-1]}" if ends else "in start-up or the first epoch"


if __name__ == "__main__":
    sys.exit(main())
