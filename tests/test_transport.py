"""Labels by transport: what the relaxation of the class marginal means."""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dacsm.adaptation import optimal_transport, pairing
from dacsm.adaptation.optimal_transport import class_offsets, transport

FRACTIONS = torch.tensor([0.5, 0.3, 0.2])


def images(seed: int, count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (N, 5) about three centres, and logits (N, 3) that are half right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    features = 2 * F.one_hot(labels, 5) + torch.randn(count, 5, generator=generator)
    return features, features[:, :3] + torch.randn(count, 3, generator=generator)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(0.3, 2))
def test_without_relaxation_each_class_has_its_fraction(seed, temperature):
    scores = images(seed)[1] / temperature
    plan = F.softmax(scores + class_offsets([scores], FRACTIONS, 0.0), dim=1)
    torch.testing.assert_close(plan.mean(dim=0), FRACTIONS, rtol=0, atol=0.02)


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_the_less_relaxation_the_closer_the_fractions(seed):
    scores = images(seed)[1]
    plans = [F.softmax(scores + class_offsets([scores], FRACTIONS, relaxed), dim=1) for relaxed in (1.0, 0.5, 0.0)]
    far = [(plan.mean(dim=0) - FRACTIONS).abs().sum().item() for plan in plans]
    assert far[0] + 1e-6 >= far[1] >= far[2] - 1e-6


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_fully_relaxed_the_closest_centre_is_taken(seed):
    features, logits = images(seed)
    assert torch.equal(class_offsets([logits], FRACTIONS, 1.0), torch.zeros(3))
    loose, other = (transport(features, logits, wanted, 1.0, 0.2) for wanted in (FRACTIONS, FRACTIONS.flip(0)))
    assert torch.equal(loose, other)


@pytest.mark.parametrize("relaxed", [1.0, 0.3, 0.0])
def test_a_class_without_a_fraction_takes_no_part(relaxed):
    features, logits = images(0)
    found = transport(features, logits, torch.tensor([0.6, 0.0, 0.4]), relaxed, 0.2)
    assert set(found.argmax(dim=1).tolist()) == {0, 2}
    assert torch.equal(found[:, 1], torch.full((60,), -torch.inf))
    assert found[:, [0, 2]].isfinite().all()


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([1, 7, 59]), st.sampled_from([0, 2**31]))
def test_blocks_change_only_the_rounding(seed, block, kept_bytes):
    features, logits = images(seed)
    whole = transport(features, logits, FRACTIONS, 0.3, 0.2)
    with patch.multiple(optimal_transport, BLOCK=block, KEPT_BYTES=kept_bytes), patch.object(pairing, "BLOCK", block):
        blocks = transport(features, logits, FRACTIONS, 0.3, 0.2)
    torch.testing.assert_close(blocks, whole, rtol=1e-3, atol=1e-3)


def test_features_are_never_copied_as_a_whole(monkeypatch):
    rows = []
    extended = optimal_transport.extended
    for module in (optimal_transport, pairing):  # centres are pairing's
        monkeypatch.setattr(module, "extended", lambda part: rows.append(len(part)) or extended(part))
        monkeypatch.setattr(module, "BLOCK", 16)
    transport(*images(0), FRACTIONS, 0.3, 0.2)
    assert max(rows) == 16


@settings(max_examples=10)
@given(st.integers(0, 1000), st.permutations(range(60)))
def test_the_order_of_images_does_not_matter(seed, order):
    features, logits = images(seed)
    order = torch.tensor(order)
    found = transport(features, logits, FRACTIONS, 0.3, 0.2)
    torch.testing.assert_close(
        transport(features[order], logits[order], FRACTIONS, 0.3, 0.2), found[order], rtol=0, atol=1e-3
    )


def test_fractions_mend_labels_where_one_class_takes_too_much():
    """Features that lie nearer to class 0 than they should: the right fractions give lost labels back."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    features = F.one_hot(labels, 5) + 0.5 * torch.randn(300, 5, generator=generator)
    logits = 3 * features[:, :3] + torch.tensor([2.0, 0.0, 0.0])
    equal = torch.full((3,), 1 / 3)
    plans = [transport(features, logits, equal, relaxed, 0.2) for relaxed in (1.0, 0.3)]
    right = [(plan.argmax(dim=1) == labels).float().mean().item() for plan in plans]
    assert right[1] > right[0]


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_labels_follow_features_that_lie_close_together(seed):
    """As those of drawings do, seen by a model of photographs: all cosines to centres are nearly 1."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(300) % 3
    features = F.one_hot(labels, 5) + 0.3 * torch.randn(300, 5, generator=generator)
    logits = features[:, :3] + torch.tensor([1.0, 0.0, 0.0]) + 0.5 * torch.randn(300, 3, generator=generator)
    found = transport(features + torch.tensor([0.0, 0, 0, 0, 30]), logits, torch.tensor([0.4, 0.3, 0.3]), 0.3, 0.2)
    assert (found.argmax(dim=1) == labels).float().mean() > 0.6


def test_a_class_that_no_image_is_labelled_as_has_no_centre():
    features, logits = images(0)
    logits[:, 2] = -100
    found = transport(features, logits, FRACTIONS, 1.0, 0.2)
    assert set(found.argmax(dim=1).tolist()) == {0, 1}
    assert found[:, :2].isfinite().all()
