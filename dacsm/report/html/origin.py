"""What the runs took, and what they were made from, as their run records say."""

from collections.abc import Iterator
from pathlib import Path

from dacsm.config import PARAMS_FILE
from dacsm.config.project import Project
from dacsm.report.costs import costs
from dacsm.report.html.content import Commands, Facts, Part
from dacsm.report.measured import Evaluated, Runs
from dacsm.report.records import Grouped, data_of, duration, made_from, memory_of, most_memory
from dacsm.report.tables import Table, distinct
from dacsm.report.unlabelled import CONFIDENCE

NO_RECORDS = "The runs left no run records here, so that this is not known."
HEADS = {
    "method": "method",
    "accuracy": "accuracy (%)",
    "accuracy_std": "±",
    "training_seconds": "training",
    "of_cdtrans": "of cdtrans' time",
    "images_per_second": "images/s",
    "ram_mib": "memory (MiB)",
    "gpu_mib": "GPU memory (MiB)",
}


def cost_section(runs: Evaluated, records: Grouped) -> Iterator[Part]:
    """Time and memory of each method, and of each stage."""
    if not records:
        yield NO_RECORDS
        return
    trained = [row for row in costs(runs, records) if row["runs"] != "0"]
    heads = {name: head for name, head in HEADS.items() if any(row.get(name) for row in trained)}
    if trained:
        accuracy = f"accuracy is {runs.measure}, " if isinstance(runs, Runs) else ""
        yield f"Adaptation: {accuracy}time the mean over runs, memory the most of any."
        cells = [row | {"training_seconds": duration(float(row["training_seconds"]))} for row in trained]
        yield Table("", list(heads.values()), [[row.get(name) or "–" for name in heads] for row in cells])
    stages = []
    for (stage, method), of in records.items():
        seconds = [record["seconds"] for record in of]
        name = f"{stage} {method}".strip()
        stages.append([name, str(len(of)), duration(sum(seconds)), duration(max(seconds)), memory_of(most_memory(of))])
    yield "All runs, by stage:"
    yield Table("", ["stage", "runs", "time in all", "longest run", "most memory"], stages)
    yield (
        "Clocks differ from one repetition to the next, and runs that shared a machine with others took longer than "
        "they need."
    )


def origin_section(runs: Evaluated, records: Grouped, project: Project) -> Iterator[Part]:
    """Hashes of settings, code and data, packages, processors, and the commands to make it again."""
    name = runs.experiment.name
    if records:
        yield from _made_from(records)
    else:
        yield NO_RECORDS
    yield "To make all of this again, to check it, and to see what one number rests on:"
    of_task = runs.dataset.headline if isinstance(runs, Runs) else CONFIDENCE
    one_task = runs.dataset.table_form == "classes" and len(runs.experiment.tasks) == 1
    task = "" if one_task else f" --task {runs.experiment.tasks[0]}"
    cell = f"{runs.experiment.methods[-1]} {of_task}{task}"
    other = project.file != PARAMS_FILE
    configfile, params = (f" {option} {project.file}" * other for option in ("--configfile", "--params"))
    yield Commands([
        f"snakemake --cores all{configfile} -- {project.paths.report(name)}",
        f"dacsm audit {name}{params}",
        f"dacsm cell {name} {cell}{params}",
    ])  # fmt: skip


def _made_from(records: Grouped) -> Iterator[Part]:
    rows = [[f"{stage} {method}".strip(), *made_from(of)] for (stage, method), of in records.items()]
    yield "Short hashes of what the runs were made from; the run records have them whole, with every file and setting."
    yield Table("", ["runs", "settings", "code", "git"], rows, names=4)
    every = [record for of in records.values() for record in of]
    data = [f"{Path(path).parent.name}: `{sha256}`" for path, sha256 in sorted(data_of(every).items())]
    names = dict.fromkeys(name for record in every for name in record["versions"])
    packages = [f"{name} {distinct(str(record['versions'].get(name)) for record in every)}" for name in names]
    devices = list(dict.fromkeys(record["device"] for record in every))
    yield Facts([
        ("Data, by the hash of its index", data),
        ("Processor", devices),
        ("Packages", [", ".join(packages)]),
    ])  # fmt: skip
