"""The three-stream forward of CDTrans (arXiv 2109.06165, section 3.2), in one batch.

The source and the target stream are the plain network. The mix stream starts as a copy of the target's tokens; in every
block its attention takes queries from the source and keys and values from the target, and it feeds nobody.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from timm.models.vision_transformer import Block
from torch import Tensor
from torch.nn import functional as F

from dacsm.models.backbone import embed
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
    classifier: Classifier, source_images: Tensor, target_images: Tensor, noise: CrossAttentionNoise | None = None
) -> Streams:
    """Forward pairs of images, (B, C, H, W) each and of one size, through the three streams.

    Without `noise` this is CDTrans exactly. The BN neck sees source, mix and target in this order, each with its own
    batch statistics.
    """
    backbone = classifier.backbone
    images = torch.cat([source_images, target_images])
    inputs = embed(backbone, images)  # (2 B, N, D)
    target = inputs[len(source_images) :]
    tokens = torch.cat([inputs, target])  # (3 B, N, D): source, target, mix
    for layer, block in enumerate(backbone.blocks):
        tokens = _block(block, layer, tokens, noise)
    source, target, mix = backbone.norm(tokens).chunk(3)
    source_features, mix_features, target_features = (classifier.neck(x[:, 0].float()) for x in (source, mix, target))
    return Streams(
        source_logits=classifier.classify(source_features),
        mix_logits=classifier.classify(mix_features),
        target_logits=classifier.classify(target_features),
        source_tokens=source,
        mix_tokens=mix,
        target_tokens=target,
    )


def _block(block: Block, layer: int, tokens: Tensor, noise: CrossAttentionNoise | None) -> Tensor:
    """One block over the three streams' tokens (3 B, N, D)."""
    batch = len(tokens) // 3
    keep_attention, keep_mlp = _drop_path_masks(block, tokens, batch)
    attended = block.attn.proj(_attend(block, layer, block.norm1(tokens[: 2 * batch]), noise))
    tokens = tokens + keep_attention * block.ls1(attended)
    return tokens + keep_mlp * block.ls2(block.mlp(block.norm2(tokens)))


def _attend(block: Block, layer: int, normed: Tensor, noise: CrossAttentionNoise | None) -> Tensor:
    """Self-attention of source and target, cross-attention of mix: (2 B, N, D) to (3 B, N, D)."""
    attention = block.attn
    source, target = normed.chunk(2)
    queries, keys, values = _heads(attention, attention.qkv(normed), 3)  # (2 B, heads, N, D / heads)
    queries, keys = attention.q_norm(queries), attention.k_norm(keys)
    (source_queries, _), (_, mix_keys), (_, mix_values) = queries.chunk(2), keys.chunk(2), values.chunk(2)
    bias = None
    if noise is not None:
        translated = noise.translate(layer, source, target)
        if translated is not None:
            mix_keys, mix_values = _keys_values(attention, translated)
        bias = noise.bias(layer, source_queries, mix_keys)
    if bias is None:
        queries = torch.cat([queries, source_queries])
        keys, values = torch.cat([keys, mix_keys]), torch.cat([values, mix_values])
        attended = F.scaled_dot_product_attention(queries, keys, values, scale=attention.scale)
    else:
        plain = F.scaled_dot_product_attention(queries, keys, values, scale=attention.scale)
        mix = F.scaled_dot_product_attention(
            source_queries, mix_keys, mix_values, attn_mask=bias.to(values.dtype), scale=attention.scale
        )
        attended = torch.cat([plain, mix])
    return attended.transpose(1, 2).flatten(2)


def _heads(attention: torch.nn.Module, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Split (B, N, parts · D) into `parts` tensors (B, heads, N, D / heads)."""
    batch, length, _ = projected.shape
    return projected.reshape(batch, length, parts, attention.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _keys_values(attention: torch.nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values (B, heads, N, D / heads) of normed tokens (B, N, D), without making queries."""
    weight, bias = attention.qkv.weight, attention.qkv.bias
    third = len(weight) // 3
    keys, values = _heads(attention, F.linear(tokens, weight[third:], None if bias is None else bias[third:]), 2)
    return attention.k_norm(keys), values


def _drop_path_masks(block: Block, tokens: Tensor, batch: int) -> tuple[Tensor | float, Tensor | float]:
    """Factors (3 B, 1, 1) for the two residuals: 0 where a path is dropped, 1 / keep elsewhere.

    Draws follow CDTrans: source attention, source MLP, target attention, target MLP, mix attention, mix MLP.
    """
    rate = getattr(block.drop_path1, "drop_prob", 0.0)
    if not block.training or not rate:
        return 1.0, 1.0
    keep = 1.0 - rate
    draws = torch.rand(3, 2, batch, dtype=tokens.dtype, device=tokens.device)
    masks = (keep + draws).floor() / keep
    attention, mlp = masks.transpose(0, 1).reshape(2, 3 * batch, 1, 1)
    return attention, mlp
