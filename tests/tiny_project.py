"""A project in a temporary folder, and what one can ask of it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BIN = Path(sys.executable).parent


class Project:
    """A copy of this checkout whose params.yaml asks for the tiny dataset."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def environment(self, command: str) -> dict[str, str]:
        # Python's own modules first; `python` and `snakemake` only as Snakemake or an activated environment find them.
        path = os.pathsep.join([str(BIN), "/usr/bin", "/bin"] if command == "dvc" else ["/usr/bin", "/bin"])
        return {
            "PATH": path,
            "HOME": str(self.folder.parent),
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "",
        }

    def run(self, *command: str, ok: bool = True) -> str:
        """What a command prints, stdout and stderr together in its order."""
        program = BIN / command[0] if (BIN / command[0]).exists() else command[0]
        result = subprocess.run(
            [program, *command[1:]],
            cwd=self.folder,
            env=self.environment(command[0]),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert (result.returncode == 0) == ok, f"{command} ended with {result.returncode}:\n{result.stdout}"
        return result.stdout

    def snakemake(self, *arguments: str, ok: bool = True) -> str:
        return self.run("snakemake", "--cores", "2", *arguments, ok=ok)

    def kill(self, appears: str, *arguments: str) -> None:
        """Start Snakemake, and SIGKILL it with all its jobs as soon as a file appears."""
        process = subprocess.Popen(
            [BIN / "snakemake", "--cores", "2", *arguments],
            cwd=self.folder,
            env=self.environment("snakemake"),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None and not any(self.folder.glob(appears)):
            time.sleep(0.0005)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def jobs(self, *arguments: str) -> dict[str, int]:
        """How many jobs of each rule a dry run would start, without `all`."""
        stats = re.findall(r"^(\w+) +(\d+)$", self.snakemake("-n", *arguments), flags=re.MULTILINE)
        return {rule: int(count) for rule, count in stats if rule not in ("all", "total")}

    def files_of(self, room: str) -> tuple[set[str], set[str]]:
        """The inputs and outputs of a rule, from Snakemake's records under the default root."""
        used, made = set(), set()
        folder = self.folder / ".snakemake/metadata"
        for path in folder.rglob("*"):
            record = json.loads(path.read_text()) if path.is_file() else {}
            output = (
                urlsafe_b64decode("".join(path.relative_to(folder).parts).replace("@", "")).decode() if record else ""
            )
            if record.get("rule") == room and not output.startswith("runs/"):
                used |= set(record["input"])
                made.add(output)
        return used, made

    def git(self, *arguments: str) -> str:
        return self.run("git", "-c", "user.name=tester", "-c", "user.email=tester@example.org", *arguments)

    @contextmanager
    def edited(self, file: str, old: str, new: str) -> Iterator[None]:
        """A file in which `new` stands for `old`, for a while."""
        path = self.folder / file
        before = path.read_text(encoding="utf-8")
        assert old in before
        path.write_text(before.replace(old, new, 1), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(before, encoding="utf-8")
