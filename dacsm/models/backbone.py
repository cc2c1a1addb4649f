"""A network from timm that gives one vector of features an image, and the pretrained weights that it may start from."""

import re
from difflib import get_close_matches
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from dacsm.config.params import Model
from dacsm.models.plain_vit import is_plain, resize_position
from dacsm.models.weights import first_of, misfits, read_weights
from dacsm.runtime.errors import InputError

# Settings of a plain Vision Transformer's shape, and timm's names for them.
SHAPE = {"patch_size": "patch_size", "dim": "embed_dim", "depth": "depth", "heads": "num_heads"}
DISTILLED = ("dist_token", "head_dist.")  # what a distilled DeiT has besides a plain one


def build_backbone(config: Model) -> nn.Module:
    """A timm network without its classification head; a shape in `config` replaces what the name says.

    Raises InputError for a name that timm does not know, for settings that the network cannot take, or for a shape of a
    network other than a plain Vision Transformer.
    """
    if not timm.is_model(config.name):
        close = get_close_matches(config.name, timm.list_models(), n=3) or ["deit_small_patch16_224", "resnet50"]
        hint = f"name one such as {', '.join(close)}"
        raise InputError(f"params.yaml: model.name is {config.name!r}, which timm does not know; {hint}.")
    shape = {key: value for key in SHAPE if (value := getattr(config, key)) is not None}
    backbone = _create(config, shape)
    if shape and not is_plain(backbone):
        raise _no_shape(config.name, shape)
    return backbone


def _create(config: Model, shape: dict[str, int]) -> nn.Module:
    options: dict[str, float] = {SHAPE[key]: value for key, value in shape.items()}
    options |= {"img_size": config.image_size, "drop_path_rate": config.drop_path}
    while True:
        try:
            return timm.create_model(config.name, in_chans=config.channels, num_classes=0, **options)
        except Exception as error:  # each network refuses in its own way what it cannot be
            refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            option = refused and refused[1]
            if option == "img_size" or (option == "drop_path_rate" and not config.drop_path):
                del options[option]  # it takes any size, and drops no paths as it is
            elif option == "drop_path_rate":
                found = f"model.drop_path is {config.drop_path}, but {config.name} drops no paths"
                raise InputError(f"params.yaml: {found}; set it to 0.") from error
            elif option in SHAPE.values():
                raise _no_shape(config.name, shape) from error
            else:
                raise _unfit(config, error) from error


def feature_width(backbone: nn.Module, config: Model) -> int:
    """How many features the network gives of an image, D: of a blank one, unless the network says it itself.

    Raises InputError where it cannot take the images that `config` describes, or gives no vector of them.
    """
    if is_plain(backbone):
        return backbone.embed_dim
    image = torch.zeros(1, config.channels, config.image_size, config.image_size)
    training = backbone.training
    try:
        with torch.no_grad():
            features = backbone.eval()(image)
    except Exception as error:  # whatever goes wrong inside
        raise _unfit(config, error) from error
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise InputError(
            f"params.yaml: model.name is {config.name!r}, which gives no vector of features of an image; name another."
        )
    backbone.train(training)
    return features.shape[1]


def _no_shape(name: str, shape: dict[str, int]) -> InputError:
    settings = ", ".join(f"model.{key}" for key in shape)
    return InputError(
        f"params.yaml: {settings} can only be set for a plain Vision Transformer, which {name} is not; write null."
    )


def _unfit(config: Model, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:150] or type(error).__name__
    images = f"images of {config.image_size} pixels and {config.channels} channel{'s' * (config.channels > 1)}"
    return InputError(
        f"params.yaml: model.name is {config.name!r}, which cannot be built for {images} ({reason}); change "
        "model.image_size or model.channels, or name another."
    )


def load_weights(backbone: nn.Module, weights: str, name: str) -> None:
    """Fill the backbone with pretrained weights: `none`, `timm:<model name>`, or a local file.

    A classification head, by timm's name for it, and the distillation token of distilled DeiT are left out; a plain
    Vision Transformer's position embedding of another grid is resized. Anything else must fit exactly. Raises
    InputError where the weights cannot be had, or do not fit the backbone `name`.
    """
    if weights == "none":
        return
    heads = _heads(backbone)
    if weights.startswith("timm:"):
        model = _timm_model(weights.removeprefix("timm:"))
        state, heads = model.state_dict(), heads + _heads(model)
    else:
        state = _local_weights(Path(weights))
    distilled = any(key.startswith("dist_token") for key in state)
    state = {key: value for key, value in state.items() if not key.startswith(heads + DISTILLED)}
    if is_plain(backbone) and "pos_embed" in state:
        state["pos_embed"] = _fit_position(state["pos_embed"], backbone, distilled)
    if found := misfits(state, backbone.state_dict()):
        raise InputError(f"weights {weights!r} do not fit {name}: {first_of(found)}; name fitting ones.")
    backbone.load_state_dict(state)


def _heads(model: nn.Module) -> tuple[str, ...]:
    """What the names of a timm model's classification heads begin with."""
    found = model.pretrained_cfg.get("classifier") or ()
    return tuple(f"{head}." for head in ((found,) if isinstance(found, str) else found))


def _fit_position(position: Tensor, backbone: nn.Module, distilled: bool) -> Tensor:
    if distilled:
        position = torch.cat([position[:, :1], position[:, 2:]], dim=1)  # without the distillation token's
    side = int((position.shape[1] - 1) ** 0.5)
    if side * side != position.shape[1] - 1:
        return position  # not a square grid: reported as a shape that does not fit
    return resize_position(position, (side, side), backbone.patch_embed.grid_size)


def _timm_model(name: str) -> nn.Module:
    """A timm model with its pretrained weights."""
    if not timm.is_model(name):
        raise InputError(f"params.yaml: model.weights is 'timm:{name}', which timm does not know; name another.")
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # timm and its hub raise whatever their network library raises
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the weights of timm's {name} could not be fetched ({reason}); "
            "give model.weights in params.yaml the path of a local file."
        ) from error


def _local_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(
            f"params.yaml: model.weights names {path}, which is not a file; give none, timm:<name>, or a file."
        )
    return read_weights(path)
