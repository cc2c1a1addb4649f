"""A classifier as a plain network of timm: the BN neck goes into the head, which is exact in evaluation mode."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from dacsm.config.params import Model
from dacsm.models.backbone import SHAPE
from dacsm.models.classifier import Classifier
from dacsm.runtime.errors import InputError


def fold(classifier: Classifier) -> tuple[nn.Module, dict[str, Any]]:
    """The same network as timm alone builds it, on the CPU, and what timm is told besides its name.

    Images (B, C, H, W), normalised, to logits (B, K). Raises InputError where timm's network has no linear head that
    could take the neck.
    """
    model, classes = classifier.description.model, len(classifier.description.classes)
    network, arguments = _plain_network(model, classes, classifier.plain)
    weight, bias = folded_head(classifier.neck, classifier.head)
    state = {f"{head}.{key}": value for head in _heads(network) for key, value in (("weight", weight), ("bias", bias))}
    try:
        network.load_state_dict({**classifier.backbone.state_dict(), **state})
    except RuntimeError as error:  # torch names what does not fit on several lines
        reason = " ".join(str(error).split())[:150]
        raise not_plain(model.name, f"its classifier is no single linear layer with a bias: {reason}") from error
    return network.eval(), arguments


@torch.no_grad()
def folded_head(neck: nn.BatchNorm1d, head: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight (K, D) and bias (K,) of one linear layer that does what neck and head do, in evaluation mode.

    The neck is x ↦ (x − m) s + b with s = g / √(v + ε), so that the weight is W s and the bias W (b − m s). Both are
    worked out in float64.
    """
    mean, variance = neck.running_mean, neck.running_var
    assert mean is not None  # a neck of ours keeps both
    assert variance is not None
    scale = neck.weight.double() / (variance.double() + neck.eps).sqrt()  # (D,)
    weight = head.weight.double()
    bias = weight @ (neck.bias.double() - mean.double() * scale)
    if head.bias is not None:
        bias = bias + head.bias.double()
    return (weight * scale).float().cpu(), bias.float().cpu()


def not_plain(name: str, reason: str) -> InputError:
    """What to say of a network that timm's plain form cannot express."""
    return InputError(
        f"a classifier on {name} cannot be exported as a plain network of timm ({reason}); use its model.safetensors "
        "with `dacsm predict`, or train another network."
    )


def _plain_network(model: Model, classes: int, plain: bool) -> tuple[nn.Module, dict[str, Any]]:
    shape = {timms: value for ours, timms in SHAPE.items() if (value := getattr(model, ours)) is not None}
    arguments = {"in_chans": model.channels, **shape, **({"global_pool": "token"} if plain else {})}
    sized = {**arguments, "img_size": model.image_size}
    try:
        return timm.create_model(model.name, num_classes=classes, **sized), sized
    except TypeError:  # as in build_backbone: a network that takes images of any size is told none
        return timm.create_model(model.name, num_classes=classes, **arguments), arguments


def _heads(network: nn.Module) -> tuple[str, ...]:
    """The names of timm's classification heads; a distilled network has two, and takes their mean."""
    found = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    return (found,) if isinstance(found, str) else tuple(found)
