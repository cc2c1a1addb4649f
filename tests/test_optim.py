"""Learning rates and parameter groups."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dacsm.config.params import Optimiser
from dacsm.training.optim import build_optimiser, cdtrans_rate, cosine_rate


@pytest.mark.parametrize(
    ("epochs", "epoch", "share"),
    # of the base rate, as the official scheduler gives them
    [(10, 1, 0.109), (10, 2, 0.208), (10, 9, 0.901), (10, 10, 0.002), (20, 9, 0.901), (20, 10, 0.501), (40, 10, 0.854)],
)
def test_cdtrans_schedule(epochs, epoch, share):
    assert cdtrans_rate(1.0, 1.0, 10, epochs, epoch) == pytest.approx(share, abs=6e-4)


def test_biases_warm_up_from_the_base_rate_and_end_at_its_floor():
    assert cdtrans_rate(0.008, 0.016, 10, 40, 1) == pytest.approx(0.00008 + (0.016 - 0.00008) / 10)
    assert cdtrans_rate(0.008, 0.016, 10, 40, 40) == pytest.approx(0.002 * 0.008)


@given(st.floats(0, 2), st.integers(3, 40))
def test_cosine_rises_then_falls_to_zero(warmup, epochs):
    rates = [cosine_rate(1.0, warmup, epochs, passed * epochs / 200) for passed in range(201)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert all(rate >= 0 for rate in rates)
    assert math.isclose(rates[-1], 0, abs_tol=1e-12)


def test_every_trainable_parameter_is_in_one_group():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    module[1].bias.requires_grad_(False)
    settings = Optimiser(
        name="sgd", learning_rate=0.1, weight_decay=1e-4, schedule="cdtrans", warmup_epochs=10, clip_norm=1
    )
    rest, biases = build_optimiser(settings, [module]).param_groups
    assert [p.shape for p in rest["params"]] == [(2, 2), (2,)]
    assert [p.shape for p in biases["params"]] == [(2,)]
    assert (rest["factor"], biases["factor"]) == (1, 2)
    assert {rest["weight_decay"], biases["weight_decay"]} == {1e-4}
