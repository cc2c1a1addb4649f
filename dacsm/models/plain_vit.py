"""A plain Vision Transformer from timm, taken apart into the pieces that the three streams need."""

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor
from torch.nn import functional as F

from dacsm.models.arithmetic import is_portable
from dacsm.models.compiling import compilable
from dacsm.runtime.together import part, whole

# Least and most of queries, keys and channels of a head, for torch's fused attention on a CPU: its products then are as
# `dacsm.models.arithmetic` asks. It takes 32 queries at a time.
FUSED = (16, 32), (16, 192), (16, 192)

PathFactors = tuple[Tensor, Tensor] | tuple[None, None]  # of a block's attention and MLP; None: nothing is dropped


def is_plain(backbone: torch.nn.Module) -> bool:
    """Whether a network is a class token, and blocks of norm, attention and MLP, and nothing else."""
    return (
        type(backbone) is VisionTransformer
        and backbone.num_prefix_tokens == 1
        and not backbone.no_embed_class
        and backbone.patch_embed.flatten
        and all(type(block) is Block and _is_plain_attention(block.attn) for block in backbone.blocks)
    )


def _is_plain_attention(attention: torch.nn.Module) -> bool:
    """Whether nothing stands between attention and projection: no norm and no gate, as BEiT-3 and others have."""
    norm, gate = getattr(attention, "norm", None), getattr(attention, "gate", None)  # older timm has neither
    return gate is None and (norm is None or isinstance(norm, torch.nn.Identity))


