"""Temperatures and calibration errors: known values, and what holds for any logits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dacsm.evaluation.calibration import (
    LEAST,
    MOST,
    calibration,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
)

CLASSES = 4
NUMBERS = st.floats(-60, 60, width=32)


@st.composite
def classified(draw) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K) of any kind, and labels (N,)."""
    images = draw(st.integers(1, 30))
    logits = draw(arrays(np.float32, (images, CLASSES), elements=NUMBERS))
    return logits, draw(arrays(np.int64, images, elements=st.integers(0, CLASSES - 1)))


@given(classified())
def test_a_temperature_makes_no_likelihood_worse(of):
    logits, labels = of
    temperature = fit_temperature(logits, labels)
    assert LEAST <= temperature <= MOST
    assert negative_log_likelihood(logits, labels, temperature) <= negative_log_likelihood(logits, labels)


def test_a_temperature_undoes_what_made_logits_too_large():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (20_000, CLASSES))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([generator.choice(CLASSES, p=row) for row in chances])  # so that logits are calibrated
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.03)
    assert fit_temperature(2.5 * logits, labels) == pytest.approx(2.5, abs=0.08)
    (before, after) = calibration(2.5 * logits, labels, 2.5).calibration_error
    assert before > 10 > 2 > after


def test_the_likelihood_of_known_probabilities():
    logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    assert negative_log_likelihood(logits, np.array([0, 2])) == pytest.approx(-np.log(0.5 * 0.8) / 2)


@pytest.mark.parametrize(
    ("confidence", "right", "error"),
    [
        ([1.0, 1.0], [True, True], 0),
        ([1.0, 1.0], [True, False], 0.5),
        ([0.75, 0.75, 0.75, 0.75], [True, True, True, False], 0),
        ([0.62, 0.64], [True, False], 0.13),  # one bin, (9/15, 10/15]: mean confidence 0.63, half right
        ([0.62, 0.98], [True, False], (0.38 + 0.98) / 2),  # two bins, of one image each
        ([1 / 15, 1.01 / 15], [False, True], (1 / 15 + 1 - 1.01 / 15) / 2),  # a bin holds its upper end
    ],
)
def test_known_calibration_errors(confidence, right, error):
    assert expected_calibration_error(np.array(confidence), np.array(right)) == pytest.approx(error)


@given(classified())
def test_calibration_errors_are_percent(of):
    found = calibration(*of, fit_temperature(*of))
    assert found.images == len(of[1])
    assert all(0 <= value <= 100 for value in found.calibration_error)
    before, after = found.negative_log_likelihood
    assert after <= before


def test_without_a_temperature_nothing_comes_after():
    found = calibration(np.eye(3), np.arange(3), None)
    assert (found.calibration_error[1], found.negative_log_likelihood[1]) == (None, None)
