"""Labels by transport: what the firmness of the hold on class shares means."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dacsm.adaptation.optimal_transport import class_offsets, transport

SHARES = torch.tensor([0.5, 0.3, 0.2])


def images(seed: int, count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (N, 5) about three centres, and logits (N, 3) that are half right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    features = 2 * F.one_hot(labels, 5) + torch.randn(count, 5, generator=generator)
    return features, features[:, :3] + torch.randn(count, 3, generator=generator)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(0.3, 2))
def test_a_firm_hold_gives_each_class_its_share(seed, temperature):
    scores = images(seed)[1] / temperature
    plan = F.softmax(scores + class_offsets(scores, SHARES, 1.0), dim=1)
    torch.testing.assert_close(plan.mean(dim=0), SHARES, rtol=0, atol=0.02)


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_the_firmer_the_hold_the_closer_the_shares(seed):
    scores = images(seed)[1]
    plans = [F.softmax(scores + class_offsets(scores, SHARES, firmness), dim=1) for firmness in (0.0, 0.5, 1.0)]
    far = [(plan.mean(dim=0) - SHARES).abs().sum().item() for plan in plans]
    assert far[0] + 1e-6 >= far[1] >= far[2] - 1e-6


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_without_a_hold_the_closest_centre_is_taken(seed):
    features, logits = images(seed)
    assert torch.equal(class_offsets(logits, SHARES, 0.0), torch.zeros(3))
    loose, other = (transport(features, logits, shares, 0.0, 0.1) for shares in (SHARES, SHARES.flip(0)))
    assert torch.equal(loose, other)


@pytest.mark.parametrize("firmness", [0.0, 0.7, 1.0])
def test_a_class_without_a_share_takes_no_part(firmness):
    features, logits = images(0)
    found = transport(features, logits, torch.tensor([0.6, 0.0, 0.4]), firmness, 0.1).argmax(dim=1)
    assert set(found.tolist()) == {0, 2}


@settings(max_examples=10)
@given(st.integers(0, 1000), st.permutations(range(60)))
def test_the_order_of_images_does_not_matter(seed, order):
    features, logits = images(seed)
    order = torch.tensor(order)
    found = transport(features, logits, SHARES, 0.7, 0.1)
    torch.testing.assert_close(
        transport(features[order], logits[order], SHARES, 0.7, 0.1), found[order], rtol=0, atol=1e-3
    )


def test_shares_mend_labels_where_one_class_takes_too_much():
    """Features that lie nearer to class 0 than they should: a hold on the right shares gives lost labels back."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    features = F.one_hot(labels, 5) + 0.5 * torch.randn(300, 5, generator=generator)
    logits = 3 * features[:, :3] + torch.tensor([2.0, 0.0, 0.0])
    equal = torch.full((3,), 1 / 3)
    plans = [transport(features, logits, equal, firmness, 0.1) for firmness in (0.0, 0.7)]
    right = [(plan.argmax(dim=1) == labels).float().mean().item() for plan in plans]
    assert right[1] > right[0]