def embed(backbone: VisionTransformer, images: Tensor) -> Tensor:
    """Patches, class token and position embedding: (B, C, H, W) to (B, 1 + h w, D), at any size H, W in patches."""
    patches = backbone.patch_embed.proj(images)  # (B, D, h, w)
    grid = (patches.shape[2], patches.shape[3])
    tokens = backbone.patch_embed.norm(patches.flatten(2).transpose(1, 2))
    tokens = torch.cat([backbone.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
    position = resize_position(backbone.pos_embed, backbone.patch_embed.grid_size, grid)
    return backbone.norm_pre(backbone.pos_drop(tokens + position))


def plain_block(block: Block, tokens: Tensor, wanted: int | None = None) -> Tensor:
    """One block over the tokens (B, N, D) of one stream: timm's own, but for how dropped paths are drawn.

    With `wanted`, only that many first tokens come out, (B, wanted, D); the others are read and no more.
    """
    return _plain_block(block, tokens, drop_path_factors(block, tokens), wanted)


@compilable
def _plain_block(block: Block, tokens: Tensor, factors: PathFactors, wanted: int | None) -> Tensor:
    queries, keys_values = project(block.attn, block.norm1(tokens), wanted)
    keys, values = split_keys_values(block.attn, *keys_values.chunk(2, dim=-1))
    attended = merge_heads(attend(split_queries(block.attn, queries), keys, values, block.attn.scale))
    return finish_block(block, tokens[:, :wanted], block.attn.proj(attended), factors)


def finish_block(block: Block, tokens: Tensor, attended: Tensor, factors: PathFactors) -> Tensor:
    """What comes after the attention: both residual branches, of tokens and attended (B, N, D) each."""
    attention_factors, mlp_factors = factors
    tokens = add_branch(tokens, block.ls1(attended), attention_factors)
    return add_branch(tokens, block.ls2(block.mlp(block.norm2(tokens))), mlp_factors)


def attend(queries: Tensor, keys: Tensor, values: Tensor, scale: float, dropout: float = 0.0) -> Tensor:
    """Attention of queries (B, heads, n, d) over keys and values (B, heads, N, d); `dropout` is of its weights.

    PyTorch's fused form, but for bfloat16 on a CPU, where it is slow: forward and backward of 197 tokens, 6 heads of 64
    and 8 images took 57 ms fused and 30 ms written out (one core of a Xeon with AVX-512), against 26 ms both ways in
    float32. Of 17 tokens and 3 heads of 32, float32 took 1.2 ms fused and 1.9 ms written out. In portable arithmetic it
    is for shapes alone in which it takes sums that are the same on every processor (`FUSED`).
    """
    on_cpu, shape = queries.device.type == "cpu", (queries.shape[2], keys.shape[2], queries.shape[3])
    unfit = is_portable() and not all(least <= n <= most for n, (least, most) in zip(shape, FUSED, strict=True))
    if on_cpu and (queries.dtype == torch.bfloat16 or unfit):
        weights = ((queries * scale) @ keys.transpose(-2, -1)).softmax(dim=-1)  # (B, heads, n, N)
        return F.dropout(weights, dropout) @ values
    if on_cpu and is_portable():
        queries, scale = queries * scale, 1.0  # a factor inside of products is applied where the processor likes
    return F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout, scale=scale)


def project(attention: torch.nn.Module, normed: Tensor, wanted: int | None = None) -> tuple[Tensor, Tensor]:
    """Of normed tokens (B, N, D): queries (B, wanted or N, D), and keys and values, concatenated (B, N, 2 D)."""
    width = normed.shape[-1]
    weight, bias = attention.qkv.weight, attention.qkv.bias
    if wanted is None:
        return attention.qkv(normed).split((width, 2 * width), dim=-1)
    queries = F.linear(normed[:, :wanted], weight[:width], None if bias is None else bias[:width])
    return queries, F.linear(normed, weight[width:], None if bias is None else bias[width:])


def split_queries(attention: torch.nn.Module, queries: Tensor) -> Tensor:
    """Queries (B, n, D), heads together, to (B, heads, n, D / heads)."""
    return attention.q_norm(_split_heads(attention, queries))


def split_keys_values(attention: torch.nn.Module, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values (B, N, D), heads together, to (B, heads, N, D / heads) each."""
    return attention.k_norm(_split_heads(attention, keys)), _split_heads(attention, values)


def _split_heads(attention: torch.nn.Module, projected: Tensor) -> Tensor:
    return projected.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)


def merge_heads(attended: Tensor) -> Tensor:
    """Put heads together again: (B, heads, N, D / heads) to (B, N, D)."""
    return attended.transpose(1, 2).flatten(2)


def add_branch(tokens: Tensor, branch: Tensor, factors: Tensor | None) -> Tensor:
    """Tokens (B, N, D) plus a residual branch (B, N, D) times its factors (B, 1, 1), if any.

    Factors are rounded to the branch's precision, as in the original: those in float32 would make a bfloat16 branch
    float32, and the sums over it slower.
    """
    return tokens + (branch if factors is None else factors.to(branch.dtype) * branch)


def drop_path_factors(block: Block, tokens: Tensor, streams: int = 1) -> PathFactors:
    """Factors (streams · B, 1, 1) for attention and MLP: 0 where a path is dropped, 1 / keep elsewhere.

    Tokens are (streams · B, N, D), stream after stream. Draws are those of CDTrans: floor(keep + uniform), for each
    stream first the attention's, then the MLP's. None where nothing is dropped.
    """
    rate = getattr(block.drop_path1, "drop_prob", 0.0)
    if not block.training or not rate:
        return None, None
    keep = 1.0 - rate
    shape = streams, 2, whole(len(tokens) // streams)
    draws = part(torch.rand(shape, dtype=tokens.dtype, device=tokens.device), dim=2)
    factors = (keep + draws).floor() / keep
    attention, mlp = factors.transpose(0, 1).reshape(2, len(tokens), 1, 1)
    return attention, mlp


def resize_position(position: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]) -> Tensor:
    """Resize a position embedding (1, 1 + h w, D) to another grid, bilinearly, leaving the class token's as it is.

    The way of CDTrans (bilinear, corners not aligned); the same grid gives the same tensor.
    """
    if tuple(old_grid) == tuple(new_grid):
        return position
    token, patches = position[:, :1], position[:, 1:]
    patches = patches.reshape(1, *old_grid, -1).permute(0, 3, 1, 2)
    patches = F.interpolate(patches, size=new_grid, mode="bilinear", align_corners=False)
    return torch.cat([token, patches.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
