"""A trained network as a folder in the form of timm's models on the Hugging Face hub, written and read.

model.safetensors has timm's own names, and config.json says how timm builds the network, how it wants its images, what
its classes are called, and the temperature that its logits are divided by.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save
from torch import nn

from dacsm.config.params import Model
from dacsm.models.classifier import Description
from dacsm.models.weights import read_weights
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import read_json, reading, whole_file

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MADE_BY = "dacsm export"


@dataclass(frozen=True)
class Trained:
    """A network in evaluation mode from normalised images (B, C, H, W) to logits (B, K), and what it says of itself."""

    network: nn.Module
    model: Model  # how it wants its images
    classes: tuple[str, ...]
    temperature: float | None  # that logits are divided by before softmax; None: none was fitted


def hub_config(
    network: nn.Module, arguments: dict[str, Any], description: Description, temperature: float | None
) -> dict[str, Any]:
    """config.json of a network that timm builds by its name and `arguments`."""
    model, classes = description.model, description.classes
    known: dict[str, Any] = getattr(network, "pretrained_cfg", {})
    images = {
        "input_size": [model.channels, model.image_size, model.image_size],
        "fixed_input_size": "img_size" in arguments,
        "interpolation": "bilinear",
        "crop_pct": _crop(model.image_size, model.resize),
        "crop_mode": "squash",
        "mean": list(model.mean),
        "std": list(model.std),
    }
    heads = {key: known[key] for key in ("first_conv", "classifier") if known.get(key)}
    return {
        "architecture": model.name.partition(".")[0],  # what follows is the name of weights
        "num_classes": len(classes),
        "num_features": getattr(network, "num_features", None),
        "label_names": list(classes),
        "model_args": arguments,
        "pretrained_cfg": {"custom_load": False, "num_classes": len(classes), **images, **heads},
        "temperature": temperature,
    }


def write_weights(path: Path, network: nn.Module) -> None:
    """Write a network's state dict as safetensors."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    content = save(tensors, metadata={"format": "pt"})  # save_file hides that a disk is full
    with whole_file(path) as partial:
        partial.write_bytes(content)


def load_folder(folder: Path) -> Trained:
    """Read a folder that `dacsm export` wrote.

    Raises InputError where a file of it is missing, damaged, or not of the other.
    """
    path = folder / CONFIG
    config = read_json(path, MADE_BY)
    with reading(path, MADE_BY):
        images, classes = config["pretrained_cfg"], tuple(map(str, config["label_names"]))
        channels, _height, size = images["input_size"]
        model = Model(
            name=config["architecture"],
            weights="none",
            image_size=size,
            resize=math.floor(size / images["crop_pct"]),
            channels=channels,
            mean=images["mean"],
            std=images["std"],
            **dict.fromkeys(("patch_size", "dim", "depth", "heads")),
            drop_path=0,
        )
        temperature = None if config["temperature"] is None else float(config["temperature"])
        if temperature is not None and not 0 < temperature < math.inf:
            raise ValueError(f"temperature is {temperature}, expected more than 0")
        if not timm.is_model(model.name):  # nor an address, from which timm would fetch another
            raise ValueError(f"architecture is {model.name!r}, which timm does not know")
    try:
        told = {"pretrained": False, "num_classes": len(classes), "checkpoint_path": ""}  # what a file may not change
        network = timm.create_model(model.name, **told, **config["model_args"])
        network.load_state_dict(read_weights(folder / WEIGHTS))
    except (RuntimeError, TypeError, KeyError, ValueError, AssertionError) as error:  # as torch and timm refuse
        reason = " ".join(str(error).split())[:150]
        raise InputError(
            f"{folder / WEIGHTS} and {CONFIG} do not belong together ({reason}); make both again with `{MADE_BY}`."
        ) from error
    return Trained(network.eval(), model, classes, temperature)


def _crop(size: int, resize: int) -> float:
    """The fraction of the squashed image that is seen; timm finds its side by rounding size / fraction down."""
    fraction = size / resize
    return fraction if math.floor(size / fraction) == resize else math.nextafter(fraction, 0)
