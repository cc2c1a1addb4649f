"""Where the class token's cross-attention looks in the target, without the noise and with it."""

from dataclasses import dataclass

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor

from dacsm.models.classifier import Classifier
from dacsm.models.plain_vit import project, split_keys_values, split_queries
from dacsm.models.three_stream import CrossAttentionNoise, stream_tokens


@dataclass(frozen=True)
class AttentionMaps:
    """Percent of the attention, (P, L, h, w) for P pairs and L layers; what the class token gets is left out.

    `noisy` is the mean over draws of the noise; None for a method without noise.
    """

    layers: tuple[int, ...]  # counted from 1
    plain: Tensor
    noisy: Tensor | None


def shown_layers(depth: int) -> tuple[int, ...]:
    """A third, two thirds and all of the way through that many layers, counted from 1."""
    return tuple(sorted({max(1, round(depth * thirds / 3)) for thirds in (1, 2, 3)}))


@torch.inference_mode()
def attention_maps(
    classifier: Classifier, source: Tensor, target: Tensor, noise: CrossAttentionNoise | None, draws: int
) -> AttentionMaps:
    """The maps of some pairs of normalised images, (P, C, H, W) each; the classifier is in evaluation mode.

    Queries are those of the source's class token, keys those of the target; heads are averaged. Noise leaves both
    streams alone, so that all draws of a layer read the same tokens.
    """
    blocks = classifier.backbone.blocks
    layers, plain, noisy = shown_layers(len(blocks)), [], []
    for layer, (block, tokens) in enumerate(zip(blocks, stream_tokens(classifier, source, target), strict=False)):
        if layer + 1 not in layers:
            continue
        queries, keys_values = project(block.attn, block.norm1(tokens[: 2 * len(source)]))
        query = queries[: len(source), :1]  # (P, 1, D)
        of_source, of_target = keys_values.chunk(2)  # (P, N, 2 D) each
        plain.append(_map(block.attn, query, *of_target.chunk(2, dim=-1)))
        if noise is not None:
            drawn = (noise.draw(layer, tokens).perturb(of_source, of_target) for _ in range(draws))
            noisy.append(sum(_map(block.attn, query, *read) for read in drawn) / draws)
    return AttentionMaps(layers, torch.stack(plain, dim=1), torch.stack(noisy, dim=1) if noisy else None)


def _map(attention: Attention, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Percent of the attention that each patch gets, (P, h, w): a query (P, 1, D) over keys, and values, (P, N, D)."""
    keys, _values = split_keys_values(attention, keys, values)  # (P, heads, N, d)
    logits = split_queries(attention, query) @ keys.transpose(-2, -1) * attention.scale  # (P, heads, 1, N)
    fractions = 100 * logits.softmax(dim=-1).mean(dim=1)[:, 0, 1:].cpu()  # (P, n)
    side = int(fractions.shape[1] ** 0.5)
    return fractions.unflatten(1, (side, side))
