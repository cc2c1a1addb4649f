"""What changed between two commits: cells of a table, and the settings, code and data that their runs were made with.

The cells come from `dvc metrics diff`. Why they changed comes from the records of the runs in both commits, which say
what each run was really made with; what was edited besides comes from `dvc params diff` and git.
"""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import PurePath
from typing import Any

from dacsm.config.paths import Paths
from dacsm.ledger.audit.traces import changed_files, differences
from dacsm.ledger.pipeline import STAGES
from dacsm.ledger.processors import kind_of_processor
from dacsm.ledger.provenance import code_of
from dacsm.report.records import Record
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import UNREADABLE, no_number

SUMMARIES = ("mean_per_class", "overall")  # these cells come first
METRICS = "_metrics.json"


def compare(old: str, new: str, tables: Sequence[str]) -> dict[str, Any]:
    """Everything that differs between two commits in these tables, all where none is named.

    Raises InputError for a name that is no commit, or a table that neither commit has.

    Returns:
        The commits; the `params` and the `code` that were edited between them; and for each table its changed cells by
        task and method, with the settings, code and data that differ in the records of the runs behind them.
    """
    commits = [_commit(old), _commit(new)]
    known = {file for commit in commits for file in _git("ls-tree", "--name-only", commit, "results/").splitlines()}
    files = {file.removesuffix(METRICS).removeprefix("results/"): file for file in known if file.endswith(METRICS)}
    for name in tables:
        if name not in files:
            raise InputError(f"neither {old} nor {new} has results/{name}{METRICS}; name a table that one of them has.")
    wanted = [files[name] for name in tables or sorted(files)]  # also those of tables that no stage of DVC makes
    for commit, file in product(commits, wanted):  # DVC passes over one that it cannot read
        _committed(commit, file)
    found = _dvc("metrics", commits, "--targets", *wanted) if wanted else {}
    cells = {PurePath(file).name.removesuffix(METRICS): rows for file, rows in found.items()}
    changed = {}
    for name in tables or sorted(cells):
        records = [_records(commit, name) for commit in commits]
        changed[name] = [
            {"task": task, "method": method, "cells": rows, **_reasons(task, method, *records)}
            for (task, method), rows in _by_run(cells.get(name, {})).items()
        ]
    code = {file for stage in STAGES for file in code_of(stage)}
    edited = _git("diff", "--name-only", *commits).splitlines()
    return {
        "old": commits[0],
        "new": commits[1],
        "params": _dvc("params", commits),
        "code": [file for file in edited if file in code],
        "tables": changed,
    }


def _commit(revision: str) -> str:
    try:
        return _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    except subprocess.CalledProcessError as error:
        looked = subprocess.run(["git", "rev-parse", "--is-shallow-repository"], capture_output=True, text=True)
        if looked.returncode != 0:
            raise InputError("this folder is in no git repository; run in a clone of the project.") from error
        known = "`git log --oneline` lists the commits"
        if looked.stdout.strip() == "true":
            known = "this clone is shallow, so that it may be older: `git fetch --unshallow` brings the rest"
        raise InputError(f"{revision!r} is no commit, tag or branch of this repository; {known}.") from error


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def _dvc(kind: str, commits: Sequence[str], *options: str) -> dict[str, dict[str, dict[str, Any]]]:
    """What `dvc metrics diff` or `dvc params diff` says: file, dotted key, and its old and new value."""
    command = [sys.executable, "-m", "dvc", kind, "diff", "--json", *commits, *options]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise InputError(f"`dvc {kind} diff` failed: {last.removeprefix('ERROR: ')}; mend that and run again.")
    return json.loads(result.stdout or "{}")


def _records(commit: str, table: str) -> dict[str, Record]:
    """The records in a commit of the runs of a table's dataset, by path; of the seeds that the table shows."""
    dataset, seeds = table, None
    of_table = STAGES["table"].record_of(Paths(), {"experiment": table})
    if written := _committed(commit, str(of_table)):
        with _from_commit(commit, of_table):
            experiment = written["settings"][f"experiments.{table}"]
            dataset, seeds = experiment["dataset"] or table, experiment["seeds"]
    folder = str(Paths().records(dataset))
    result = subprocess.run(["git", "archive", "--format=tar", commit, folder], capture_output=True)
    if result.returncode != 0:
        return {}  # a commit without records
    records: dict[str, Record] = {}
    with tarfile.open(fileobj=io.BytesIO(result.stdout)) as files:
        for member in files:
            if content := files.extractfile(member):  # None for a folder
                record = _object(commit, member.name, content.read())
                with _from_commit(commit, member.name):
                    _ = [record[key].keys() for key in ("arguments", "settings", "inputs")]
                if seeds is None or record["arguments"].get("seed") in (None, *seeds):
                    records[member.name] = record
    return records


