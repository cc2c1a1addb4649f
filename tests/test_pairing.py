"""Pseudo labels, neighbours and pairs."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dacsm.adaptation import pairing
from dacsm.adaptation.pairing import agreeing_pairs, centre_labels, nearest_over_scales, unit
from dacsm.methods.cdtrans.parts import matching
from dacsm.methods.cdtrans.parts.matching import fuse_scales

SEEDS = st.integers(0, 10_000)


def features(seed: int, rows: int, levels: int | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if levels is None:
        return torch.randn(rows, 6, generator=generator)
    return torch.randint(0, levels, (rows, 6), generator=generator).float() + 0.5  # many ties


@contextmanager
def tiles_of(rows: int, columns: int) -> Iterator[None]:
    with patch.dict(pairing.TILES, cpu=(rows, columns)):
        yield


@settings(max_examples=40)
@given(SEEDS, st.integers(1, 300), st.integers(1, 300), st.sampled_from([None, 2]))
def test_tiles_find_what_the_whole_matrix_has(seed, sources, targets, levels):
    source, target = features(seed, sources, levels), features(seed + 1, targets, levels)
    with tiles_of(64, 128):
        target_of_source, source_of_target = nearest_over_scales(source, [target])
    similarity = unit(source) @ unit(target).T
    rows, columns = torch.arange(sources), torch.arange(targets)
    torch.testing.assert_close(similarity[rows, target_of_source], similarity.amax(dim=1))
    torch.testing.assert_close(similarity[source_of_target, columns], similarity.amax(dim=0))


@settings(max_examples=40)
@given(SEEDS, st.integers(1, 300), st.integers(1, 300))
def test_ties_go_to_the_first_index_across_tiles(seed, sources, targets):
    """Axes in four dimensions: similarities are exactly 0 or 1, so that nearly every maximum is a tie."""
    rng = torch.Generator().manual_seed(seed)
    source, target = (2 * torch.eye(4)[torch.randint(0, 4, (rows,), generator=rng)] for rows in (sources, targets))
    with tiles_of(64, 128):
        target_of_source, source_of_target = nearest_over_scales(source, [target])
    similarity = unit(source) @ unit(target).T
    assert torch.equal(target_of_source, similarity.argmax(dim=1))
    assert torch.equal(source_of_target, similarity.argmax(dim=0))


def test_copies_of_rows_at_any_place_are_ties():
    """Of wide features too, whose similarities are rounded: a row gets the same bits in whatever tile it lies."""
    generator = torch.Generator().manual_seed(0)
    source, target = torch.randn(700, 384, generator=generator), torch.randn(600, 384, generator=generator)
    source[500:], target[450:] = source[:200].clone(), target[:150].clone()
    dense = unit(source) @ unit(target).T
    with tiles_of(128, 192):
        target_of_source, source_of_target = nearest_over_scales(source, [target])
    assert torch.equal(target_of_source, dense.argmax(dim=1))
    assert torch.equal(source_of_target, dense.argmax(dim=0))
    assert target_of_source.max() < 450
    assert source_of_target.max() < 500


@pytest.mark.parametrize("sign", [1, -1])
def test_what_a_tile_leaves_empty_is_nobodys_neighbour(sign):
    """The nearest of opposite features has a negative similarity, less than an empty place would have."""
    source, target = torch.ones(3, 4), sign * torch.ones(70, 4)
    found = nearest_over_scales(source, [target])
    assert [index.tolist() for index in found] == [[0] * 3, [0] * 70]


def test_features_in_float16_are_searched_in_float32():
    source, target = features(0, 90).half(), features(1, 80).half()
    for one, two in zip(
        nearest_over_scales(source, [target]), nearest_over_scales(source.float(), [target.float()]), strict=True
    ):
        assert torch.equal(one, two)
    labels = centre_labels(target, features(2, 80))
    assert torch.equal(labels, centre_labels(target.float(), features(2, 80)))


def test_a_device_without_tiles_of_its_own_has_the_gpus():
    source, target = features(0, 90), features(1, 80)
    expected = nearest_over_scales(source, [target])
    with patch.dict(pairing.TILES, {"cuda": (64, 128)}, clear=True):
        found = nearest_over_scales(source, [target])
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_finds_the_same_neighbours():
    source, target = features(0, 900), features(1, 700)
    on_gpu = nearest_over_scales(source, [target], torch.device("cuda"))
    for one, two in zip(on_gpu, nearest_over_scales(source, [target]), strict=True):
        assert torch.equal(one.cpu(), two)


def test_the_first_index_wins_a_tie():
    same = torch.ones(5, 4)
    target_of_source, source_of_target = nearest_over_scales(same, [same, same])
    assert not target_of_source.any()
    assert not source_of_target.any()


@given(SEEDS)
def test_a_target_counts_at_the_size_at_which_it_is_closest(seed):
    source, near = features(seed, 8), features(seed + 1, 8)
    far = -near
    for one, two in zip(
        nearest_over_scales(source, [near, far]), nearest_over_scales(source, [far, near]), strict=True
    ):
        assert torch.equal(one, two)


@given(SEEDS)
def test_pairs_agree_and_come_targets_first(seed):
    rng = np.random.default_rng(seed)
    source_labels, pseudo_labels = (torch.from_numpy(rng.integers(0, 3, n)) for n in (9, 7))
    target_of_source, source_of_target = (torch.from_numpy(rng.integers(0, high, n)) for high, n in ((7, 9), (9, 7)))
    pairs = agreeing_pairs(target_of_source, source_of_target, source_labels, pseudo_labels)
    expected = [(int(s), t) for t, s in enumerate(source_of_target) if source_labels[s] == pseudo_labels[t]]
    expected += [(s, int(t)) for s, t in enumerate(target_of_source) if source_labels[s] == pseudo_labels[t]]
    assert list(zip(pairs.source.tolist(), pairs.target.tolist(), strict=True)) == expected
    assert np.array_equal(pairs.source_labels, pairs.pseudo_labels)


def test_centres_leave_out_classes_that_nobody_is_predicted_as():
    logits = torch.tensor([[5.0, 0, 4.9], [5, 0, 4.9], [0, 5, 4.9], [0, 5, 4.9]])
    labels = centre_labels(torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]), logits)
    assert labels.tolist() == [0, 0, 1, 1]


@given(SEEDS)
def test_one_size_is_left_as_it_is_and_equal_sizes_change_no_direction(seed):
    one, logits = features(seed, 5), features(seed + 1, 5)
    assert fuse_scales([one], [logits]) == (one, logits)
    fused, fused_logits = fuse_scales([one, one], [logits, logits])
    torch.testing.assert_close(fused, unit(one))
    torch.testing.assert_close(fused_logits.softmax(1), logits.softmax(1), rtol=1e-4, atol=1e-5)


@given(SEEDS)
def test_many_images_at_once_or_a_few_at_a_time_get_the_same_labels(seed):
    target, logits = features(seed, 50), features(seed + 1, 50)
    whole, fused = centre_labels(target, logits), fuse_scales([target, 2 * target], [logits, -logits])
    with patch.object(pairing, "BLOCK", 7), patch.object(matching, "BLOCK", 7):
        similar = (centre_labels(target, logits) == whole).float().mean()
        again = fuse_scales([target, 2 * target], [logits, -logits])
    assert similar > 0.95  # sums in another order may turn an image that lies between two centres
    assert all(torch.equal(one, two) for one, two in zip(fused, again, strict=True))
