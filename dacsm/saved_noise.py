"""The noise of an adaptation on disk: noise.safetensors, beside the checkpoint of the same epoch."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from dacsm.errors import InputError
from dacsm.files import whole_file
from dacsm.models.classifier import Classifier
from dacsm.models.noise import BeneficialNoise
from dacsm.params import Method

NAME = "noise.safetensors"


def save_noise(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write the state of a `BeneficialNoise`; of a method that has none, an empty one."""
    content = save({key: value.detach().cpu().contiguous() for key, value in state.items()})
    with whole_file(path) as partial:
        partial.write_bytes(content)


def load_noise(
    path: Path, classifier: Classifier, method: Method, generator: torch.Generator, made_by: str
) -> BeneficialNoise | None:
    """The noise that a method was adapted with, as it was at the epoch of the checkpoint; None for one without noise.

    Draws come from `generator`, whose device is that of the classifier.

    Raises:
        InputError: where the file is missing, damaged, or of another method or backbone.
    """
    if not (method.style.weight or method.noise.weight):
        return None
    noise = BeneficialNoise(classifier, method, generator)
    if not path.is_file():
        raise InputError(f"{path} was not found; make it with `{made_by}`.")
    try:
        noise.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:  # torch names what does not fit on several lines
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is not the noise of this method ({reason}); make it with `{made_by}`.") from error
    return noise.to(generator.device)
