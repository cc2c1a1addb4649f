"""Whether results are what they say: made from what is on disk now, with the present settings and code.

A record says what its run was made from and what it wrote (dacsm.ledger.records). The audit compares every record that
an experiment rests on with the files, with params.yaml and with the code; and it works the numbers out anew.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.ledger.audit.files import files_findings
from dacsm.ledger.audit.finding import Finding
from dacsm.ledger.audit.numbers import Recomputed, metrics_findings, scales_findings, table_findings
from dacsm.ledger.audit.traces import trace_findings
from dacsm.ledger.runs import PHASES, Run, asides_of, runs_of
from dacsm.runtime.hashes import Hashes

MEMORY = Path("logs/audit.json")  # under the root; git and DVC leave logs/ alone


def audit(
    params: Params, experiments: Mapping[str, DatasetSpec], paths: Paths, phase: str | None, deep: bool
) -> tuple[int, list[Finding]]:
    """Audit the results of `experiments`, each with its dataset, or of one phase of them (see runs.PHASES).

    What is beside the way to the table is only audited where its phase is named.

    `deep` hashes every file, where else one whose inode, size and times are those of the last audit counts as the same.

    Returns:
        The number of results, and what was found, each once, in the order of the pipeline.

    Raises:
        InputError: where params.yaml has no such experiment.
    """
    hashes = Hashes(paths.root / MEMORY, trust=not deep)
    count, found = 0, {}
    for dataset in {dataset.name: dataset for dataset in experiments.values()}.values():
        own = [params.experiment(name) for name, other in experiments.items() if other.name == dataset.name]
        every = [run for experiment in own for run in runs_of(params, dataset, experiment, paths)]
        if phase is not None:
            every += [run for experiment in own for run in asides_of(params, dataset, experiment, paths)]
        runs = {run.record: run for run in every if phase in (None, PHASES[run.stage])}  # those they share, once
        count += len(runs)
        for finding in _findings(list(runs.values()), params, dataset, paths, hashes):
            found.setdefault((finding.result, finding.text), finding)
    hashes.save()
    return count, list(found.values())


def _findings(
    runs: Sequence[Run], params: Params, dataset: DatasetSpec, paths: Paths, hashes: Hashes
) -> Iterator[Finding]:
    recomputed = Recomputed(params, dataset, paths)
    for run in runs:
        yield from trace_findings(run, params, dataset, hashes)
        yield from files_findings(run, dataset, paths, hashes)
        if run.stage == "evaluate":
            yield from metrics_findings(run, recomputed)
        elif run.stage == "table":
            yield from table_findings(run, params, dataset, paths, recomputed)
        elif run.stage == "scales":
            yield from scales_findings(run, params, dataset, paths)


def print_findings(count: int, found: Sequence[Finding], as_json: bool) -> None:
    """A line a finding and a line that sums up; or all of it as one JSON object."""
    if as_json:
        print(json.dumps({"results": count, "findings": [asdict(finding) for finding in found]}, indent=2))
        return
    for finding in found:
        print(f"{finding.result}: {finding.text}")
    findings = {0: "nothing found", 1: "1 finding"}.get(len(found), f"{len(found)} findings")
    print(f"dacsm audit: {count} {'result' if count == 1 else 'results'} looked at, {findings}.")
