"""CDTrans restated plainly, in float64: slow, one stream and one head at a time, and free of the package's code.

A state is the official state dict (`base.…`, `bottleneck.…`, `classifier.…`) in float64. Tokens are (B, N, D).
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

State = dict[str, Tensor]
STREAMS = ("source", "target", "mix")
READS = {"source": ("source", "source"), "target": ("target", "target"), "mix": ("source", "target")}  # queries, keys
WARMUP, WARMUP_START, FLOOR = 10, 0.01, 0.002


def random_state(
    seed: int, *, side: int = 3, patch: int = 4, width: int = 12, depth: int = 3, channels: int = 3, classes: int = 5
) -> State:
    """An official state dict with random float32 values, for a grid of side × side patches."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, around: float = 0.0, spread: float = 0.3) -> Tensor:
        return around + spread * torch.randn(shape, generator=generator)

    def norm(name: str) -> State:
        return {f"{name}.weight": draw(width, around=1), f"{name}.bias": draw(width)}

    def linear(name: str, outputs: int, inputs: int) -> State:
        return {f"{name}.weight": draw(outputs, inputs), f"{name}.bias": draw(outputs)}

    state = {
        "base.cls_token": draw(1, 1, width),
        "base.pos_embed": draw(1, 1 + side * side, width),
        "base.patch_embed.proj.weight": draw(width, channels, patch, patch, spread=0.2),
        "base.patch_embed.proj.bias": draw(width),
    }
    for block in range(depth):
        name = f"base.blocks.{block}"
        state |= norm(f"{name}.norm1") | linear(f"{name}.attn.qkv", 3 * width, width)
        state |= linear(f"{name}.attn.proj", width, width) | norm(f"{name}.norm2")
        state |= linear(f"{name}.mlp.fc1", 4 * width, width) | linear(f"{name}.mlp.fc2", width, 4 * width)
    state |= norm("base.norm") | linear("base.fc", 6, width)  # fc is never used
    state |= {"classifier.weight": draw(classes, width), "bottleneck.weight": draw(width, around=1)}
    state |= {"bottleneck.bias": torch.zeros(width), "bottleneck.running_mean": draw(width)}
    return state | {
        "bottleneck.running_var": draw(width).square() + 0.5,
        "bottleneck.num_batches_tracked": torch.tensor(0),
    }


def float64(state: State) -> State:
    return {name: value.double() if value.is_floating_point() else value for name, value in state.items()}


def trained(state: State) -> list[str]:
    """The parameters that get a gradient: all but the unused layer, the neck's frozen bias and its statistics."""
    names = [name for name in state if not name.startswith(("base.fc", "bottleneck"))]
    return [*names, "bottleneck.weight"]


# The forward


def embed(state: State, images: Tensor) -> Tensor:
    kernel, bias = state["base.patch_embed.proj.weight"], state["base.patch_embed.proj.bias"]
    size = kernel.shape[-1]
    patches = [
        torch.einsum("bcij,dcij->bd", images[:, :, top : top + size, left : left + size], kernel) + bias
        for top in range(0, images.shape[2], size)
        for left in range(0, images.shape[3], size)
    ]
    token = state["base.cls_token"][0].expand(len(images), -1)
    return torch.stack([token, *patches], dim=1) + state["base.pos_embed"]


