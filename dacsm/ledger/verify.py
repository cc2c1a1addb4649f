"""Whether this machine gives the published bytes: a source model and an adaptation of the demo, made and compared.

docs/example/digits.sha256 has the sha256 of every file that the demo's runs write but its page, as `sha256sum --check`
reads it. Its first line says what they were made with.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.ledger.audit.traces import differences, read_record
from dacsm.ledger.reproduce import make_anew, under
from dacsm.ledger.runs import run_of, runs_of
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import write_text
from dacsm.runtime.hashes import digest

TABLE = "digits"
FILE = Path("docs/example/digits.sha256")
ROOT = Path("runs", "verified")  # git and DVC leave `runs` alone
UNLIKE = ("summarise",)  # its page tells of clocks and processors, so that it differs from machine to machine
RUN: dict[str, Any] = {"method": "cdtrans", "task": "synthetic-mnist", "seed": 0}  # the quickest adaptation


def publish(project: Project) -> str:
    """Write FILE from the run records of the finished demo; what to print. Raises InputError where a run is missing."""
    runs = [run for run in runs_of(project, project.params.experiment(TABLE)) if run.stage not in UNLIKE]
    hashes = {name: sha256 for run in runs for name, sha256 in read_record(run)["outputs"].items()}
    made_with = _made_with(read_record(run_of(project, "adapt", **RUN)))
    lines = [f"# {json.dumps(made_with)}", *(f"{sha256}  {name}" for name, sha256 in sorted(hashes.items()))]
    write_text(FILE, "\n".join(lines) + "\n")
    return f"{FILE} has {len(hashes)} files"


def verify(project: Project, cores: int) -> Iterator[str]:
    """Make the runs anew and compare them with FILE, line by line; raises InputError where they differ."""
    published, made_with = _published()
    again = Project(project.params, project.dataset, Paths(ROOT), project.file)
    adapted = run_of(again, "adapt", **RUN)
    source, _target = project.dataset.split_task(RUN["task"])
    runs = [run_of(again, "pretrain", source=source, seed=RUN["seed"]), adapted]
    make_anew(project, again, [adapted], cores)
    unlike = []
    for run in runs:
        outputs = under(read_record(run)["outputs"], ROOT)
        found = [name for name, sha256 in outputs.items() if published.get(name) != sha256]
        unlike += found
        verdict = f"{', '.join(Path(name).name for name in found)} differ" if found else "as published, byte for byte"
        yield f"{run.place}: {len(outputs)} files, {verdict}"
    if unlike:
        here = _made_with(read_record(adapted))
        reasons = [f"{key} {old}, here {new}" for key, (old, new) in differences(made_with, here).items()]
        why = "; ".join(reasons) or "the published ones were made with the same processor, packages, settings and code"
        raise InputError(f"this machine does not give the published bytes. What they were made with: {why}.")
    yield "this machine gives the published bytes"


def _made_with(record: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the bytes of a run, in few words."""
    told = {"processor": record["device"], **record["versions"], "instructions": record["arithmetic"]["instructions"]}
    settings = {key: value for key, value in record["settings"].items() if key != "root"}
    return {**told, "settings": digest(settings)[:12], "code": digest(record["code"])[:12]}


def _published() -> tuple[dict[str, str], dict[str, Any]]:
    try:
        first, *lines = FILE.read_text(encoding="utf-8").splitlines()
        made_with = json.loads(first.removeprefix("# "))
        return {name: sha256 for sha256, name in (line.split("  ", 1) for line in lines)}, made_with
    except FileNotFoundError as error:
        raise InputError(
            f"{FILE} was not found: no bytes are published yet; make the demo, then run `dacsm verify --publish`."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{FILE} cannot be read ({error}); bring it back with `git checkout {FILE}`.") from error
