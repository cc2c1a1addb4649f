"""All that only a GPU can show, as one command: a JSON file and a Markdown page, which grow part by part.

    python -m benchmarks.gpu --out gpu               # about five minutes on an H100; goes on after a cut
    python -m benchmarks.gpu --out gpu --minutes 2.5 --parts environment step_base_64
    python -m benchmarks.gpu --out gpu --dry         # the same code at sizes for a CPU; its numbers mean nothing

Parts are independent. They run one after another in a second process, which is started anew where a part fails or takes
longer than it may. A part that the JSON file has already is not done again.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu_page import page

PROJECT = Path(__file__).parents[1]
NAMES = (  # of benchmarks.gpu_parts, which imports torch, and that takes seconds
    *("environment", "step_base_64", "training", "waiting", "compiled_base_64", "tests", "step_base_128", "features"),
    *("pairing", "loader", "step_small_64", "step_small_128", "compiled_base_128", "compiled_small_64"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="the folder of gpu.json and gpu.md (gpu)")
    parser.add_argument("--parts", nargs="+", choices=NAMES, default=NAMES, metavar="PART", help=", ".join(NAMES))
    parser.add_argument("--minutes", type=float, default=25, help="for all parts together (25)")
    parser.add_argument("--dry", action="store_true", help="sizes for a CPU")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)  # the second process: the folder of its files
    options = parser.parse_args()
    if options.work is not None:
        return work(options.parts, options.work, options.dry)
    options.out.mkdir(parents=True, exist_ok=True)
    results = Results(options.out, options.dry)
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder:
        while todo := [name for name in options.parts if name not in results.tried]:
            if time.monotonic() >= end or not supervise(todo, Path(folder), results, end):
                print(
                    "\n".join((options.out / "gpu.log").read_text(encoding="utf-8").splitlines()[-20:]), file=sys.stderr
                )
                break
    results.write()
    print((options.out / "gpu.md").read_text(encoding="utf-8"))
    return 0 if all(results.parts.get(name, {}).get("state") == "done" for name in options.parts) else 1


class Results:
    """What was measured, by part: `done`, `failed` and why, or cut; and what this call has tried."""

    def __init__(self, folder: Path, dry: bool):
        self.folder, self.dry = folder, dry
        path = folder / "gpu.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.parts: dict[str, dict[str, Any]] = known["parts"] if known.get("dry") == dry else {}
        self.tried = {name for name, part in self.parts.items() if part["state"] == "done"}

    def take(self, event: dict[str, Any]) -> None:
        """Take in what the second process says, and write it down."""
        name, kind = event["part"], event["kind"]
        if kind == "begin":
            self.tried.add(name)
            self.parts[name] = {"title": event["title"], "state": "cut", "rows": []}
        elif kind == "row":
            self.parts[name]["rows"].append(event["row"])
        else:
            self.parts[name] |= {key: event[key] for key in ("state", "seconds", "reason") if key in event}
        self.write()

    def write(self) -> None:
        content = {"dry": self.dry, "parts": self.parts}
        for name, text in (("gpu.json", json.dumps(content, indent=1)), ("gpu.md", page(content))):
            partial = self.folder / f".{name}.partial"
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.folder / name)


def supervise(todo: list[str], folder: Path, results: Results, end: float) -> bool:
    """Run parts in a second process until they are done, one is cut, or the time is over; whether any began."""
    events = folder / "events"
    events.write_text("", encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.gpu", "--work", str(folder), "--parts", *todo]
    with (results.folder / "gpu.log").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*command, *(["--dry"] if results.dry else [])],
            cwd=PROJECT,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    limit, read, begun, running = time.monotonic() + 120, 0, False, True  # of the start
    with suppress(KeyboardInterrupt):
        while running:
            running = process.poll() is None
            lines = events.read_text(encoding="utf-8").split("\n")
            for line in lines[read:-1]:  # the last has no end yet
                event = json.loads(line)
                if event["kind"] == "begin":
                    begun, started, limit = True, time.monotonic(), time.monotonic() + event["limit"]
                results.take(event)
            read = len(lines) - 1
            if running and time.monotonic() >= min(limit, end):
                break
            time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for name in todo:  # the one that was under way
        part = results.parts.get(name, {})
        if name in results.tried and part.get("state") == "cut":
            reason = "it took too long" if running else f"its process ended with {process.returncode}; see gpu.log"
            seconds = time.monotonic() - started
            results.take({"kind": "end", "part": name, "state": "cut", "seconds": seconds, "reason": reason})
    return begun


def work(names: list[str], folder: Path, dry: bool) -> int:
    """Do the parts, and say so line by line in a file of the folder."""
    from benchmarks.gpu_parts import PARTS, Sizes, forget

    assert tuple(PARTS) == NAMES
    with (folder / "events").open("a", encoding="utf-8", buffering=1) as file:

        def say(name: str, kind: str, **more: Any) -> None:
            file.write(json.dumps({"part": name, "kind": kind, **more}) + "\n")

        sizes = Sizes(folder, dry)
        for name in names:
            part, started = PARTS[name], time.monotonic()
            say(name, "begin", title=part.title, limit=part.limit)
            try:
                for row in part.work(sizes):
                    say(name, "row", row=asdict(row))
                outcome = {"state": "done"}
            except Exception as error:
                traceback.print_exc()
                outcome = {"state": "failed", "reason": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
            say(name, "end", seconds=time.monotonic() - started, **outcome)
            if forget(sizes.device):
                return 3  # the rest needs another process
    return 0


if __name__ == "__main__":
    sys.exit(main())
