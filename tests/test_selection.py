"""Validators see no labels of the target, and prefer what they should."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dacsm.selection import NAMES, entropy, held_out, infomax, scores

SURE = torch.eye(4).repeat(5, 1) * 20
UNSURE = torch.zeros(20, 4)
COLLAPSED = torch.tensor([[20.0, 0, 0, 0]]).repeat(20, 1)


def test_infomax_wants_sure_and_varied_predictions():
    assert infomax(SURE) > infomax(UNSURE) - 1e-9
    assert infomax(SURE) > infomax(COLLAPSED) + 1
    assert math.isclose(infomax(SURE), math.log(4), abs_tol=1e-3)


def test_entropy_cannot_tell_collapse():
    assert math.isclose(entropy(SURE), entropy(COLLAPSED), abs_tol=1e-6)
    assert entropy(SURE) > entropy(UNSURE)


@given(st.permutations(range(20)))
def test_the_order_of_images_does_not_matter(order):
    logits = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    assert math.isclose(infomax(logits), infomax(logits[list(order)]), abs_tol=1e-9)


def test_source_accuracy_is_absent_where_nothing_was_held_out():
    row = dict(zip(NAMES, scores(3, UNSURE, None, None), strict=True))
    assert math.isnan(row["source_accuracy"])
    assert row["last"] == 3
    row = dict(zip(NAMES, scores(3, UNSURE, SURE[:4], torch.tensor([0, 1, 2, 0])), strict=True))
    assert row["source_accuracy"] == 0.75


@given(st.integers(1, 500), st.floats(0, 0.99))
def test_the_held_out_part_is_of_its_size_and_always_the_same(images, share):
    mask = held_out(images, share)
    assert mask.sum() == round(share * images)
    assert np.array_equal(mask, held_out(images, share))
