"""Reading epochs.npz, what an adaptation wrote about its epochs: predictions and scores, no labels."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dacsm.runtime.errors import InputError


@dataclass(frozen=True)
class Epochs:
    """What an adaptation wrote about its E epochs, on N target images, with V validators; no labels among it."""

    predicted: np.ndarray  # (E, N) class after each epoch
    pseudo_labels: np.ndarray  # (E, N) class in use during each epoch
    validators: tuple[str, ...]  # (V,)
    scores: np.ndarray  # (E, V) higher is better; NaN where a validator has none
    selected: int  # the selected epoch, counted from 1
    validator: str  # the validator that selected it


def read_epochs(path: Path, made_by: str, images: int, classes: int) -> Epochs:
    """Read epochs.npz of an adaptation onto `images` target images of `classes` classes.

    Raises:
        InputError: where it is missing, unreadable, or made for other images or classes.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            epochs = Epochs(
                predicted=file["predicted"],
                pseudo_labels=file["pseudo_labels"],
                validators=tuple(str(name) for name in file["validators"]),
                scores=file["scores"],
                selected=int(file["selected"]),
                validator=str(file["validator"]),
            )
    except FileNotFoundError as error:
        raise InputError(f"{path} was not found; make it with `{made_by}`.") from error
    except (OSError, ValueError, TypeError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}); make it again with `{made_by}`.") from error

    count = len(epochs.predicted) if epochs.predicted.ndim else 0
    shapes = {
        "predicted": (count, images),
        "pseudo_labels": (count, images),
        "scores": (count, len(epochs.validators)),
    }
    for name, expected in shapes.items():
        found = getattr(epochs, name).shape
        if found != expected:
            raise InputError(f"{path}: {name} has shape {found}, expected {expected}; make it again with `{made_by}`.")
    if not 1 <= epochs.selected <= count:
        raise InputError(
            f"{path}: selected is epoch {epochs.selected}, expected one of 1 to {count}; "
            f"make it again with `{made_by}`."
        )
    if epochs.predicted.size and not 0 <= epochs.predicted.min() <= epochs.predicted.max() < classes:
        raise InputError(
            f"{path}: predicted has class numbers from {epochs.predicted.min()} to {epochs.predicted.max()}, expected "
            f"0 to {classes - 1}; make it again with `{made_by}`."
        )
    return epochs
