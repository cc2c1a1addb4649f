"""One thing that an audit found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["missing", "record", "output", "input", "settings", "code", "data", "numbers"]


@dataclass(frozen=True)
class Finding:
    """`result` is the path of what is in doubt; `text` says what was found, what was expected, and what to do."""

    result: str
    kind: Kind
    text: str


def missing(path: Path) -> Finding:
    """A file is not there; where its folders are not there either, the uppermost of them is what is said to be missing.

    So a clone without data gets one finding a phase, and not one a file.
    """
    while not path.parent.exists():
        path = path.parent
    return Finding(str(path), "missing", "is not here; bring it with `dvc pull`, or make it with `snakemake`.")
