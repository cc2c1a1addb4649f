"""Reading epochs.npz, what an adaptation wrote about its epochs: predictions and outputs, no labels."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from dacsm.runtime.errors import InputError
from dacsm.runtime.files import reading


@dataclass(frozen=True)
class Epochs:
    """What an adaptation wrote about its E epochs, on N target images of K classes; no labels among it.

    Logits and features are of a sample of the images, as dacsm/evaluation/outputs.py draws it.
    """

    predicted: np.ndarray  # (E, N) class after each epoch
    pseudo_labels: np.ndarray  # (E, N) class in use during each epoch; -1 for a method without
    logits: np.ndarray  # (E, M, K) float16
    features: np.ndarray  # (E, F, D) float16, of the first F images of the sample
    source_accuracy: np.ndarray  # (E,) on held-out source images; NaN without any
    kept: int  # the epoch, counted from 1, whose weights model.safetensors has


def read_epochs(path: Path, made_by: str, images: int, classes: int) -> Epochs:
    """Read epochs.npz of an adaptation onto `images` target images of `classes` classes.

    Raises InputError where it is missing, unreadable, or made for other images or classes.
    """
    again = f"make it again with `{made_by}`."
    with reading(path, made_by), np.load(path, allow_pickle=False) as file:
        arrays = {field.name: file[field.name] for field in fields(Epochs)}
        epochs = Epochs(**arrays | {"kept": int(arrays["kept"])})
    count = len(epochs.predicted) if epochs.predicted.ndim else 0
    shapes = {  # None is any number
        "predicted": (count, images),
        "pseudo_labels": (count, images),
        "logits": (count, None, classes),
        "features": (count, None, None),
        "source_accuracy": (count,),
    }
    for name, expected in shapes.items():
        found = getattr(epochs, name).shape
        sizes = [size if wanted is None else wanted for size, wanted in zip(found, expected, strict=False)]
        if tuple(sizes) != found or len(found) != len(expected):
            shown = str(expected).replace("None", "any")
            raise InputError(f"{path}: {name} has shape {found}, expected {shown}; {again}")
    if not 1 <= epochs.kept <= count:
        raise InputError(f"{path}: kept is epoch {epochs.kept}, expected one of 1 to {count}; {again}")
    if epochs.predicted.size and not 0 <= epochs.predicted.min() <= epochs.predicted.max() < classes:
        raise InputError(
            f"{path}: predicted has class indices from {epochs.predicted.min()} to {epochs.predicted.max()}, expected "
            f"0 to {classes - 1}; {again}"
        )
    return epochs
