"""A run record against what is there now: its outputs, its inputs, its settings and its code."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dacsm.config.project import Project
from dacsm.ledger.audit.finding import Finding, made_by, missing
from dacsm.ledger.provenance import chosen_by, code_of, settings_of
from dacsm.ledger.runs import Run
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json

MOST = 3  # things of one kind that a finding names
SECTIONS = ("settings", "code", "inputs", "outputs")
IN_GIT = ("download", "table", "rescale", "scales")  # the stages whose results are
AGAIN = "`snakemake` makes it again."
Hash = Callable[[Path], str]


def trace_findings(run: Run, project: Project, hash_of: Hash) -> Iterator[Finding]:
    """What of a run is not as its record says."""
    absent = [path for path in (*run.outputs, *run.folders) if not path.exists()]
    if absent:
        yield from (missing(path, run) for path in absent)
        return
    try:
        record = read_record(run)
    except InputError as error:
        yield Finding(str(run.place), "record", str(error))
        return
    yield from _output_findings(run, record["outputs"], hash_of)
    yield from _input_findings(run, project, record["inputs"], hash_of)
    changed = differences(record["settings"], settings_of(project, run.stage, run.arguments))
    if changed:
        texts = [
            f"{key} {_shown(old)}, where the settings now say {_shown(new)}" for key, (old, new) in changed.items()
        ]
        yield Finding(str(run.place), "settings", f"was made with {_listed(texts, '; ')}; {AGAIN}")
    other = changed_files(record["code"], code_of(run.stage, chosen_by(project, run.arguments)))
    if other:
        text = f"was made with other code than there is now in {_listed(other)}; {AGAIN}"
        yield Finding(str(run.place), "code", text)


def read_record(run: Run) -> dict[str, Any]:
    """The run record, if it is of that run and whole.

    Raises InputError where it is not; the sentence goes on after the result's name.
    """
    made_anew = f"remove {run.outputs[0].name} and run `{made_by(run)}`."
    if not run.record.exists():
        back = f"bring {run.record} back with `git checkout -- {run.record}`"
        raise InputError(f"has no run record, so nothing vouches for it; {back}, or {made_anew}")
    record = read_json(run.record, "snakemake")
    if not isinstance(record, dict) or any(not isinstance(record.get(section), dict) for section in SECTIONS):
        raise InputError(f"{run.record} is not a whole run record; {made_anew}")
    if (record.get("stage"), record.get("arguments")) != (run.stage, dict(run.arguments)):
        back = f"bring it back with `git checkout -- {run.record}`, or {made_anew}"
        raise InputError(f"{run.record} is the run record of another run; {back}")
    return record


def _output_findings(run: Run, recorded: Mapping[str, str], hash_of: Hash) -> Iterator[Finding]:
    back = f"remove it, then bring it back with `{'git' if run.stage in IN_GIT else 'dvc'} checkout`, or make it with"
    for path in sorted({*run.written(), *map(Path, recorded)}):
        if not path.is_file():
            yield missing(path, run)
        elif str(path) not in recorded:
            text = f"was not written by the run whose run record is {run.record}; remove it."
            yield Finding(str(path), "output", text)
        elif hash_of(path) != recorded[str(path)]:
            found = f"its sha256 begins with {hash_of(path)[:12]}, in the run record with {recorded[str(path)][:12]}"
            yield Finding(str(path), "output", f"is not what `{run.stage}` wrote: {found}; {back} `{made_by(run)}`.")


def _input_findings(run: Run, project: Project, recorded: Mapping[str, str], hash_of: Hash) -> Iterator[Finding]:
    made = (
        project.paths.results,
        project.paths.root / "data",
    )  # what is missing there is said of the run that makes it
    for path in run.inputs:
        if not path.is_file() and not any(path.is_relative_to(folder) for folder in made):
            yield Finding(str(path), "missing", f"is not here, and {run.place} was made from it; put it back.")
    now = {str(path): hash_of(path) for path in run.inputs if path.is_file()}
    absent = {str(path) for path in run.inputs if not path.is_file()}
    other = [path for path in changed_files(recorded, now) if path not in absent]
    if other:
        text = f"was made from another {_listed(other)} than the one that is here; where that one is right, {AGAIN}"
        yield Finding(str(run.place), "input", text)


def changed_files(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """The files whose hash differs, or that only one has, sorted."""
    return sorted(file for file in old.keys() | new.keys() if old.get(file) != new.get(file))


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """What differs between two nestings of settings, by dotted key; None stands for a key that one has not."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return {} if old == new else {prefix: (old, new)}
    found: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys((*old, *new)):
        found |= differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
    return found


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    more = len(names) - MOST
    return separator.join(names[:MOST]) + (f" and {more} more" if more > 0 else "")
