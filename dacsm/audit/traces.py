"""A run's card against what is there now: its outputs, its inputs, its settings and its code."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dacsm import provenance
from dacsm.audit.finding import Finding, missing
from dacsm.cards import files_in
from dacsm.catalog import DatasetSpec
from dacsm.errors import InputError
from dacsm.files import read_json
from dacsm.params import Params
from dacsm.runs import Run

MOST = 3  # things of one kind that a finding names
SECTIONS = ("settings", "code", "inputs", "outputs")
BACK = "remove it, then bring it back with `dvc checkout`, or make it with `snakemake`."
BACK_IN_GIT = "bring it back with `git checkout`, or remove it and run `snakemake`."  # receipts, tables, scales
AGAIN = "`snakemake` makes it again."


def trace_findings(run: Run, params: Params, dataset: DatasetSpec, hash_of: Callable[[Path], str]) -> Iterator[Finding]:
    """What of a run is not as its card says."""
    absent = [path for path in run.outputs if not path.exists()]
    if absent:
        yield from (missing(path) for path in absent)
        return
    try:
        card = _read_card(run)
    except InputError as error:
        yield Finding(str(run.place), "card", str(error))
        return
    yield from _output_findings(run, card["outputs"], hash_of)
    yield from _input_findings(run, card["inputs"], hash_of)
    now = provenance.settings_of(run.room, params, dataset, run.arguments)
    changed = differences(card["settings"], now)
    if changed:
        texts = [
            f"{key} {_shown(old)}, where the settings now say {_shown(new)}" for key, (old, new) in changed.items()
        ]
        yield Finding(str(run.place), "settings", f"was made with {_listed(texts, '; ')}; {AGAIN}")
    code = {file: hash_of(provenance.PACKAGE.parent / file) for file in provenance.code_of(run.room, dataset.maker)}
    other = sorted(file for file in code.keys() | card["code"].keys() if code.get(file) != card["code"].get(file))
    if other:
        yield Finding(
            str(run.place), "code", f"was made with other code than there is now in {_listed(other)}; {AGAIN}"
        )


def _read_card(run: Run) -> dict[str, Any]:
    """The run's card, if it is of that run and holds what a card does."""
    if not run.card.exists():
        raise InputError(
            f"has no card, so that nothing vouches for it; bring {run.card} back with `git checkout -- {run.card}`, "
            f"or remove {run.outputs[0].name} and run `snakemake`."
        )
    card = read_json(run.card, "snakemake")
    if not isinstance(card, dict) or any(not isinstance(card.get(section), dict) for section in SECTIONS):
        raise InputError(f"{run.card} is not a whole card; remove {run.outputs[0].name} and run `snakemake`.")
    found = {"room": card.get("room"), **card.get("arguments", {})}
    if found != {"room": run.room, **run.arguments}:
        raise InputError(f"{run.card} is the card of another run; bring it back with `git checkout -- {run.card}`.")
    return card


def _output_findings(run: Run, recorded: Mapping[str, str], hash_of: Callable[[Path], str]) -> Iterator[Finding]:
    back = BACK_IN_GIT if run.room in ("download", "table", "rescale", "scales") else BACK
    for path in sorted({*files_in(run.outputs), *map(Path, recorded)}):
        if not path.is_file():
            yield missing(path)
        elif str(path) not in recorded:
            yield Finding(str(path), "output", f"was not written by the run whose card is {run.card}; remove it.")
        elif hash_of(path) != recorded[str(path)]:
            found = f"its sha256 begins with {hash_of(path)[:12]}, that of the card with {recorded[str(path)][:12]}"
            yield Finding(str(path), "output", f"is not what `{run.room}` wrote: {found}; {back}")


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
