"""Write workflow/published/<dataset>.csv from collected.csv: names as in our tables, a reason for what is left out.

collected.csv has one accuracy a line, as it was found, under the names of where it was found. After a change to it, run
`python workflow/published/sources/make_published.py`.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from dacsm.config.datasets import DatasetSpec, load_dataset
from dacsm.report.published import AVERAGE, FACTS, published_columns, published_header
from dacsm.runtime.files import write_csv

COLLECTED = Path(__file__).parent / "collected.csv"
ORACLE, LAST, NOT_STATED = "oracle (target labels)", "last epoch", "not stated"

DOMAINS = {
    "visda": {"synthetic(train)": "synthetic", "real(validation)": "real"},
    "office_home": {"Ar": "art", "Cl": "clipart", "Pr": "product", "Rw": "real_world"},
    "domainnet": {"clp": "clipart", "info": "infograph", "pnt": "painting", "qdr": "quickdraw", "rel": "real",
                  "skt": "sketch"},
    "office31": {"amazon": "amazon", "dslr": "dslr", "webcam": "webcam"},
}  # fmt: skip
DOMAINS["domainnet_split"] = DOMAINS["domainnet"]
CLASSES = {"plane": "aeroplane", "bcycl": "bicycle", "mcycl": "motorcycle", "sktbrd": "skateboard"}
SUMMARIES = {"mean_per_class": "mean_per_class", "overall_acc": "overall"}
DATASETS = {"VisDA-2017": "visda", "Office-Home": "office_home", "Office-31": "office31"}
METHODS = {"source-only baseline": "source-only", "ERM": "source-only", "Source Only": "source-only",
           "srconly": "source-only", "cdtrans": "CDTrans"}  # fmt: skip
NOTES = {" (TLlib)": "", " (mean of 3 seeds)": ", mean of 3 seeds"}  # of methods; the second goes to where it was found
# How each publisher chose the checkpoint: by the best accuracy on the target, or the last.
SELECTIONS = {"CDTrans/CDTrans": ORACLE, "thuml/Transfer-Learning-Library": ORACLE, "tim-learn/SHOT": LAST,
              "val-iisc/SDAT": ORACLE, "lhoyer/MIC": ORACLE, "CVPR2022 abstract": LAST}  # fmt: skip


def dataset_of(row: Mapping[str, str]) -> str | None:
    """The dataset whose protocol a collected row is of; None where no table of ours has it."""
    if row["dataset"] == "DomainNet-6dom-30task":
        return {"CDTrans/CDTrans": "domainnet", "CVPR2022 abstract": "domainnet_split"}.get(publisher_of(row))
    return DATASETS.get(row["dataset"])


def publisher_of(row: Mapping[str, str]) -> str:
    return next((name for name in SELECTIONS if row["where_found"].startswith(name)), "")


def left_out(row: Mapping[str, str]) -> str | None:
    """Why a collected row is in no table; None where it is in one."""
    method = row["method"]
    if row["dataset"] == "DomainNet-4dom-12task":
        return "another dataset: four of DomainNet's domains"
    if "rerun" in method or "(user" in method or "checkpoint eval" in method or "zero-shot" in method:
        return "told in a discussion, not published"
    if " seed 20" in method:
        return "one seed of a mean that is listed"
    if "unspecified" in row["backbone"] + row["class_or_avg"] or "printed as Accuracy" in row["where_found"]:
        return "the backbone or the measure is not stated"
    if dataset_of(row) is None:
        return "the protocol is not stated"
    if not publisher_of(row):
        return "from a page that collects numbers of others"
    return None


def column_of(dataset: str, row: Mapping[str, str]) -> str:
    """The column of the dataset's table that a collected accuracy belongs in."""
    name = row["class_or_avg"]
    if dataset == "visda":
        return SUMMARIES.get(name) or CLASSES.get(name, name)
    if name in ("task", "task_acc"):
        return f"{DOMAINS[dataset][row['source']]}-{DOMAINS[dataset][row['target']]}"
    return AVERAGE


def facts_of(spec: DatasetSpec, row: Mapping[str, str]) -> tuple[str, ...]:
    """What is said of a published row, in the order of FACTS, and its task where the table has classes."""
    method, found_in = row["method"], row["where_found"]
    for note, place in NOTES.items():
        if method.endswith(note):
            method, found_in = method.removesuffix(note), found_in + place
    method = METHODS.get(method, method)
    selection = SELECTIONS[publisher_of(row)]
    if method == "source-only" and selection == ORACLE and "CDTrans" in found_in:
        selection = NOT_STATED
    facts = {"method": method, "backbone": row["backbone"], "selection": selection, "protocol": spec.protocol,
             "found_in": found_in}  # fmt: skip
    domains = DOMAINS[spec.name]
    task = (f"{domains[row['source']]}-{domains[row['target']]}",) if spec.table_form == "classes" else ()
    return (*(facts[name] for name in FACTS), *task)


def published_rows(spec: DatasetSpec, collected: Sequence[Mapping[str, str]]) -> Iterator[list[str]]:
    """The rows of a dataset's file, in the order in which they were collected."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for row in collected:
        if left_out(row) is None and dataset_of(row) == spec.name:
            rows.setdefault(facts_of(spec, row), {})[column_of(spec.name, row)] = row["accuracy"]
    for facts, values in rows.items():
        yield [*facts, *(values.get(column, "") for column in published_columns(spec))]


def read_collected() -> list[dict[str, str]]:
    with COLLECTED.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    for name in DOMAINS:
        spec = load_dataset(name)
        write_csv(COLLECTED.parents[1] / f"{name}.csv", published_header(spec), published_rows(spec, read_collected()))
