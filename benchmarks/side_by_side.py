"""All runs of an experiment on one machine with many cores or a GPU, by processes that stay warm.

    python -m benchmarks.side_by_side pacs --processes 15 --device cuda

Each run is that of the pipeline's own command, with its run record. Snakemake starts a process for each, which costs it
some seconds of imports and of the GPU's start: for runs of a minute that is much. Runs whose first output is there are
left alone, and an evaluation follows its adaptation at once. `--minutes` starts none later.
"""

import argparse
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from multiprocessing import get_context
from pathlib import Path

from benchmarks.arithmetic import hold_as
from dacsm.cli.run_stage import run_stage
from dacsm.config import SOURCE_ONLY
from dacsm.config.project import open_project
from dacsm.ledger.pipeline import STAGES
from dacsm.ledger.runs import Run, runs_of
from dacsm.runtime.errors import InputError
from dacsm.stages import adapt, evaluate, pretrain  # noqa: F401  the processes that are forked have them


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.side_by_side", description=__doc__.split("\n")[0])
    parser.add_argument("experiment")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    options = parser.parse_args()
    try:
        project = open_project(options.params, experiment=options.experiment)
        experiment = project.params.experiment(options.experiment)
    except InputError as error:
        sys.exit(f"side_by_side: {error}")
    hold_as(project)
    until = time.monotonic() + 60 * options.minutes
    left: dict[str, list[Run]] = {}
    failed = 0
    for run in runs_of(project, experiment):
        if not run.outputs[0].exists():
            left.setdefault(run.stage, []).append(run)
    evaluations = {tuple(run.arguments.values()): run for run in left.get("evaluate", ())}
    models = [[evaluations[key]] for key in evaluations if SOURCE_ONLY in key]
    # Seed by seed, and task by task with all methods, so that a machine that is given back early leaves what compares.
    order = list(product(experiment.seeds, experiment.tasks))
    adapted = sorted(left.get("adapt", ()), key=lambda run: order.index((run.arguments["seed"], run.arguments["task"])))
    chains = []
    for run in adapted:
        evaluation = evaluations.pop(tuple(run.arguments.values()), None)
        chains.append([run, evaluation] if evaluation else [run])
    chains += [[run] for key, run in evaluations.items() if SOURCE_ONLY not in key]  # of adaptations made before
    steps = [[[run] for run in left.get(stage, ())] for stage in ("download", "shard", "pretrain")]
    for jobs in (*steps, [*models, *chains]):
        failed += _side_by_side(jobs, options, until)
    return int(failed > 0)


def _side_by_side(jobs: Sequence[Sequence[Run]], options: Namespace, until: float) -> int:
    """Do the jobs, each some runs one after the other; how many failed, which are named."""
    failed = 0
    with ProcessPoolExecutor(options.processes, mp_context=get_context("fork")) as pool:
        waiting = {pool.submit(_do, job, options.params, options.device, until): job for job in jobs}
        for done in as_completed(waiting):
            if error := done.exception():
                failed += 1
                print(f"{list(waiting[done][0].arguments.values())}: {error}", file=sys.stderr, flush=True)
    return failed


def _do(job: Sequence[Run], params: Path, device: str, until: float) -> None:
    for run in job:
        if not run.outputs[0].exists() and time.monotonic() < until:
            of_machine = {"device": device, "workers": 0, "features_folder": None, "params": params}
            run_stage(STAGES[run.stage], Namespace(**run.arguments, **of_machine))


if __name__ == "__main__":
    sys.exit(main())
