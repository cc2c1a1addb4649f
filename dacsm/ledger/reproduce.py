"""A cell made once more, from the archives on, in a folder of its own, and compared with what was recorded of it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dacsm.config.experiments import Experiment
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.ledger.audit.traces import changed_files, differences, read_record
from dacsm.ledger.cell import closest, find_cell, values_of
from dacsm.ledger.runs import Run, runs_of
from dacsm.report.records import Record
from dacsm.runtime.errors import InputError

FOLDER = Path("runs", "reproduced")  # git and DVC leave `runs` alone
MODELS = ("pretrain", "adapt", "evaluate")


def reproduce(
    project: Project, table: str, method: str, name: str, task: str | None, seed: int | None, cores: int
) -> Iterator[str]:
    """Make the runs behind a cell again, of one seed or of all; the lines that `dacsm reproduce` prints.

    Raw archives are taken from where they lie; all else is made anew, by the present settings and code. Raises
    InputError where the table has no such cell, a run of it is not made or left no record, or Snakemake fails.
    """
    experiment = project.params.experiment(table)
    method = closest(method, experiment.methods, f"experiments.{experiment.name}.methods has no")
    cell = find_cell(project, experiment, name, task)
    if seed is not None and seed not in experiment.seeds:
        raise InputError(f"experiments.{table}.seeds has no {seed}; it has {', '.join(map(str, experiment.seeds))}.")
    seeds = experiment.seeds if seed is None else (seed,)
    changes = {"methods": (method,), "tasks": cell.tasks, "seeds": seeds, "contrasts": ()}
    experiment = experiment.model_copy(update=changes)
    before = _records(project, experiment)
    recorded = values_of(project, experiment, cell)
    again = Project(project.params, project.dataset, Paths(FOLDER / f"{table}-{method}"), project.file)
    yield f"{table}, {method}, {cell.name}: made again in {again.paths.root}"
    make_anew(project, again, runs_of(again, experiment, ["evaluate"]), cores)
    after = _records(again, experiment)
    remade = values_of(again, experiment, cell)
    for one in seeds:
        old, new = (round(values[one], 2) for values in (recorded, remade))
        verdict = "equal" if old == new else f"{new - old:+.2f}"
        yield f"  seed {one}: recorded {old:.2f}, now {new:.2f}: {verdict}"
    yield from _verdict(before, after, project.paths.root, again.paths.root)


def _records(project: Project, experiment: Experiment) -> list[tuple[Run, Record]]:
    """The runs of models behind an experiment, in order, each with its record."""
    return [(run, read_record(run)) for run in runs_of(project, experiment, MODELS)]


def make_anew(project: Project, again: Project, wanted: Sequence[Run], cores: int) -> None:
    """Let Snakemake make runs of `again`, the project under another root, from the archives of the first.

    Raises InputError where it cannot.
    """
    root = again.paths.root
    shutil.rmtree(root, ignore_errors=True)
    raw, own = project.paths.raw(project.dataset.raw_name), again.paths.raw(project.dataset.raw_name)
    if raw.is_dir():
        own.parent.mkdir(parents=True)
        own.symlink_to(raw.resolve())
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--config", f"root={root}"]
    files = [str(run.outputs[0]) for run in wanted]
    if subprocess.run([*command, "--quiet", "host", "reason", "--", *files]).returncode:
        raise InputError(f"the runs could not be made again in {root}; Snakemake says why above.")


def _verdict(
    before: list[tuple[Run, Record]], after: list[tuple[Run, Record]], root: Path, other: Path
) -> Iterator[str]:
    """Whether all files of the runs are equal; if not, the first run that differs, and what it was made with."""
    for (run, old), (_, new) in zip(before, after, strict=True):
        if changed := changed_files(under(old["outputs"], root), under(new["outputs"], other)):
            yield f"the first run that differs is {run.place}, in {', '.join(Path(name).name for name in changed)}"
            reasons = list(_reasons(old, new, root, other))
            for reason in reasons or ["nothing that the records tell: on this device the run is not deterministic"]:
                yield f"  made with  {reason}"
            return
    files = sum(len(record["outputs"]) for _, record in after)
    yield f"all {files} files of {len(after)} runs are equal, byte for byte"


def _reasons(old: Record, new: Record, root: Path, other: Path) -> Iterator[str]:
    """What two records of the same run say differently of what it was made with."""
    alike = [{"device": one["device"], **one.get("arithmetic", {}), **one["versions"]} for one in (old, new)]
    for both in ((old["settings"], new["settings"]), alike):
        yield from (f"{key} {a}, now {b}" for key, (a, b) in differences(*both).items())
    yield from (f"other code in {file}" for file in changed_files(old["code"], new["code"]))
    inputs = changed_files(under(old["inputs"], root), under(new["inputs"], other))
    yield from (f"other data in {file}" for file in inputs)


def under(files: Mapping[str, str], root: Path) -> dict[str, str]:
    """Hashes by path below a root, so that two roots can be compared."""
    paths = {Path(name): sha256 for name, sha256 in files.items()}
    return {
        str(path.relative_to(root) if path.is_relative_to(root) else path): sha256 for path, sha256 in paths.items()
    }