def norm(state: State, name: str, x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = (x - mean).square().mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-6) * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def attention(state: State, name: str, heads: int, queries_from: Tensor, keys_from: Tensor) -> Tensor:
    width = queries_from.shape[-1]
    query_weight, key_weight, value_weight = state[f"{name}.qkv.weight"].split(width)
    query_bias, key_bias, value_bias = state[f"{name}.qkv.bias"].split(width)
    queries = queries_from @ query_weight.T + query_bias
    keys, values = keys_from @ key_weight.T + key_bias, keys_from @ value_weight.T + value_bias
    parts = []
    for q, k, v in zip(*(x.split(width // heads, dim=-1) for x in (queries, keys, values)), strict=True):
        logits = q @ k.transpose(1, 2) * (width // heads) ** -0.5
        parts.append(softmax(logits) @ v)
    return linear(state, f"{name}.proj", torch.cat(parts, dim=-1))


def mlp(state: State, name: str, x: Tensor) -> Tensor:
    x = linear(state, f"{name}.fc1", x)
    return linear(state, f"{name}.fc2", x * 0.5 * (1 + torch.erf(x / math.sqrt(2))))


def softmax(logits: Tensor) -> Tensor:
    powers = torch.exp(logits - logits.amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


def draws(generator: torch.Generator, batch: int, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
    """The uniform draws of dropped paths, one for each residual that has a rate, in the order in which they come."""
    while True:
        yield torch.rand(batch, 1, 1, generator=generator, dtype=dtype)


def drop_path(branch: Tensor, rate: float, uniform: Iterator[Tensor] | None) -> Tensor:
    if not rate or uniform is None:
        return branch
    return torch.floor(1 - rate + next(uniform)).double() / (1 - rate) * branch


def three_streams(
    state: State,
    heads: int,
    source: Tensor,
    target: Tensor,
    last_rate: float = 0.0,
    uniform: Iterator[Tensor] | None = None,
) -> list[dict[str, Tensor]]:
    """Tokens of the three streams: as embedded, then after each block."""
    start = {"source": embed(state, source), "target": embed(state, target)}
    layers = [start | {"mix": start["target"]}]
    depth = len({name.split(".")[2] for name in state if name.startswith("base.blocks")})
    for block in range(depth):
        name, rate = f"base.blocks.{block}", last_rate * block / max(depth - 1, 1)
        normed = {stream: norm(state, f"{name}.norm1", x) for stream, x in layers[-1].items()}
        after = {}
        for stream in STREAMS:
            queries, keys = READS[stream]
            attended = attention(state, f"{name}.attn", heads, normed[queries], normed[keys])
            x = layers[-1][stream] + drop_path(attended, rate, uniform)
            after[stream] = x + drop_path(mlp(state, f"{name}.mlp", norm(state, f"{name}.norm2", x)), rate, uniform)
        layers.append(after)
    return layers


def plain(
    state: State, heads: int, images: Tensor, last_rate: float = 0.0, uniform: Iterator[Tensor] | None = None
) -> Tensor:
    """Class tokens (B, D) of the plain network, as pretraining and evaluation have it."""
    x = embed(state, images)
    depth = len({name.split(".")[2] for name in state if name.startswith("base.blocks")})
    for block in range(depth):
        name, rate = f"base.blocks.{block}", last_rate * block / max(depth - 1, 1)
        normed = norm(state, f"{name}.norm1", x)
        x = x + drop_path(attention(state, f"{name}.attn", heads, normed, normed), rate, uniform)
        x = x + drop_path(mlp(state, f"{name}.mlp", norm(state, f"{name}.norm2", x)), rate, uniform)
    return norm(state, "base.norm", x)[:, 0]


def neck_in_training(state: State, features: Tensor) -> Tensor:
    """BatchNorm by the batch's own statistics; the running ones in `state` follow."""
    mean, variance = features.mean(0), features.var(0, correction=0)
    for name, value in (("mean", mean), ("var", features.var(0, correction=1))):
        running = state[f"bottleneck.running_{name}"]
        state[f"bottleneck.running_{name}"] = 0.9 * running + 0.1 * value.detach()
    state["bottleneck.num_batches_tracked"] = state["bottleneck.num_batches_tracked"] + 1
    return (features - mean) / torch.sqrt(variance + 1e-5) * state["bottleneck.weight"] + state["bottleneck.bias"]


def neck_in_evaluation(state: State, features: Tensor) -> Tensor:
    mean, variance = state["bottleneck.running_mean"], state["bottleneck.running_var"]
    return (features - mean) / torch.sqrt(variance + 1e-5) * state["bottleneck.weight"] + state["bottleneck.bias"]


def training_logits(state: State, last_layer: dict[str, Tensor]) -> dict[str, Tensor]:
    """Logits of the three streams; the neck sees source, mix, target, in this order."""
    logits = {}
    for stream in ("source", "mix", "target"):
        features = neck_in_training(state, norm(state, "base.norm", last_layer[stream])[:, 0])
        logits[stream] = features @ state["classifier.weight"].T
    return logits


# Losses and the step


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    classes = logits.shape[1]
    truth = torch.full_like(logits, smoothing / classes)
    truth[torch.arange(len(labels)), labels] += 1 - smoothing
    return -(truth * torch.log(softmax(logits))).sum(1).mean()


def losses(logits: dict[str, Tensor], source_labels: Tensor, pseudo_labels: Tensor) -> dict[str, Tensor]:
    return {
        "source": cross_entropy(logits["source"], source_labels),
        "target": cross_entropy(logits["target"], pseudo_labels),
        "distillation": -(softmax(logits["mix"]) * torch.log(softmax(logits["target"]))).sum(1).mean(),
    }


def rate(base: float, epoch: int, epochs: int, bias: bool = False) -> float:
    """The learning rate in epoch 1, 2, …; the group of a bias has twice the base rate."""
    group = 2 * base if bias else base
    if epoch >= epochs:
        return FLOOR * base
    if epoch < WARMUP:
        return WARMUP_START * base + epoch * (group - WARMUP_START * base) / WARMUP
    return FLOOR * base + (group - FLOOR * base) / 2 * (1 + math.cos(math.pi * epoch / epochs))


def clipped_norm(gradients: State, bound: float = 1.0) -> tuple[State, Tensor]:
    """Gradients scaled down to the bound, together, and the norm that they had."""
    total = torch.sqrt(sum(gradient.square().sum() for gradient in gradients.values()))
    factor = min(1.0, bound / (total.item() + 1e-6))
    return {name: factor * gradient for name, gradient in gradients.items()}, total


def sgd_step(state: State, gradients: State, momenta: State, base: float, epoch: int, epochs: int) -> None:
    """One step of SGD on clipped gradients; `state` and `momenta` follow."""
    for name, gradient in clipped_norm(gradients)[0].items():
        direction = gradient + 1e-4 * state[name]
        momenta[name] = 0.9 * momenta[name] + direction if name in momenta else direction
        state[name] = state[name] - rate(base, epoch, epochs, "bias" in name) * momenta[name]
