"""Classify pictures of the user's own with any checkpoint: single files, or all in a folder and below."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dacsm.config.params import Model
from dacsm.data.encoding import eight_bits
from dacsm.data.transforms import centre_view, normalise
from dacsm.models.classifier import Classifier, load_checkpoint
from dacsm.runtime.device import Compute
from dacsm.runtime.errors import InputError, printable

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
BATCH = 64


@dataclass(frozen=True)
class Classified:
    """A picture's most probable classes, with their probabilities, best first; or why it could not be read."""

    path: Path
    classes: tuple[tuple[str, float], ...] = ()
    problem: str | None = None


def classify(checkpoint: Path, paths: Sequence[Path], top: int, compute: Compute) -> Iterator[Classified]:
    """The `top` classes of each picture, in the order of `paths`, a folder's sorted by name; read as they are needed.

    Raises InputError where the checkpoint cannot be used, a path is not there, or a folder has no pictures.
    """
    files = pictures(paths)
    try:
        classifier = load_checkpoint(checkpoint)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:  # what it says of itself is not true
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{checkpoint} is no checkpoint of dacsm ({reason}); name another.") from error
    classifier.to(compute.device)
    views = Views(files, classifier.description.model)
    loader = DataLoader(views, BATCH, num_workers=compute.workers, collate_fn=list)  # memory for one batch a worker
    waiting = iter(files)
    for batch in loader:
        best = iter(_best(classifier, [view for view in batch if isinstance(view, Tensor)], top, compute))
        for view in batch:
            path = next(waiting)
            yield Classified(path, problem=view) if isinstance(view, str) else Classified(path, next(best))


@torch.inference_mode()
def _best(
    classifier: Classifier, views: list[Tensor], top: int, compute: Compute
) -> list[tuple[tuple[str, float], ...]]:
    """The most probable classes of each view (C, H, W), with their probabilities."""
    if not views:
        return []
    model, classes = classifier.description.model, classifier.description.classes
    logits = classifier(normalise(torch.stack(views).to(compute.device), model))
    probabilities, indices = logits.softmax(dim=1).topk(min(top, len(classes)))  # (B, top)
    return [
        tuple((classes[index], probability) for index, probability in zip(*row, strict=True))
        for row in zip(indices.tolist(), probabilities.tolist(), strict=True)
    ]


def pictures(paths: Sequence[Path]) -> list[Path]:
    """The files among `paths`, and the pictures, by suffix, in the folders among them and below.

    Raises InputError for a path that is not there, or a folder without pictures.
    """

    def unreadable(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}; leave it out, or allow reading it.")

    found = []
    for path in paths:
        if path.is_dir():
            inside = []
            for place, folders, names in os.walk(path, onerror=unreadable):
                folders[:] = [name for name in folders if not name.startswith(".")]
                shown = (Path(place, name) for name in names if not name.startswith("."))
                inside += [file for file in shown if file.suffix.lower() in SUFFIXES]
            if not inside:
                raise InputError(f"{path} has no pictures ({', '.join(sorted(SUFFIXES))}); name another folder.")
            found += sorted(inside)
        elif path.is_file():
            found.append(path)
        elif path.exists():
            raise InputError(f"{path} is neither a file nor a folder; name a picture, or a folder of pictures.")
        else:
            raise InputError(f"{path} was not found; name a picture, or a folder of pictures.")
    return found


class Views(Dataset):
    """The centre view (C, H, W) of each picture, uint8; or, as text, why it cannot be read."""

    def __init__(self, files: Sequence[Path], model: Model):
        self.files, self.model = files, model

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor | str:
        try:
            with Image.open(self.files[index]) as image:
                return centre_view(eight_bits(image, self.model.channels), self.model)
        except Exception as error:  # Pillow raises whatever its decoders do
            return " ".join(str(error).split()) or type(error).__name__


def print_classified(results: Iterator[Classified], as_json: bool) -> None:
    """Print each picture's path and classes; raises InputError at the end, where some could not be read."""
    seen = unreadable = 0
    for result in results:
        seen += 1
        path = printable(str(result.path))  # so that a line stays a line
        if result.problem is not None:
            unreadable += 1
            print(f"dacsm: {path} cannot be read ({result.problem}) and is left out.", file=sys.stderr)
        elif as_json:
            best = [{"class": name, "probability": round(chance, 6)} for name, chance in result.classes]
            print(json.dumps({"path": str(result.path), "classes": best}, ensure_ascii=False))
        else:
            columns = [f"{name}\t{chance:.4f}" for name, chance in result.classes]
            print("\t".join([path, *columns]))
    if unreadable:
        raise InputError(f"{unreadable} of {seen} pictures could not be read, as said above; mend or leave them out.")
