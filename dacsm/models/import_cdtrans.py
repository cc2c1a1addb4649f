"""Make a checkpoint of ours from one that the public CDTrans program wrote."""

import sys
from pathlib import Path

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Model
from dacsm.models.classifier import Description, save_checkpoint
from dacsm.models.official import describe, misfits, read_official, to_classifier
from dacsm.runtime.errors import InputError


def import_cdtrans(
    path: Path,
    out: Path,
    *,
    dataset: DatasetSpec | None = None,
    model: str | None = None,
    heads: int | None = None,
    classes: tuple[str, ...] | None = None,
    recipe: Model | None = None,
) -> Description:
    """Write a CDTrans checkpoint as one of ours; every tensor that does not fit is named on stderr first.

    Classes are the dataset's, unless given; the rest is as in `describe`. Nothing is written unless everything fits.

    Raises:
        InputError: where the file cannot be read, is not a checkpoint of CDTrans, or does not fit.
    """
    state = read_official(path)
    if dataset is not None:
        classes = classes or dataset.classes
    description = describe(state, model=model, heads=heads, classes=classes, recipe=recipe, name=str(path))
    channels = description.model.channels
    if dataset is not None and channels != dataset.channels:
        raise InputError(
            f"{path} takes images of {channels} channels, but those of {dataset.name} have {dataset.channels}; "
            "name the --dataset that it was trained on."
        )
    found = misfits(state, description)
    for line in found:
        print(f"{path}: {line}", file=sys.stderr)
    if found:
        raise InputError(
            f"{path} does not fit {description.model.name} of {len(description.classes)} classes in {len(found)} "
            f"tensor{'s' * (len(found) > 1)}, named above, so that nothing was written; "
            "give a whole checkpoint, and the --model and --dataset that it is of."
        )
    save_checkpoint(out, description, to_classifier(state, description).state_dict())
    return description


def class_names(path: Path) -> tuple[str, ...]:
    """The names of classes in a text file, a line each, in the order of the labels.

    Raises:
        InputError: where the file cannot be read, or does not name each class once.
    """
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}), expected a class name a line; name another.") from error
    if not names or "" in names or len(set(names)) != len(names):
        raise InputError(f"{path} has an empty line, or a class twice, expected each class name on a line; correct it.")
    return names
