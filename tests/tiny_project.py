"""A project in a temporary folder, and what one can ask of it."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from pathlib import Path

import yaml
from warm_start import warm

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params

CHECKOUT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


class ProjectFolder:
    """A copy of this checkout whose params.yaml asks for the tiny dataset.

    Its commands are forks of a process that has the libraries loaded, but for those that are killed; with `cold`, all
    are processes of their own, as a user's are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.cold = folder, False

    def copy(self, folder: Path) -> "ProjectFolder":
        """The same project elsewhere, with the times of its files."""
        return ProjectFolder(Path(shutil.copytree(self.folder, folder / self.folder.name, symlinks=True)))

    def clone(self, folder: Path) -> "ProjectFolder":
        """A clone, with the same remote and what DVC pulls from it."""
        self.git("clone", "--quiet", ".", str(folder / "clone"))
        clone = ProjectFolder(folder / "clone")
        shutil.copy(self.folder / ".dvc/config.local", clone.folder / ".dvc")
        clone.run("dvc", "pull")
        return clone

    def run(self, *command: str, ok: bool = True) -> str:
        """What a command prints, stdout and stderr together in its order."""
        program = BIN / command[0] if (BIN / command[0]).exists() else command[0]
        result = subprocess.run(
            [program, *command[1:]],
            cwd=self.folder,
            env=self.environment(command[0]) if self.cold else warm(self.environment(command[0])),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert (result.returncode == 0) == ok, f"{command} ended with {result.returncode}:\n{result.stdout}"
        return result.stdout

    def environment(self, program: str) -> dict[str, str]:
        # Python's own modules first; `python` and `snakemake` only as Snakemake or an activated environment find them.
        path = os.pathsep.join([str(BIN), "/usr/bin", "/bin"] if program == "dvc" else ["/usr/bin", "/bin"])
        return {
            "PATH": path,
            "HOME": str(self.folder.parent),
            "PYTHONPATH": str(CHECKOUT),  # wherever the environment's dacsm lies; a project's own comes before it
            "OMP_NUM_THREADS": "1",
            "DACSM_SAVE_EVERY": "0",  # runs of the tiny dataset are short
            "PYTHONDONTWRITEBYTECODE": "",
            "GIT_AUTHOR_NAME": "tester",
            "GIT_AUTHOR_EMAIL": "tester@example.org",
            "GIT_COMMITTER_NAME": "tester",
            "GIT_COMMITTER_EMAIL": "tester@example.org",
        }

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

    def files_of(self, stage: str) -> tuple[set[str], set[str]]:
        """The inputs and outputs of a rule, from Snakemake's records under the default root."""
        used, made = set(), set()
        folder = self.folder / ".snakemake/metadata"
        for path in folder.rglob("*"):
            record = json.loads(path.read_text()) if path.is_file() else {}
            output = (
                urlsafe_b64decode("".join(path.relative_to(folder).parts).replace("@", "")).decode() if record else ""
            )
            if record.get("rule") == stage and not output.startswith("runs/"):
                used |= set(record["input"])
                made.add(output)
        return used, made

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    @contextmanager
    def setting(self, key: str, value: object) -> Iterator[None]:
        """params.yaml with another value at a dotted key, for a while."""
        path = self.folder / "params.yaml"
        before = path.read_text(encoding="utf-8")
        content = yaml.safe_load(before)
        *places, last = key.split(".")
        place = reduce(lambda part, name: part[name], places, content)
        assert place[last] != value
        place[last] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        try:
            yield
        finally:
            path.write_text(before, encoding="utf-8")

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


def built_project(folder: Path, dataset: DatasetSpec, params: Params) -> ProjectFolder:
    """The project with two methods, of which one adapts, and two seeds: made, recorded, pushed and committed as run1.

    It is built once for all workers of a test run, each of which copies it.
    """
    project = ProjectFolder(folder / "dacsm")
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "recorded.txt").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _build(project, dataset, params)
    return project


def _build(project: ProjectFolder, dataset: DatasetSpec, params: Params) -> None:
    folder = project.folder
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    # The checkout's own results and records, which are in git, stay behind.
    made = (".snakemake/", "results/", "dvc.lock")
    for name in listed.stdout.split("\0"):
        if name and not name.startswith(made) and (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, folder / name)
    (folder / "workflow/datasets/tiny.yaml").write_text(yaml.safe_dump(dataset.model_dump(mode="json")))
    content = params.model_dump(mode="json")
    # DVC reads params.yaml dozens of times, with a parser that takes seconds for all that this project has.
    adaptation = content["adapt"]
    for entries in (content["experiments"], content["shard"], content["pretrain"], adaptation["recipes"]):
        for name in entries.keys() - {"digits", "tiny"}:
            del entries[name]
    for name in adaptation["methods"].keys() - {"cdtrans", "dat", "csm", "dacsm", "shot"}:
        del adaptation["methods"][name]
    content["experiments"]["tiny"] |= {
        "tasks": ["synthetic-mnist"],
        "methods": ["source_only", "dacsm"],
        "seeds": [0, 1],
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    project.git("init", "--quiet")
    project.commit("the project")
    project.snakemake()
    recorded = project.run("dvc", "repro")
    project.run("dvc", "remote", "add", "--local", "--default", "storage", str(folder.parent / "storage"))
    project.run("dvc", "push")
    project.commit("results")
    project.git("tag", "run1")
    (folder.parent / "recorded.txt").write_text(recorded)
