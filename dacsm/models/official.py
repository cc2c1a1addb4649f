"""Checkpoints of the public CDTrans program, as classifiers of ours.

There the backbone is called `base`, the BN neck `bottleneck` and the head `classifier`. Source-only and adapted models
have the same names.
"""

import sys
from collections import Counter
from collections.abc import Mapping
from math import isqrt
from pathlib import Path

import timm
import torch
from torch import Tensor

from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Model
from dacsm.config.validation import validate
from dacsm.models.classifier import Classifier, Description, save_checkpoint
from dacsm.models.plain_vit import is_plain
from dacsm.models.weights import first_of, misfits, read_weights
from dacsm.runtime.errors import InputError

NAMES = {"backbone": "base", "neck": "bottleneck", "head": "classifier"}  # ours and theirs
UNUSED = "base.fc."  # a layer that CDTrans builds and never uses
BY_WIDTH = {192: "deit_tiny_patch16_224", 384: "deit_small_patch16_224", 768: "deit_base_patch16_224"}
SHORT = {"small": BY_WIDTH[384], "base": BY_WIDTH[768]}
HEAD_WIDTH = 64  # of every DeiT
DROP_PATH = 0.1  # CDTrans' own, in both stages
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def read_official(path: Path) -> dict[str, Tensor]:
    """The tensors of a CDTrans checkpoint by their official names, without the layer that it never uses.

    Raises InputError where the file cannot be read safely, or is not a checkpoint of CDTrans.
    """
    state = read_weights(path)
    if not any(key.partition(".")[0] in NAMES.values() for key in state):
        if "cls_token" in state or "patch_embed.proj.weight" in state:
            raise InputError(
                f"{path} is a backbone alone, as those of DeiT are, without the neck and head of CDTrans; name it as "
                "model.weights of the dataset's pretrain settings in params.yaml, and pretrain from it."
            )
        some = ", ".join(list(state)[:3]) or "nothing"
        raise InputError(
            f"{path} holds {some}, expected the tensors of CDTrans (base.…, bottleneck.…, classifier.…); give another."
        )
    return {key: value for key, value in state.items() if not key.startswith(UNUSED)}


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
    Raises InputError where the file cannot be read, is not a checkpoint of CDTrans, or does not fit.
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
    found = misfits(state, _wanted(description))
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

    Raises InputError where the file cannot be read, or does not name each class once.
    """
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}), expected a class name a line; name another.") from error
    if not names or "" in names or len(set(names)) != len(names):
        raise InputError(f"{path} has an empty line, or a class twice, expected each class name on a line; correct it.")
    return names


def describe(
    state: Mapping[str, Tensor],
    *,
    model: str | None = None,
    heads: int | None = None,
    classes: tuple[str, ...] | None = None,
    recipe: Model | None = None,
    drop_path: float = DROP_PATH,
    name: str = "the state dict",
) -> Description:
    """How to build the network of an official state dict: sizes from its tensors, the rest from the arguments.

    Raises InputError where model or heads do not go with the tensors, or they do not tell what is needed.

    Args:
        state: tensors by official name.
        model: `small`, `base` or a timm name; without it, the DeiT of that width.
        heads: attention heads, which no tensor tells; without it those of `model`, or one for each 64 channels.
        classes: their names in the order of the labels; without them they are numbered.
        recipe: the dataset's own settings, whose views (resize, mean, std) are taken where the image size is the same;
            without it, CDTrans' own.
        drop_path: rate at the last block, of which the file says nothing.
        name: of the file, for messages.
    """
    # The width that most norms have, so that one wrong tensor does not mislead.
    widths = Counter(len(value) for key, value in state.items() if "norm" in key and value.ndim == 1)
    width = widths.most_common(1)[0][0] if widths else 384
    depth = len({key.split(".")[2] for key in state if key.startswith("base.blocks.")}) or 12
    channels, patch, image_size = _image(state)
    timm_name = SHORT.get(model or "", model) or BY_WIDTH.get(width, "vit_tiny_patch16_224")
    if model is not None:
        named_width, named_heads = _named(timm_name)
        if named_width != width:
            raise InputError(
                f"{name} is {width} channels wide, but --model {model} is {named_width}; "
                "name the model that it is, or leave --model out."
            )
        heads = heads or named_heads
    if heads is None and width % HEAD_WIDTH:
        raise InputError(
            f"{name} is {width} channels wide, which is no multiple of {HEAD_WIDTH}, so that the number of attention "
            "heads cannot be told; name it with --heads."
        )
    heads = heads or width // HEAD_WIDTH
    if width % heads:
        raise InputError(f"{name} is {width} channels wide, which is no multiple of {heads} heads; correct --heads.")
    shape = {"patch_size": patch, "dim": width, "depth": depth, "heads": heads, "drop_path": drop_path}
    images = {"image_size": image_size, "channels": channels, **_views(recipe, image_size, channels, name)}
    described = validate(Model, {"name": timm_name, "weights": "none", **shape, **images}, name)
    head = state.get("classifier.weight", torch.empty(0)).shape
    return Description(described, classes or tuple(map(str, range(head[0] if len(head) == 2 else 2))))


def _wanted(description: Description) -> dict[str, Tensor]:
    """The tensors that a network would have under official names; nothing is allocated for them."""
    with torch.device("meta"):
        return {official_name(key): value for key, value in Classifier(description).state_dict().items()}


def to_classifier(state: Mapping[str, Tensor], description: Description) -> Classifier:
    """A classifier of ours, in evaluation mode, with the weights of an official state dict.

    Raises InputError where a tensor is missing, unexpected, of another shape, or not finite.
    """
    used = {key: value for key, value in state.items() if not key.startswith(UNUSED)}
    if found := misfits(used, _wanted(description)):
        raise InputError(f"the state dict does not fit {description.model.name}: {first_of(found)}; give a whole one.")
    classifier = Classifier(description)
    classifier.load_state_dict({key: state[official_name(key)] for key in classifier.state_dict()})
    return classifier.eval()


def official_name(name: str) -> str:
    """A tensor's name in CDTrans, from ours."""
    part, rest = name.split(".", 1)
    return f"{NAMES[part]}.{rest}"