def _committed(commit: str, path: str) -> dict[str, Any] | None:
    """The object in a JSON file of a commit; None where the commit has no such file."""
    written = subprocess.run(["git", "show", f"{commit}:{path}"], capture_output=True)
    return _object(commit, path, written.stdout) if written.returncode == 0 else None


def _object(commit: str, path: str, content: bytes) -> dict[str, Any]:
    with _from_commit(commit, path):
        return dict(json.loads(content, parse_constant=no_number).items())


@contextmanager
def _from_commit(commit: str, path: Any) -> Iterator[None]:
    """Read what a commit holds; raises InputError where that is not what our commands write."""
    try:
        yield
    except (AttributeError, *UNREADABLE) as error:
        raise InputError(f"{path} in {commit[:10]} is damaged ({error}); name another commit, or mend it.") from error


def _by_run(rows: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, Mapping[str, Any]]]:
    """The cells of each task and method, its summaries first; a metric's key is task.method.cell or …per_class.cell."""
    found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for key, values in rows.items():
        task, method, cell = key.split(".", 2)
        found.setdefault((task, method), {})[cell.removeprefix("per_class.")] = values
    return {run: dict(sorted(cells.items(), key=lambda cell: cell[0] not in SUMMARIES)) for run, cells in found.items()}


def _reasons(task: str, method: str, old: Mapping[str, Record], new: Mapping[str, Record]) -> dict[str, Any]:
    """What the records behind a method on a task say differently: settings, code, data, processors."""
    behind = [_behind(task, method, records) for records in (old, new)]
    settings: dict[str, tuple[Any, Any]] = {}
    code, data = set(), set()
    for path in behind[0].keys() & behind[1].keys():
        before, after = behind[0][path], behind[1][path]
        settings |= differences(before["settings"], after["settings"])
        code |= set(changed_files(before.get("code", {}), after.get("code", {})))
        inputs = changed_files(before["inputs"], after["inputs"])
        data |= {file for file in inputs if not file.startswith("results/")}
    seeds = [sorted({record["arguments"]["seed"] for record in records.values()}) for records in behind]
    if seeds[0] != seeds[1]:
        settings["seeds"] = (seeds[0], seeds[1])
    kinds = [sorted({kind_of_processor(record) for record in records.values()}) for records in behind]
    processors = kinds if kinds[0] != kinds[1] and all(kinds) else []
    return {"settings": settings, "code": sorted(code), "data": sorted(data), "processors": processors}


def _behind(task: str, method: str, records: Mapping[str, Record]) -> dict[str, Record]:
    """The records of the runs that made a method's numbers on a task: pretraining, adaptation and evaluation."""
    source = task.split("-")[0]
    wanted = ({"source": source}, {"method": method, "task": task})
    return {
        path: record
        for path, record in records.items()
        if "seed" in record["arguments"] and any(keys.items() <= record["arguments"].items() for keys in wanted)
    }


def print_comparison(found: Mapping[str, Any], as_json: bool) -> None:
    """For people, a block for each task and method whose cells changed; or all as one JSON object."""
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print(f"{found['old'][:10]} → {found['new'][:10]}")
    for table, runs in found["tables"].items():
        if not runs:
            print(f"\n{table}: no cell changed")
        for run in runs:
            print(f"\n{table}  {run['task']}  {run['method']}")
            for cell, values in run["cells"].items():
                old, new = (_number(values.get(side), "7.2f", "      –") for side in ("old", "new"))
                print(f"    {cell:<16} {old} → {new} {_number(values.get('diff'), '+7.2f', '')}")
            lines = [f"{key}  {old} → {new}" for key, (old, new) in run["settings"].items()]
            lines += [f"code of {file}" for file in run["code"]] + [f"data in {file}" for file in run["data"]]
            lines = [f"made with  {line}" for line in lines]
            if run["processors"]:
                old, new = (" and ".join(kinds) for kinds in run["processors"])
                lines.append(f"made on another kind of processor  {old} → {new}")
            for line in lines or ["the records of its runs name no difference in settings, code, data or processor"]:
                print(f"    {line}")
    rows = [(file, key, change) for file, changes in found["params"].items() for key, change in changes.items()]
    edited = [f"{file}: {key}  {change.get('old')} → {change.get('new')}" for file, key, change in rows]
    edited += found["code"]
    print("\nedited between the two" if edited else "\nneither params nor code were edited between the two")
    for line in edited:
        print(f"    {line}")


def _number(value: Any, form: str, unknown: str) -> str:
    return f"{value:{form}}" if isinstance(value, int | float) else unknown
