"""Pseudo labels, neighbours and pairs."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dacsm import pairing
from dacsm.pairing import agreeing_pairs, centre_labels, fuse_sizes, nearest_over_sizes, unit

SEEDS = st.integers(0, 10_000)


def features(seed: int, rows: int, levels: int | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if levels is None:
        return torch.randn(rows, 6, generator=generator)
    return torch.randint(0, levels, (rows, 6), generator=generator).float() + 0.5  # many ties


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 40), st.integers(1, 40), st.sampled_from([None, 2]))
def test_blocks_find_what_the_whole_matrix_has(seed, sources, targets, levels):
    source, target = features(seed, sources, levels), features(seed + 1, targets, levels)
    before, pairing.BLOCK = pairing.BLOCK, 7
    try:
        target_of_source, source_of_target = nearest_over_sizes(source, [target])
    finally:
        pairing.BLOCK = before
    similarity = unit(source) @ unit(target).T
    rows, columns = torch.arange(sources), torch.arange(targets)
    torch.testing.assert_close(similarity[rows, target_of_source], similarity.amax(dim=1))
    torch.testing.assert_close(similarity[source_of_target, columns], similarity.amax(dim=0))


def test_the_first_index_wins_a_tie():
    same = torch.ones(5, 4)
    target_of_source, source_of_target = nearest_over_sizes(same, [same, same])
    assert not target_of_source.any()
    assert not source_of_target.any()


@given(SEEDS)
def test_a_target_counts_at_the_size_at_which_it_is_closest(seed):
    source, near = features(seed, 8), features(seed + 1, 8)
    far = -near
    for one, two in zip(nearest_over_sizes(source, [near, far]), nearest_over_sizes(source, [far, near]), strict=True):
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
    assert fuse_sizes([one], [logits]) == (one, logits)
    fused, fused_logits = fuse_sizes([one, one], [logits, logits])
    torch.testing.assert_close(fused, unit(one))
    torch.testing.assert_close(fused_logits.softmax(1), logits.softmax(1), rtol=1e-4, atol=1e-5)
