"""Labelled source images in a style on the way to the target's: what moves, and what must stay."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dacsm.config.kinds.cdtrans import SourceStyle
from dacsm.methods.cdtrans.parts.noise import DrawnNoise, SourceTranslation, style_of

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def tokens(seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """Of a few images, (B, 1 + n, D)."""
    return shift + scale * torch.randn(4, 10, 6, generator=torch.Generator().manual_seed(seed))


def restyled(settings: SourceStyle, progress: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    source, target = tokens(seed), tokens(seed + 1, 3.0, 5.0)
    drawn = SourceTranslation(settings, depth=12).draw(source, progress, torch.Generator().manual_seed(7))
    mix = target
    found = DrawnNoise(0.0, drawn, None, None).restyle(torch.cat([source, target, mix]))
    assert torch.equal(found[len(source) :], torch.cat([target, mix]))
    return source, target, found[: len(source)]


def content(of: Tensor) -> Tensor:
    mean, deviation = style_of(of)
    return (of[:, 1:] - mean) / deviation


@given(
    seed=st.integers(0, 50),
    weight=st.floats(0, 1),
    spread=st.floats(0, 1),
    progress=st.floats(0, 1),
    ramp=st.sampled_from([0.0, 0.5, 0.9]),
)
def test_the_content_and_the_class_token_stay(
    seed: int, weight: float, spread: float, progress: float, ramp: float
) -> None:
    source, _, found = restyled(SourceStyle(weight=weight, spread=spread, ramp=ramp), progress, seed)
    assert torch.equal(found[:, 0], source[:, 0])
    torch.testing.assert_close(content(found), content(source), rtol=1e-2, atol=1e-2)


@given(seed=st.integers(0, 50), weight=st.floats(0, 1))
def test_the_style_is_between_that_of_the_source_and_that_of_the_target(seed: int, weight: float) -> None:
    source, target, found = restyled(SourceStyle(weight=weight, ramp=0), 0.0, seed)
    for of_source, of_target, of_found in zip(*map(style_of, (source, target, found)), strict=True):
        low, high = torch.minimum(of_source, of_target), torch.maximum(of_source, of_target)
        assert (of_found > low - 1e-3).all()
        assert (of_found < high + 1e-3).all()


def test_the_way_grows_with_training() -> None:
    settings = SourceStyle(weight=1, ramp=0.5)
    source, target, at_first = restyled(settings, 0.0)
    torch.testing.assert_close(at_first, source, **CLOSE)
    ways = [(restyled(settings, progress)[2] - source).abs().mean() for progress in (0.1, 0.3, 0.5, 1.0)]
    assert ways[0] < ways[1] < ways[2] == ways[3]
    assert (target - source).abs().mean() > 0


@pytest.mark.parametrize(("fraction", "layers"), [(0.0, 1), (0.5, 6), (0.99, 12)])
def test_the_first_layers_restyle(fraction: float, layers: int) -> None:
    assert SourceTranslation(SourceStyle(weight=1, layers=fraction), depth=12).layers == layers
