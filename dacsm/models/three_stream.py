"""The three-stream forward of CDTrans (arXiv 2109.06165, section 3.2), in one batch.

The source and the target stream are the plain network. The mix stream starts as a copy of the target's tokens; in every
block its attention takes queries from the source and keys and values from the target. Nothing of it goes back into the
other two streams.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from timm.models.vision_transformer import Attention, Block
from torch import Tensor

from dacsm.models.classifier import Classifier
from dacsm.models.compiling import compilable
from dacsm.models.plain_vit import (
    PathFactors,
    attend,
    drop_path_factors,
    embed,
    finish_block,
    merge_heads,
    project,
    split_keys_values,
    split_queries,
)
from dacsm.runtime.together import gathered


@dataclass(frozen=True)
class Streams:
    """Logits (B, K) in float32 and last-layer tokens (B, N, D) of the streams of one step."""

    source_logits: Tensor
    mix_logits: Tensor
    target_logits: Tensor
    source_tokens: Tensor
    mix_tokens: Tensor
    target_tokens: Tensor
    source_patches: Tensor  # (B, n, D), as the last block reads them
    target_patches: Tensor


class LayerNoise(Protocol):
    """What DACSM does to one layer in one step; see `dacsm.methods.cdtrans.parts.noise`."""

    dropout: float  # of the attention weights

    def restyle(self, tokens: Tensor) -> Tensor:
        """Before the block: the three streams' tokens (3 B, N, D), of which the source's may be changed."""

    def perturb(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """From keys and values of each stream, concatenated (B, N, 2 D), those that the mix stream reads, (B, N, D)."""


class CrossAttentionNoise(Protocol):
    """The noise of all layers, from which that of a layer is drawn before it."""

    def draw(self, layer: int, tokens: Tensor) -> LayerNoise:
        """The noise of a layer that reads the three streams' tokens, (3 B, N, D)."""


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
    Where processes have parts of a batch, logits are of all of it, and tokens of this process's part.
    """
    *_, before, last = stream_tokens(classifier, source_images, target_images, noise, patches)
    normed = classifier.backbone.norm(last)  # (3 B, N, D)
    source, target, mix = normed.chunk(3)
    source_token, target_token, mix_token = gathered(normed[:, 0].float()).chunk(3)
    source_features, mix_features, target_features = map(classifier.neck, (source_token, mix_token, target_token))
    return Streams(
        source_logits=classifier.classify(source_features),
        mix_logits=classifier.classify(mix_features),
        target_logits=classifier.classify(target_features),
        source_tokens=source,
        mix_tokens=mix,
        target_tokens=target,
        source_patches=before.chunk(3)[0][:, 1:],
        target_patches=before.chunk(3)[1][:, 1:],
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
        of_layer = None if noise is None else noise.draw(layer, tokens)
        tokens = three_stream_block(block, tokens, drop_path_factors(block, tokens, streams=3), of_layer, wanted)
        yield tokens


@compilable
def three_stream_block(
    block: Block, tokens: Tensor, factors: PathFactors, noise: LayerNoise | None, wanted: int | None
) -> Tensor:
    """One block over the three streams' tokens (3 B, N, D); with `wanted`, only so many first tokens come out."""
    batch = len(tokens) // 3
    if noise is not None:
        tokens = noise.restyle(tokens)
    attended = block.attn.proj(_attend(block.attn, block.norm1(tokens[: 2 * batch]), noise, wanted))
    return finish_block(block, tokens[:, :wanted], attended, factors)


def _attend(attention: Attention, normed: Tensor, noise: LayerNoise | None, wanted: int | None) -> Tensor:
    """Self-attention of source and target, cross-attention of mix: (2 B, N, D) to (3 B, wanted or N, D)."""
    queries, keys_values = project(attention, normed, wanted)  # (2 B, n, D), (2 B, N, 2 D)
    queries = split_queries(attention, queries)  # (2 B, heads, n, D / heads)
    keys, values = split_keys_values(attention, *keys_values.chunk(2, dim=-1))
    plain = attend(queries, keys, values, attention.scale)
    mix_keys, mix_values, dropout = keys.chunk(2)[1], values.chunk(2)[1], 0.0
    if noise is not None:
        mix_keys, mix_values = split_keys_values(attention, *noise.perturb(*keys_values.chunk(2)))
        dropout = noise.dropout
    mix = attend(queries.chunk(2)[0], mix_keys, mix_values, attention.scale, dropout)
    return merge_heads(torch.cat([plain, mix]))
