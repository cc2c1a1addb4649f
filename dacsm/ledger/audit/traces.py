"""Run records against what is there now: outputs, inputs, settings, code; an index or receipt against its files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dacsm.config.project import Project
from dacsm.data.shards import verify
from dacsm.ledger.pipeline import STAGES
from dacsm.ledger.processors import kind_of_processor
from dacsm.ledger.provenance import chosen_by, code_of, settings_of
from dacsm.ledger.runs import Run
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json, reading
from dacsm.runtime.wording import listed

MOST = 3  # things of one kind that a finding names
SECTIONS = ("settings", "code", "inputs", "outputs")
IN_GIT = ("download", "table", "summarise", "rescale", "scales")  # the stages whose results are
AGAIN = "`snakemake` makes it again."
Hash = Callable[[Path], str]
Kind = Literal["missing", "record", "output", "input", "settings", "code", "data", "numbers", "device"]


@dataclass(frozen=True)
class Finding:
    """`result` is the path of what is in doubt; `text` says what was found, what was expected, and what to do."""

    result: str
    kind: Kind
    text: str


def missing(path: Path, run: Run) -> Finding:
    """A file of a run is not there. Where its folders are not either, the uppermost of them is said to be missing.

    So a clone without data gets one finding a phase, and not one a file.
    """
    again = made_by(run, path)
    while not path.parent.exists():
        path = path.parent
    stored = "" if STAGES[run.stage].optional else "bring it with `dvc pull`, or "  # DVC tracks no optional stage
    return Finding(str(path), "missing", f"is not here; {stored}make it with `{again}`.")


def made_by(run: Run, path: Path | None = None) -> str:
    """The command that makes what is missing of a run's phase: plain `snakemake` looks at the tables alone.

    Of the files in a run's folder Snakemake does not know.
    """
    if path is not None and path.parent in run.folders and path not in run.outputs:
        return f"snakemake --cores all --forcerun {run.outputs[0]} -- {run.outputs[0]}"
    dataset = run.arguments.get("dataset")
    target = f"{dataset}_{STAGES[run.stage].phase}" if dataset else run.outputs[0]
    return f"snakemake --cores all {target}"


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
        shown = {key: ["nothing" if one is None else one for one in both] for key, both in changed.items()}
        texts = [f"{key} {old}, where the settings now say {new}" for key, (old, new) in shown.items()]
        yield Finding(str(run.place), "settings", f"was made with {listed(texts, MOST, '; ')}; {AGAIN}")
    other = changed_files(record["code"], code_of(run.stage, chosen_by(project, run.arguments)))
    if other:
        text = f"was made with other code than there is now in {listed(other, MOST)}; {AGAIN}"
        yield Finding(str(run.place), "code", text)


def device_findings(table: Run, runs: Sequence[Run]) -> Iterator[Finding]:
    """Where the runs behind a table were made on different kinds of processors, which round and add up differently."""
    by_kind: dict[str, list[Path]] = {}
    for run in runs:
        if "compute" in STAGES[run.stage].takes:
            with suppress(InputError):  # said already
                by_kind.setdefault(kind_of_processor(read_record(run)), []).append(run.place)
    if len(by_kind) > 1:
        shown = " and ".join(f"{len(places)} on {kind}, such as {places[0]}" for kind, places in by_kind.items())
        text = f"rests on runs made on different kinds of processors, {shown}; make all of them on one kind."
        yield Finding(str(table.place), "device", text)


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
    # What is missing in these is said of the run that makes it.
    made = project.paths.results, project.paths.root / "data"
    for path in run.inputs:
        if not path.is_file() and not any(path.is_relative_to(folder) for folder in made):
            yield Finding(str(path), "missing", f"is not here, and {run.place} was made from it; put it back.")
    now = {str(path): hash_of(path) for path in run.inputs if path.is_file()}
    absent = {str(path) for path in run.inputs if not path.is_file()}
    other = [path for path in changed_files(recorded, now) if path not in absent]
    if other:
        which = listed(other, MOST)
        text = f"was made from another {which} than the one that is here; where that one is right, {AGAIN}"
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


def files_findings(run: Run, project: Project, hash_of: Hash) -> Iterator[Finding]:
    """Compare shards with their index, and an archive that is here with its receipt; neither is in any record.

    An archive that is not here is no finding: it is needed to shard anew, and to nothing else.
    """
    if not run.outputs[0].is_file():
        return
    try:
        if run.stage == "shard":
            verify(run.place, hash_of)
        elif run.stage == "download":
            again = f"dacsm download {project.dataset.name} {run.place.stem}"
            receipt = read_json(run.place, again)
            with reading(run.place, again):
                archive, expected = project.paths.raw(project.dataset.name) / receipt["file"], receipt["sha256"]
            if archive.is_file() and hash_of(archive) != expected:
                raise InputError(
                    f"{archive} is not the file that its receipt describes; make both again with `{again}`."
                )
    except InputError as error:
        yield Finding(str(run.place), "data", str(error))
