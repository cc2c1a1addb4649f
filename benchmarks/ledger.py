"""How long it takes to hear that there is nothing to do: `python -m benchmarks.ledger [FOLDER]`.

FOLDER is a project whose results are made and recorded; it is not changed. On two idle cores, with the results of
digits and the entries of all datasets in params.yaml: 1.6 s, 0.9 s, 1.2 s and 2.1 s.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import spread

RUNS = 5
BIN = Path(sys.executable).parent
COMMANDS = {
    "snakemake -n": ([BIN / "snakemake", "-n", "--quiet"], "Nothing to be done"),
    "dvc status": ([BIN / "dvc", "status"], "up to date"),
    "dvc repro": ([BIN / "dvc", "repro"], "up to date"),
    "dacsm audit": ([sys.executable, "-m", "dacsm", "audit"], "nothing found"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description="What it takes to do nothing.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="a project whose results are made")
    folder = parser.parse_args().folder
    if not folder.is_dir():
        parser.error(f"{folder} is no folder")
    for name, (command, expected) in COMMANDS.items():
        seconds = [_seconds(command, folder, expected) for _ in range(RUNS)]
        print(f"{name:<14} {spread(seconds)}")


def _seconds(command: list[str | Path], folder: Path, expected: str) -> float:
    started = time.perf_counter()
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    elapsed = time.perf_counter() - started
    if result.returncode or expected not in result.stdout + result.stderr:
        sys.exit(f"there is something to do:\n{result.stdout}{result.stderr}")
    return elapsed


if __name__ == "__main__":
    main()
