"""The noise of an adaptation on disk, as it was after the last epoch: noise.safetensors, beside the checkpoints."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from dacsm.errors import InputError
from dacsm.models.classifier import Classifier
from dacsm.models.noise import BeneficialNoise
from dacsm.params import Method

NAME = "noise.safetensors"


def load_noise(
    path: Path, classifier: Classifier, method: Method, generator: torch.Generator, made_by: str
) -> BeneficialNoise | None:
    """The noise that a method was adapted with, as it was at its end; None for one without noise.

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
