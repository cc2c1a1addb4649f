"""Whether results are what they say: made from what is on disk now, with the present settings and code.

A run record says what its run was made from and what it wrote (dacsm.ledger.runs). The audit compares every record
that an experiment rests on with the files, with params.yaml and with the code, and it computes the numbers anew.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dacsm.config.project import Project
from dacsm.ledger.audit.numbers import metrics_findings, recomputing, text_findings
from dacsm.ledger.audit.traces import Finding, device_findings, files_findings, trace_findings
from dacsm.ledger.pipeline import PHASES
from dacsm.ledger.runs import Run, runs_of
from dacsm.runtime.hashes import Hashes

MEMORY = Path("logs/audit.json")  # under the root; git and DVC leave logs/ alone


def audit(projects: Mapping[str, Project], phase: str | None, deep: bool) -> tuple[int, list[Finding]]:
    """Audit the results of experiments, given by name with their projects, or of one phase of them.

    Optional stages are only audited where their phase is named. `deep` hashes every file; else a file whose inode, size
    and times are those of the last audit counts as the same. It also scores every epoch by all validators, where else
    only the recipe's is computed anew, since some take minutes. Raises InputError where params.yaml has no such
    experiment.

    Returns:
        The number of results, and what was found, each once, in the order of the pipeline.
    """
    stages = None if phase is None else [PHASES[phase].name]
    hashes: Hashes | None = None
    found: dict[Any, Any] = {}
    count = 0
    for dataset in {project.dataset.name: project for project in projects.values()}.values():
        names = [name for name, project in projects.items() if project.dataset.name == dataset.dataset.name]
        every = [run for name in names for run in runs_of(dataset, dataset.params.experiment(name), stages)]
        # Those in common, once.
        runs = list({run.record: run for run in every if phase or not _left_out(run)}.values())
        count += len(runs)
        hashes = hashes or Hashes(dataset.paths.root / MEMORY, trust=not deep)
        for finding in _findings(runs, dataset, hashes, deep):
            found.setdefault((finding.result, finding.text), finding)
    if hashes is not None:
        hashes.save()
    return count, list(found.values())


def _left_out(run: Run) -> bool:
    """Whether it is a page that nobody asked for: `snakemake results/digits_table.csv` makes the table alone."""
    return run.stage == "summarise" and not any(path.exists() for path in (run.record, *run.outputs))


def _findings(runs: Sequence[Run], project: Project, hashes: Hashes, deep: bool) -> Iterator[Finding]:
    recomputed = recomputing(project, deep)
    for run in runs:
        yield from trace_findings(run, project, hashes)
        yield from files_findings(run, project, hashes)
        if run.stage == "evaluate":
            yield from metrics_findings(run, recomputed)
        elif run.stage in ("table", "scales"):
            yield from text_findings(run, project, recomputed)
            yield from device_findings(run, runs_of(project, project.params.experiment(run.arguments["experiment"])))


def print_findings(count: int, found: Sequence[Finding], as_json: bool) -> None:
    """A line a finding and a line that sums up; or all of it as one JSON object."""
    if as_json:
        print(json.dumps({"results": count, "findings": [asdict(finding) for finding in found]}, indent=2))
        return
    for finding in found:
        print(f"{finding.result}: {finding.text}")
    findings = {0: "nothing found", 1: "1 finding"}.get(len(found), f"{len(found)} findings")
    print(f"dacsm audit: {count} {'result' if count == 1 else 'results'} looked at, {findings}.")
