"""Validators see no labels of the target, and prefer what they should."""

import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dacsm.adaptation import scores, validators
from dacsm.adaptation.history import AdaptationHistory
from dacsm.adaptation.scores import VALIDATORS, score_epochs
from dacsm.config import params
from dacsm.data.domains import held_out
from dacsm.evaluation import outputs
from dacsm.evaluation.metrics import Epochs
from dacsm.evaluation.outputs import Outputs, best_epoch, sample_outputs
from dacsm.evaluation.predictions import Predictions

infomax, entropy, bnm, snd, class_ami = (VALIDATORS[name] for name in ("infomax", "entropy", "bnm", "snd", "class_ami"))


def seen(logits: torch.Tensor, features: torch.Tensor | None = None, source_accuracy: float = math.nan) -> Outputs:
    """Outputs of the third epoch, whose features are the logits themselves where none are given."""
    return Outputs(3, logits, logits if features is None else features, source_accuracy)


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
    follows = seen(centres, centres + 0.1 * NOISE)
    strays = seen(NOISE, centres + 0.1 * NOISE)
    assert class_ami(follows) > 0.99
    assert abs(class_ami(strays)) < 0.3
    assert class_ami(seen(centres, follows.features[:40])) > 0.99  # features of fewer images


@given(st.permutations(range(60)))
@settings(max_examples=10)
def test_the_order_of_images_does_not_matter(order):
    for name in ("infomax", "entropy", "bnm", "snd"):  # k-means starts from images by their number
        score = VALIDATORS[name]
        assert math.isclose(score(seen(NOISE)), score(seen(NOISE[list(order)])), abs_tol=1e-9)


def test_validators_that_compare_images_see_a_fixed_draw_of_many(monkeypatch):
    monkeypatch.setattr(validators.snd, "MOST_IMAGES", 30)
    assert snd(seen(NOISE)) == snd(seen(NOISE))
    assert snd(seen(NOISE)) < math.log(29)


def test_a_sample_is_the_same_images_each_time_and_within_its_bounds(monkeypatch):
    one, two = Predictions(NOISE.repeat(1, 2), NOISE), Predictions(-NOISE.repeat(1, 2), -NOISE)
    assert torch.equal(sample_outputs(1, one, math.nan).logits, NOISE.half())
    for name, most, (logits, features) in (
        ("MOST_LOGITS", 50, (50, 50)),
        ("MOST_FEATURES", 40, (60, 40)),
        ("MOST_VALUES", 80, (20, 10)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(outputs, name, most)
            sample, again = sample_outputs(1, one, math.nan), sample_outputs(2, two, math.nan)
        assert (len(sample.logits), len(sample.features)) == (logits, features)
        assert len(sample.logits.unique(dim=0)) == logits
        assert torch.equal(sample.features[:, :4], sample.logits[:features])
        assert torch.equal(again.logits, -sample.logits)
        assert torch.equal(again.features, -sample.features)


def test_source_accuracy_and_the_last_epoch_are_taken_as_they_are():
    assert math.isnan(VALIDATORS["source_accuracy"](SURE))
    assert VALIDATORS["source_accuracy"](seen(NOISE, source_accuracy=0.75)) == 0.75
    assert VALIDATORS["last"](SURE) == 3


def test_a_model_that_diverged_has_no_scores():
    for broken in (seen(NOISE.clone().fill_(math.nan)), seen(NOISE, NOISE / 0)):
        assert all(math.isnan(broken.scored_by(score)) for score in VALIDATORS.values())


def test_each_validator_is_a_module_a_score_and_a_setting():
    found = [path.stem for path in Path(validators.__file__).parent.glob("[!_]*.py")]
    assert tuple(VALIDATORS) == get_args(params.Validator)
    assert sorted(VALIDATORS) == sorted(found)
    assert all(AdaptationHistory(name).score is score for name, score in VALIDATORS.items())


def test_each_epoch_is_scored(monkeypatch):
    predicted, logits = np.zeros((2, 60), int), torch.stack([NOISE, 20 * NOISE]).numpy()
    epochs = Epochs(predicted, predicted, logits, logits, np.array([0.5, math.nan]), 1)
    monkeypatch.setattr(
        scores, "VALIDATORS", {name: VALIDATORS[name] for name in ("entropy", "source_accuracy", "last")}
    )
    found = score_epochs(epochs)
    assert found["entropy"].tolist() == [entropy(seen(NOISE)), entropy(seen(20 * NOISE))]
    assert found["last"].tolist() == [1, 2]
    assert found["source_accuracy"][0] == 0.5
    assert math.isnan(found["source_accuracy"][1])


@pytest.mark.parametrize(
    ("found", "best"),
    [
        ([0.1, 0.3, 0.2], 2),
        ([0.3, 0.3], 1),
        ([math.nan, 0.1], 2),
        ([math.inf, 0.1, -1.0], 2),
        ([math.nan, math.nan], 1),
    ],
)
def test_the_first_of_the_highest_scores_is_the_best(found, best):
    assert best_epoch(found) == best


@given(st.integers(1, 500), st.floats(0, 0.99))
def test_the_held_out_part_is_of_its_size_and_always_the_same(images, fraction):
    mask = held_out(images, fraction)
    assert mask.sum() == round(fraction * images)
    assert np.array_equal(mask, held_out(images, fraction))
