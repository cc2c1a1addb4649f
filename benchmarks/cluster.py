"""A small table on a Slurm of one machine, through profiles/slurm as it stands, with jobs that end in every way.

    make test-cluster

Starts Slurm from Debian's packages (benchmarks/slurm.py), makes a table of a few digits on it, and stops it whatever
happens. Of three runs that adapt, one is ended by its time limit, one by scancel, one by a dead node. Each is held
(SIGSTOP) once its state is saved, so that none is done before its end comes. Exits with 1 unless each run goes on from
its state, runs that want a GPU have the one that Slurm gave them, short runs share jobs, and the profile also works
without accounting. Changes no file of this project.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.kills import PROJECT, TASK, write_project
from benchmarks.slurm import Slurm, install, processes, wait_until

SEEDS = (0, 1, 2)
TABLE = "results/few_table.csv"
# Jobs that are short share one: all downloads and shards, all source models, all evaluations.
GROUPS = ("download=data", "shard=data", "pretrain=sources", "evaluate=measured")
QUICK = ("--slurm-init-seconds-before-status-checks", "3")
PATIENCE = 1200  # seconds for what takes a minute on an idle machine
STATES = "sacct -X -D -n -P -S now-2hours -o JobID,State,NodeList,Elapsed,Timelimit,Comment%60"


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("stopped by a signal"))
    install()
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        project = copy_of_project(Path(folder, "project"))
        with Slurm(Path(folder)) as slurm:
            nodes = slurm.run("sinfo", "-h", "-p", "PARTITION", "-o", "%D nodes with %G each")
            print(f"{slurm.run('sinfo', '--version')} is up: {nodes}", flush=True)
            return try_all(slurm, project)


def copy_of_project(folder: Path) -> Path:
    """What jobs need of this checkout, with a dataset of few digits whose runs want a GPU each."""
    folder.mkdir()
    write_project(folder, "adapt", per_class=10, epochs=12)
    for name in ("dacsm", "profiles", "workflow"):
        shutil.copytree(PROJECT / name, folder / name, dirs_exist_ok=True)
    shutil.copy(PROJECT / "Snakefile", folder)
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    params["experiments"]["few"] = {"tasks": [TASK], "methods": ["cdtrans"], "seeds": list(SEEDS)}
    params["pretrain"]["few"]["epochs"] = 2
    params["resources"]["few"] = {"memory_mb": 2000, "minutes": 20, "gpus": 1, "workers": 0}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return folder


def try_all(slurm: Slurm, project: Path) -> int:
    """Make the table, end its jobs, and check what comes of it; 1 where something does not hold."""
    checks = Checks()
    components = [f"{group}=8" for group in sorted({words.split("=")[1] for words in GROUPS})]
    snakemake = start(slurm, project, "--groups", *GROUPS, "--group-components", *components)
    runs = held_runs(slurm, project, snakemake)
    for run in runs:
        print(f"seed {run.seed}: Slurm job {run.job} on {run.node}, process {run.pid}, GPU {run.gpu}", flush=True)
        checks.that(run.gpu == allotted_gpu(slurm, run), f"job {run.job} sees the GPU that Slurm gave it: {run.gpu}")
    places = sorted((run.node, run.gpu) for run in runs)
    checks.that(len(set(places)) == len(runs), f"runs at once have different GPUs: {places}")

    lonely = next(run for run in runs if [other.node for other in runs].count(run.node) == 1)
    limited, cancelled = (run for run in runs if run is not lonely)
    slurm.run("scontrol", "update", f"jobid={limited.job}", "timelimit=1")
    slurm.run("scancel", cancelled.job)
    slurm.kill_node(lonely.node)
    print(f"job {limited.job}: a time limit of 1 minute; job {cancelled.job}: scancel; {lonely.node} dies", flush=True)
    wait_until(lambda: "NODE_FAIL" in states(slurm, lonely), f"the end of job {lonely.job}")
    slurm.start_node(lonely.node)
    printed = finish(project, snakemake)

    print(f"\n$ {STATES}\n{slurm.run(*STATES.split())}\n", flush=True)
    for run, end in ((limited, "TIMEOUT"), (cancelled, "CANCELLED"), (lonely, "NODE_FAIL")):
        checks.that(end in states(slurm, run), f"job {run.job} ended as {end}")
        log = project / f"logs/results/few/adapted/cdtrans/{TASK}/seed{run.seed}.log"
        went_on = re.search("going on after epoch .*", log.read_text(encoding="utf-8"))
        checks.that(went_on, f"its run, seed {run.seed}, was then {went_on and went_on.group()}")
    for group, count in (("data", 4), ("sources", len(SEEDS)), ("measured", len(SEEDS))):
        shared = re.findall(rf"SLURM jobid (\d+) .*/group_{group}_", printed)
        checks.that(len(shared) == 1, f"{count} short runs shared job {', '.join(shared)} ({group})")
    checks.that((project / TABLE).exists(), f"{TABLE} is there")

    slurm.daemons["slurmdbd"].kill()
    (project / TABLE).unlink()
    finish(project, start(slurm, project, "--default-resources", "slurm_partition=PARTITION", "runs=1"))
    checks.that((project / TABLE).exists(), "without accounting, Snakemake learns by squeue that its job is done")
    print(f"{checks.passed} passed, {checks.failed} failed", flush=True)
    return int(checks.failed > 0)


class Checks:
    """What must hold, told one by one and counted."""

    passed, failed = 0, 0

    def that(self, holds: object, what: str) -> None:
        print(f"{'ok' if holds else 'NOT SO'}: {what}", flush=True)
        self.passed, self.failed = self.passed + bool(holds), self.failed + (not holds)


@dataclass(frozen=True)
class Held:
    """A run that adapts, stopped after its state was saved."""

    seed: int
    pid: int
    job: str
    node: str
    gpu: str


def start(slurm: Slurm, project: Path, *arguments: str) -> subprocess.Popen:
    """Snakemake through profiles/slurm; what it prints goes to snakemake.txt."""
    command = [Path(sys.executable).with_name("snakemake"), "--workflow-profile", "profiles/slurm", *QUICK, *arguments]
    environment = slurm.environment | {"OMP_NUM_THREADS": "1", "DACSM_SAVE_EVERY": "0"}
    with (project / "snakemake.txt").open("w") as printed:
        return subprocess.Popen([*command, "--", TABLE], cwd=project, env=environment, stdout=printed, stderr=printed)


def finish(project: Path, snakemake: subprocess.Popen) -> str:
    """Wait for the end, and return what was printed; raises RuntimeError with that where Snakemake failed or hangs."""
    with suppress(subprocess.TimeoutExpired):
        snakemake.wait(timeout=PATIENCE)
    code, printed = snakemake.poll(), (project / "snakemake.txt").read_text(encoding="utf-8")
    if code != 0:
        raise RuntimeError(f"snakemake ended with {code}:\n{printed}")
    return printed


def held_runs(slurm: Slurm, project: Path, snakemake: subprocess.Popen) -> list[Held]:
    """Stop each adaptation as soon as its state was saved; by seed."""
    held: dict[int, Held] = {}

    def all_held() -> bool:
        if snakemake.poll() is not None:
            raise RuntimeError(f"snakemake ended before its runs had a state:\n{finish(project, snakemake)}")
        for seed in set(SEEDS) - set(held):
            if any(project.glob(f".resume/few-adapted-cdtrans-{TASK}-seed{seed}-*/state.pt")):
                held[seed] = hold(slurm, seed)
        return len(held) == len(SEEDS)

    wait_until(all_held, "a state of each run", seconds=PATIENCE)
    return [held[seed] for seed in SEEDS]


def hold(slurm: Slurm, seed: int) -> Held:
    """Stop the process that adapts with a seed."""
    (pid,) = processes("-m", "dacsm", "adapt", "few", "cdtrans", TASK, "--seed", str(seed), "", **slurm.mark)
    os.kill(pid, signal.SIGSTOP)
    variables = dict(word.split("=", 1) for word in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in word)
    return Held(seed, pid, *(variables[name] for name in ("SLURM_JOB_ID", "SLURMD_NODENAME", "CUDA_VISIBLE_DEVICES")))


def allotted_gpu(slurm: Slurm, run: Held) -> str:
    """The index of the GPU that Slurm's own books have for a job."""
    return re.search(r"GRES=gpu:1\(IDX:(\d+)\)", slurm.run("scontrol", "--details", "show", "job", run.job)).group(1)


def states(slurm: Slurm, run: Held) -> str:
    """All states in which a job has ended; a job that Slurm started again has more than one."""
    return slurm.run("sacct", "-X", "-D", "-n", "-o", "State", "-j", run.job)


if __name__ == "__main__":
    sys.exit(main())
