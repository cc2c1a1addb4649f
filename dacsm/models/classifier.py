"""The classifier of CDTrans, with a backbone of any kind, a BN neck and a linear head, and its checkpoint file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dacsm.config.params import Model
from dacsm.config.validation import validate
from dacsm.models.backbone import build_backbone, feature_width
from dacsm.models.plain_vit import embed, is_plain, plain_block
from dacsm.runtime.errors import InputError
from dacsm.runtime.files import whole_file
from dacsm.runtime.processes import count
from dacsm.runtime.together import gathered

OF_METHOD = "method."  # what names of tensors begin with that are not of the classifier


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of itself: how to build it, and what its outputs mean."""

    model: Model
    classes: tuple[str, ...]


class Classifier(nn.Module):
    """A backbone's vector of an image, through a BatchNorm neck without bias, to a linear head without bias.

    The vector is the class token of a plain Vision Transformer, and of any other network what timm pools. Images are
    (B, C, H, W), normalised; features are (B, D), after the neck; logits are (B, K).
    """

    def __init__(self, description: Description):
        super().__init__()
        self.description = description
        self.backbone = build_backbone(description.model)
        self.plain = is_plain(self.backbone)
        self.width = feature_width(self.backbone, description.model)  # D
        self.neck = nn.BatchNorm1d(self.width)
        self.neck.bias.requires_grad_(False)  # frozen at 0, as in CDTrans
        self.head = nn.Linear(self.width, len(description.classes), bias=False)
        nn.init.normal_(self.head.weight, std=0.001)

    def class_token(self, images: Tensor) -> Tensor:
        """Of a plain Vision Transformer: the class token after the final norm, (B, C, H, W) to (B, D).

        The last block makes no other token. Where processes have parts of a batch, tokens of all of it come out.
        """
        tokens = embed(self.backbone, images)
        *blocks, last = self.backbone.blocks
        for block in blocks:
            tokens = plain_block(block, tokens)
        return gathered(self.backbone.norm(plain_block(last, tokens, wanted=1))[:, 0].float())

    def features(self, images: Tensor) -> Tensor:
        """What pseudo labels and pairs are made from: (B, C, H, W) to (B, D)."""
        vector = self.class_token(images) if self.plain else self.backbone(images)
        return self.neck(vector.float())

    def forward(self, images: Tensor) -> Tensor:
        """Logits, in float32: (B, C, H, W) to (B, K)."""
        return self.classify(self.features(images))

    def classify(self, features: Tensor) -> Tensor:
        """Head on features (B, D), in float32 whatever the precision of the rest."""
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.float())


def require_parts(classifier: Classifier) -> None:
    """Raise InputError where several processes make a run, but cannot each train the network on a part of a batch."""
    if count() > 1 and not classifier.plain:
        raise InputError(
            f"{count()} processes make this run, but {classifier.description.model.name} is no plain Vision "
            "Transformer, which alone they can train together; set its dataset's gpus under resources to 1."
        )


def save_checkpoint(
    path: Path, description: Description, state: Mapping[str, Tensor], of_method: Mapping[str, Tensor] | None = None
) -> None:
    """Write a classifier's state as safetensors, its description beside it in the file's header.

    `of_method` are tensors of an adaptation besides the classifier; their names get the prefix `method.`.
    """
    header = {"model": description.model.model_dump_json(), "classes": json.dumps(description.classes)}
    whole = {**state, **{f"{OF_METHOD}{key}": value for key, value in (of_method or {}).items()}}
    tensors = {key: value.detach().cpu().contiguous() for key, value in whole.items()}
    content = save(tensors, metadata={"dacsm": json.dumps(header)})  # save_file hides that a disk is full
    with whole_file(path) as partial:
        partial.write_bytes(content)


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> Classifier:
    """Read a checkpoint of `save_checkpoint` into a classifier in evaluation mode; what is of the method is left out.

    Raises:
        InputError: where the file is missing, damaged, or not one of ours.
    """
    description, state = _read(path)
    classifier = Classifier(description)
    classifier.load_state_dict({key: value for key, value in state.items() if not key.startswith(OF_METHOD)})
    return classifier.eval().to(device)


def load_method_tensors(path: Path) -> dict[str, Tensor]:
    """What a checkpoint has of its adaptation's method besides the classifier, by name; raises as `load_checkpoint`."""
    _description, state = _read(path)
    return {key.removeprefix(OF_METHOD): value for key, value in state.items() if key.startswith(OF_METHOD)}


def _read(path: Path) -> tuple[Description, dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(f"{path} was not found; make it with `snakemake {path}`.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as a checkpoint ({error}); remove it and make it again.") from error
    if "dacsm" not in metadata:
        raise InputError(f"{path} is not a checkpoint of dacsm, as its header says nothing of a model; name another.")
    header = json.loads(metadata["dacsm"])
    return Description(validate(Model, json.loads(header["model"]), path), tuple(json.loads(header["classes"]))), state
