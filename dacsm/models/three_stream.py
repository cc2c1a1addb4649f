"""The three-stream forward of CDTrans (arXiv 2109.06165, section 3.2), in one batch.

The source and the target stream are the plain network. The mix stream starts as a copy of the target's tokens; in every
block its attention takes queries from the source and keys and values from the target, and it feeds nobody.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from timm.models.vision_transformer import Block
from torch import Tensor

from dacsm.models.backbone import (
    add_branch,
    attend,
    drop_path_factors,
    embed,
    merge_heads,
    project_heads,
    project_keys_values,
)
from dacsm.models.classifier import Classifier


@dataclass(frozen=True)
class Streams:
    """Logits (B, K) in float32 and last-layer tokens (B, N, D) of the streams of one step."""

    source_logits: Tensor
    mix_logits: Tensor
    target_logits: Tensor
    source_tokens: Tensor
    mix_tokens: Tensor
    target_tokens: Tensor


class CrossAttentionNoise(Protocol):
    """What DACSM does to the mix stream's cross-attention; see `dacsm.models.noise`."""

    def translate(self, layer: int, source: Tensor, target: Tensor) -> Tensor | None:
        """Normed tokens (B, N, D) for the mix stream to read in place of the target's; None leaves them."""

    def bias(self, layer: int, queries: Tensor, keys: Tensor) -> Tensor | None:
        """A term (B, heads, N, N) for the mix stream's scaled attention logits; None leaves them."""


def three_stream(
    classifier: Classifier,
    source_images: Tensor,
    target_images: Tensor,
    noise: CrossAttentionNoise | None = None,
    patches: bool = True,
) -> Streams:
    """Forward pairs of images, (B, C, H, W) each and of one size, through the three streams.

    Without `noise` this is CDTrans exactly. The BN neck sees source, mix and target in this order, each with its own
    batch statistics. Without `patches` the last block makes the class token alone, which is all that the logits need.
    """
    for tokens in stream_tokens(classifier, source_images, target_images, noise, patches):
        last = tokens
    source, target, mix = classifier.backbone.norm(last).chunk(3)
    source_features, mix_features, target_features = (classifier.neck(x[:, 0].float()) for x in (source, mix, target))
    return Streams(
        source_logits=classifier.classify(source_features),
        mix_logits=classifier.classify(mix_features),
        target_logits=classifier.classify(target_features),
        source_tokens=source,
        mix_tokens=mix,
        target_tokens=target,
    )


def stream_tokens(
    classifier: Classifier,
    source_images: Tensor,
    target_images: Tensor,
    noise: CrossAttentionNoise | None = None,
    patches: bool = True,
) -> Iterator[Tensor]:
    """Source, target and mix tokens in one (3 B, N, D): as embedded, then after each block, before the final norm."""
    inputs = embed(classifier.backbone, torch.cat([source_images, target_images]))  # (2 B, N, D)
    tokens = torch.cat([inputs, inputs[len(source_images) :]])
    yield tokens
    blocks = classifier.backbone.blocks
    for layer, block in enumerate(blocks):
        wanted = 1 if layer == len(blocks) - 1 and not patches else None
        tokens = _block(block, layer, tokens, noise, wanted)
        yield tokens


def _block(block: Block, layer: int, tokens: Tensor, noise: CrossAttentionNoise | None, wanted: int | None) -> Tensor:
    """One block over the three streams' tokens (3 B, N, D); with `wanted`, only so many first tokens come out."""
    batch = len(tokens) // 3
    attention_factors, mlp_factors = drop_path_factors(block, tokens, streams=3)
    attended = block.attn.proj(_attend(block, layer, block.norm1(tokens[: 2 * batch]), noise, wanted))
    tokens = add_branch(tokens[:, :wanted], block.ls1(attended), attention_factors)
    return add_branch(tokens, block.ls2(block.mlp(block.norm2(tokens))), mlp_factors)


def _attend(block: Block, layer: int, normed: Tensor, noise: CrossAttentionNoise | None, wanted: int | None) -> Tensor:
    """Self-attention of source and target, cross-attention of mix: (2 B, N, D) to (3 B, wanted or N, D)."""
    attention = block.attn
    source, target = normed.chunk(2)
    queries, keys, values = project_heads(attention, normed, wanted)  # (2 B, heads, N, D / heads)
    source_queries = queries.chunk(2)[0]
    mix_keys, mix_values = keys.chunk(2)[1], values.chunk(2)[1]
    bias = None
    if noise is not None:
        translated = noise.translate(layer, source, target)
        if translated is not None:
            mix_keys, mix_values = project_keys_values(attention, translated)
        bias = noise.bias(layer, source_queries, mix_keys)
        bias = bias if bias is None else bias.to(values.dtype)
    plain = attend(queries, keys, values, attention.scale)
    mix = attend(source_queries, mix_keys, mix_values, attention.scale, bias)
    attended = torch.cat([plain, mix])
    return merge_heads(attended)
