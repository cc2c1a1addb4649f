"""One thing that an audit found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dacsm.ledger.pipeline import STAGES
from dacsm.ledger.runs import Run

Kind = Literal["missing", "record", "output", "input", "settings", "code", "data", "numbers"]


@dataclass(frozen=True)
class Finding:
    """`result` is the path of what is in doubt; `text` says what was found, what was expected, and what to do."""

    result: str
    kind: Kind
    text: str


def missing(path: Path, run: Run) -> Finding:
    """A file of a run is not there. Where its folders are not either, the uppermost of them is said to be missing.

    So a clone without data gets one finding a phase, and not one a file.
    """
    while not path.parent.exists():
        path = path.parent
    return Finding(str(path), "missing", f"is not here; bring it with `dvc pull`, or make it with `{made_by(run)}`.")


def made_by(run: Run) -> str:
    """The command that makes what is missing of a run's phase: plain `snakemake` looks at the tables alone."""
    dataset = run.arguments.get("dataset")
    target = f"{dataset}_{STAGES[run.stage].phase}" if dataset else run.outputs[0]
    return f"snakemake --cores all {target}"
