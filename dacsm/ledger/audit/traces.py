"""A run's record against what is there now: its outputs, its inputs, its settings and its code."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.ledger import provenance
from dacsm.ledger.audit.finding import Finding, missing
from dacsm.ledger.records import files_in
from dacsm.ledger.runs import Run
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json

MOST = 3  # things of one kind that a finding names
SECTIONS = ("settings", "code", "inputs", "outputs")
BACK = "remove it, then bring it back with `dvc checkout`, or make it with `snakemake`."
BACK_IN_GIT = "bring it back with `git checkout`, or remove it and run `snakemake`."  # receipts, tables, scales
AGAIN = "`snakemake` makes it again."


def trace_findings(run: Run, params: Params, dataset: DatasetSpec, hash_of: Callable[[Path], str]) -> Iterator[Finding]:
    """What of a run is not as its record says."""
    absent = [path for path in run.outputs if not path.exists()]
    if absent:
        yield from (missing(path) for path in absent)
        return
    try:
        record = _read_record(run)
    except InputError as error:
        yield Finding(str(run.place), "record", str(error))
        return
    yield from _output_findings(run, record["outputs"], hash_of)
    yield from _input_findings(run, record["inputs"], hash_of)
    now = provenance.settings_of(run.stage, params, dataset, run.arguments)
    changed = differences(record["settings"], now)
    if changed:
        texts = [
            f"{key} {_shown(old)}, where the settings now say {_shown(new)}" for key, (old, new) in changed.items()
        ]
        yield Finding(str(run.place), "settings", f"was made with {_listed(texts, '; ')}; {AGAIN}")
    code = {file: hash_of(provenance.PACKAGE.parent / file) for file in provenance.code_of(run.stage, dataset.reader)}
    other = sorted(file for file in code.keys() | record["code"].keys() if code.get(file) != record["code"].get(file))
    if other:
        yield Finding(
            str(run.place), "code", f"was made with other code than there is now in {_listed(other)}; {AGAIN}"
        )


def _read_record(run: Run) -> dict[str, Any]:
    """The run's record, if it is of that run and holds what a record does."""
    if not run.record.exists():
        raise InputError(
            f"has no record, so nothing vouches for it; bring {run.record} back with `git checkout -- {run.record}`, "
            f"or remove {run.outputs[0].name} and run `snakemake`."
        )
    record = read_json(run.record, "snakemake")
    if not isinstance(record, dict) or any(not isinstance(record.get(section), dict) for section in SECTIONS):
        raise InputError(f"{run.record} is not a whole record; remove {run.outputs[0].name} and run `snakemake`.")
    found = {"stage": record.get("stage"), **record.get("arguments", {})}
    if found != {"stage": run.stage, **run.arguments}:
        raise InputError(
            f"{run.record} is the record of another run; bring it back with `git checkout -- {run.record}`."
        )
    return record


def _output_findings(run: Run, recorded: Mapping[str, str], hash_of: Callable[[Path], str]) -> Iterator[Finding]:
    back = BACK_IN_GIT if run.stage in ("download", "table", "rescale", "scales") else BACK
    for path in sorted({*files_in(run.outputs), *map(Path, recorded)}):
        if not path.is_file():
            yield missing(path)
        elif str(path) not in recorded:
            yield Finding(str(path), "output", f"was not written by the run whose record is {run.record}; remove it.")
        elif hash_of(path) != recorded[str(path)]:
            found = f"its sha256 begins with {hash_of(path)[:12]}, that of the record with {recorded[str(path)][:12]}"
            yield Finding(str(path), "output", f"is not what `{run.stage}` wrote: {found}; {back}")


def _input_findings(run: Run, recorded: Mapping[str, str], hash_of: Callable[[Path], str]) -> Iterator[Finding]:
    for path in run.inputs:
        if not path.is_file():
            yield missing(path)
    other = [str(path) for path in run.inputs if path.is_file() and hash_of(path) != recorded.get(str(path))]
    other += sorted(recorded.keys() - {str(path) for path in run.inputs})
    if other:
        text = f"was made from another {_listed(other)} than the one that is here; where that one is right, {AGAIN}"
        yield Finding(str(run.place), "input", text)


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


def _listed(names: list[str], separator: str = ", ") -> str:
    more = len(names) - MOST
    return separator.join(names[:MOST]) + (f" and {more} more" if more > 0 else "")