def _image(state: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Channels, patch size and image size; those of DeiT where the tensors do not tell, so that they do not fit."""
    kernel = state.get("base.patch_embed.proj.weight", torch.empty(0)).shape
    channels, patch = (kernel[1], kernel[3]) if len(kernel) == 4 and kernel[1] in (1, 3) and kernel[3] else (3, 16)
    positions = state.get("base.pos_embed", torch.empty(0)).shape
    patches = positions[1] - 1 if len(positions) == 3 else 0
    side = isqrt(max(patches, 0))
    return channels, patch, side * patch if side and side * side == patches else 14 * patch


def _named(name: str) -> tuple[int, int]:
    """Width and heads of a timm model."""
    if not timm.is_model(name):
        raise InputError(f"--model is {name!r}, which timm does not know; name small, base or a timm model.")
    try:
        with torch.device("meta"):
            backbone = timm.create_model(name)
    except Exception:  # some networks cannot be built without values, and a Vision Transformer can
        backbone = None
    if not is_plain(backbone):
        raise InputError(
            f"--model is {name!r}, which is not a plain Vision Transformer; name small, base, or a timm one."
        )
    return backbone.embed_dim, backbone.blocks[0].attn.num_heads


def _views(recipe: Model | None, image_size: int, channels: int, name: str) -> dict[str, object]:
    """Resize, mean and deviation: the recipe's where it goes with the network, else those of CDTrans."""
    if recipe is not None and (recipe.image_size, recipe.channels) == (image_size, channels):
        return {"resize": recipe.resize, "mean": recipe.mean, "std": recipe.std}
    if channels != 3:
        raise InputError(
            f"{name} takes images of 1 channel, whose mean and deviation it does not tell; name with --dataset one "
            f"whose pretrain settings in params.yaml have channels 1 and image_size {image_size}."
        )
    return {"resize": 256 if image_size == 224 else image_size, **IMAGENET}
