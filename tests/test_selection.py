"""Validators see no labels of the target, and prefer what they should."""

import math

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dacsm.adaptation.validators import NAMES, VALIDATORS, bnm, class_ami, entropy, infomax, scores, snd
from dacsm.data.splits import held_out
from dacsm.evaluation.predictions import Predictions


def seen(logits: torch.Tensor) -> Predictions:
    """Predictions whose features are the logits themselves."""
    return Predictions(logits, logits)


SURE = seen(torch.eye(4).repeat(5, 1) * 20)
UNSURE = seen(torch.zeros(20, 4))
COLLAPSED = seen(torch.tensor([[20.0, 0, 0, 0]]).repeat(20, 1))
NOISE = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))


def test_infomax_wants_sure_and_varied_predictions():
    assert infomax(SURE) > infomax(UNSURE) - 1e-9
    assert infomax(SURE) > infomax(COLLAPSED) + 1
    assert math.isclose(infomax(SURE), math.log(4), abs_tol=1e-3)


def test_entropy_cannot_tell_collapse():
    assert math.isclose(entropy(SURE), entropy(COLLAPSED), abs_tol=1e-6)
    assert entropy(SURE) > entropy(UNSURE)


def test_the_nuclear_norm_is_one_at_its_bound_and_lower_for_doubt_and_collapse():
    assert math.isclose(bnm(SURE), 1, abs_tol=1e-6)
    assert bnm(UNSURE) < bnm(COLLAPSED) < 0.6


def test_soft_neighbourhood_density_is_the_entropy_within_equal_groups():
    assert math.isclose(snd(SURE), math.log(4), abs_tol=1e-6)  # five of a class, so four neighbours each
    assert math.isclose(snd(COLLAPSED), math.log(19), abs_tol=1e-6)  # the blind side that its docstring owns up to
    assert snd(seen(20 * NOISE)) < math.log(59)


def test_class_ami_wants_predictions_that_follow_the_clusters_of_the_features():
    centres = torch.eye(4).repeat(15, 1) * 10
    follows = Predictions(centres + 0.1 * NOISE, centres)
    strays = Predictions(centres + 0.1 * NOISE, NOISE)
    assert class_ami(follows) > 0.99
    assert abs(class_ami(strays)) < 0.3


@given(st.permutations(range(60)))
@settings(max_examples=10)
def test_the_order_of_images_does_not_matter(order):
    for name in set(VALIDATORS) - {"class_ami"}:  # k-means starts from images by their number
        score = VALIDATORS[name]
        assert math.isclose(score(seen(NOISE)), score(seen(NOISE[list(order)])), abs_tol=1e-9)


def test_validators_that_compare_images_see_a_fixed_draw_of_many(monkeypatch):
    monkeypatch.setattr("dacsm.adaptation.validators.MOST_IMAGES", 30)
    assert snd(seen(NOISE)) == snd(seen(NOISE))
    assert snd(seen(NOISE)) < math.log(29)


def test_source_accuracy_is_absent_where_nothing_was_held_out():
    row = dict(zip(NAMES, scores(3, seen(NOISE), None, None), strict=True))
    assert math.isnan(row["source_accuracy"])
    assert row["last"] == 3
    few = seen(SURE.logits[:4])
    row = dict(zip(NAMES, scores(3, seen(NOISE), few, torch.tensor([0, 1, 2, 0])), strict=True))
    assert row["source_accuracy"] == 0.75


def test_a_model_that_diverged_has_no_scores():
    broken = seen(NOISE.clone().fill_(float("nan")))
    *scored, accuracy, last = scores(2, broken, None, None)
    assert all(math.isnan(score) for score in (*scored, accuracy))
    assert last == 2


@given(st.integers(1, 500), st.floats(0, 0.99))
def test_the_held_out_part_is_of_its_size_and_always_the_same(images, share):
    mask = held_out(images, share)
    assert mask.sum() == round(share * images)
    assert np.array_equal(mask, held_out(images, share))
