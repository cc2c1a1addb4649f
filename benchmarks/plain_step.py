"""The plain form of a training step, to compare with: stream by stream, softmax written out, all tokens throughout."""

from timm.models.vision_transformer import Attention, Block
from torch import Tensor

from dacsm.models.classifier import Classifier
from dacsm.models.plain_vit import embed
from dacsm.models.three_stream import Streams


def plain_three_stream(classifier: Classifier, source_images: Tensor, target_images: Tensor) -> Streams:
    """What `dacsm.models.three_stream.three_stream` gives, for images (B, C, H, W), without its savings.

    Queries, keys and values are made once for the source and once for the target, as in the original; the mix stream
    takes from them.
    """
    backbone = classifier.backbone
    source, target = embed(backbone, source_images), embed(backbone, target_images)  # (B, N, D)
    mix = target
    for block in backbone.blocks:
        source_heads, target_heads = (_heads(block.attn, block.norm1(tokens)) for tokens in (source, target))
        mix_heads = (source_heads[0], *target_heads[1:])
        before = source[:, 1:], target[:, 1:]
        source, target, mix = (
            _residuals(block, tokens, _attention(block.attn, *heads))
            for tokens, heads in ((source, source_heads), (target, target_heads), (mix, mix_heads))
        )
    source, target, mix = (backbone.norm(tokens) for tokens in (source, target, mix))
    logits = [classifier.classify(classifier.neck(tokens[:, 0].float())) for tokens in (source, mix, target)]
    return Streams(*logits, source, mix, target, *before)


def _heads(attention: Attention, normed: Tensor) -> tuple[Tensor, ...]:
    batch, length, _ = normed.shape
    projected = attention.qkv(normed).reshape(batch, length, 3, attention.num_heads, -1)
    return projected.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, D / heads)


def _attention(attention: Attention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    weights = (queries @ keys.transpose(-2, -1) * attention.scale).softmax(dim=-1)
    return attention.proj((weights @ values).transpose(1, 2).flatten(2))


def _residuals(block: Block, tokens: Tensor, attended: Tensor) -> Tensor:
    tokens = tokens + block.drop_path1(attended)
    return tokens + block.drop_path2(block.mlp(block.norm2(tokens)))
