"""How long `snakemake -n` takes for 2,365 jobs, beside bare rules of the same graph: `python -m benchmarks.dry_run`.

The jobs are those of DomainNet's 30 tasks with 15 seeds. The bare rules have patterns for inputs, constants for all
else and a short command, so that their time is Snakemake's own. The two run in turn, and processor time counts, so that
other programs matter less.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.report import spread

SEEDS = 15
BARE = """
DOMAINS = ["clipart", "infograph", "painting", "quickdraw", "real", "sketch"]
TASKS = [f"{source}-{target}" for source in DOMAINS for target in DOMAINS if source != target]
METHODS = ["source_only", "cdtrans", "dacsm"]
RULES = {
    "table": (
        [f"evaluated/{t}/{m}/seed{s}/metrics.json" for t in TASKS for m in METHODS for s in range(SEEDS)], "table.csv"
    ),
    "download": ([], "raw/{archive}.json"),
    "shard": ([f"raw/{{domain}}_{part}.json" for part in "abc"], "shards/{domain}/index.json"),
    "pretrain": (["shards/{source}/index.json"], "pretrained/{source}/seed{seed}/index.json"),
    "adapt": (
        ["pretrained/{source}/seed{seed}/index.json", "shards/{source}/index.json", "shards/{target}/index.json"],
        "adapted/{source}-{target}/{method}/seed{seed}/index.json",
    ),
    "evaluate": (
        ["adapted/{source}-{target}/{method}/seed{seed}/index.json", "shards/{target}/index.json"],
        "evaluated/{source}-{target}/{method}/seed{seed}/metrics.json",
    ),
    "evaluate_source_only": (
        ["pretrained/{source}/seed{seed}/index.json", "shards/{target}/index.json"],
        "evaluated/{source}-{target}/source_only/seed{seed}/metrics.json",
    ),
}
for name, (needed, made) in RULES.items():
    rule:
        name: name
        input: needed
        output: made
        message: "{rule}: {wildcards}"
        shell: "python -m dacsm {rule} {wildcards}"
ruleorder: evaluate_source_only > evaluate
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dry_run", description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=5, help="how often each runs")
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as folder:
        bare, settings = Path(folder, "Snakefile"), Path(folder, "settings.yaml")
        bare.write_text(f"SEEDS = {SEEDS}\n{BARE}")
        settings.write_text(yaml.safe_dump({"root": folder, "experiments": {"domainnet": {"seeds": [*range(SEEDS)]}}}))
        commands: dict[str, list[str | Path]] = {
            "this pipeline": [f"{folder}/results/domainnet_table.csv", "--configfile", settings],
            "bare rules": ["--snakefile", bare, "--directory", folder, "table.csv"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        jobs = {}
        for _ in range(times):
            for name, command in commands.items():
                took, jobs[name] = _dry_run(command)
                seconds[name].append(took)
    if len(set(jobs.values())) > 1:
        sys.exit(f"the two have other jobs, {jobs}: mend the bare rules")
    for name, took in seconds.items():
        print(f"{name:<14} {jobs[name]} jobs: {spread(took)}")
    ratio = statistics.median(ours / theirs for ours, theirs in zip(*seconds.values(), strict=True))
    print(f"this pipeline over bare rules: {ratio:.2f}")


def _dry_run(command: list[str | Path]) -> tuple[float, int]:
    """Processor seconds of a dry run, and how many jobs it has."""
    program = [sys.executable, "-m", "snakemake", "--dry-run", *command]
    before = os.times()
    result = subprocess.run(program, capture_output=True, text=True)
    after = os.times()
    total = re.search(r"^total +(\d+)$", result.stdout, re.MULTILINE)
    if result.returncode or not total:
        sys.exit(f"{' '.join(map(str, program))} failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    took = after.children_user - before.children_user + after.children_system - before.children_system
    return took, int(total[1])


if __name__ == "__main__":
    main()
