"""Labels by transport are a guess about the target's classes: reverse validation says how good."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from dacsm.adaptation.reverse_validation import reverse_accuracy
from dacsm.config.kinds.cdtrans import Matching
from dacsm.evaluation.predictions import Predictions
from dacsm.methods.cdtrans.parts.matching import Labelled, match_scales

CLASSES = 3
SEEDS = st.integers(0, 1000)


def domain(counts: tuple[int, ...], seed: int, spread: float = 0.3) -> tuple[Tensor, Tensor]:
    """Features (N, 5) about the classes' own axes, and their labels (N,)."""
    labels = torch.arange(CLASSES).repeat_interleave(torch.tensor(counts))
    noise = torch.randn(len(labels), 5, generator=torch.Generator().manual_seed(seed))
    return F.one_hot(labels, 5) + spread * noise, labels


def test_right_labels_bring_all_of_the_source_back():
    target, labels = domain((20, 20, 20), 0, spread=0.05)
    assert reverse_accuracy(target, labels, *domain((5, 10, 50), 1, spread=0.05), CLASSES) == 1


@given(SEEDS)
def test_the_more_labels_are_wrong_the_less_comes_back(seed):
    (target, labels), source = domain((40, 40, 40), seed), domain((40, 40, 40), seed + 1)
    merged = torch.where(labels == 0, 1, labels)
    all_wrong = (labels + 1) % CLASSES
    found = [reverse_accuracy(target, given, *source, CLASSES) for given in (labels, merged, all_wrong)]
    assert found[0] > found[1] > found[2]


@given(SEEDS, st.permutations(range(24)))
def test_the_order_of_images_does_not_matter(seed, order):
    (target, labels), source = domain((6, 8, 10), seed), domain((9, 8, 7), seed + 1)
    mixed = reverse_accuracy(target[order], labels[order], *(part[order] for part in source), CLASSES)
    assert mixed == pytest.approx(reverse_accuracy(target, labels, *source, CLASSES), abs=0.05)


def test_a_class_without_labelled_images_is_lost_and_one_without_source_images_does_not_count():
    target, labels = domain((20, 20, 20), 0, spread=0.05)
    without = labels != 2
    source = domain((5, 5, 5), 1, spread=0.05)
    assert reverse_accuracy(target[without], labels[without], *source, CLASSES) == pytest.approx(2 / 3)
    of_two = domain((5, 5, 0), 1, spread=0.05)
    assert reverse_accuracy(target[without], labels[without], *of_two, CLASSES) == 1


def labelled(target_counts: tuple[int, ...], lean: float, relaxation: float) -> tuple[Labelled, Tensor]:
    """What is made of a target whose features lean to class 0, from a source of equal classes; its true labels."""
    target, labels = domain(target_counts, 0)
    leaning = target + lean * F.one_hot(torch.tensor(0), 5)
    seen, (source, source_labels) = Predictions(leaning, 4 * leaning[:, :CLASSES]), domain((60, 60, 60), 1)
    settings = Matching(marginal_relaxation=relaxation)
    refused = partial(pytest.fail, "no other scale was asked for")
    of_source = Predictions(source, 4 * source[:, :CLASSES])
    return match_scales(seen, refused, of_source, source_labels, settings, 1, torch.device("cpu")), labels


def accuracy(found: Labelled, labels: Tensor) -> float:
    return (found.pseudo_labels == labels).float().mean().item()


@pytest.mark.parametrize(("counts", "lean", "relaxation"), [((100, 100, 100), 0.6, 0.3), ((200, 20, 20), 0.0, 0.6)])
def test_labels_by_transport_bring_the_source_back(counts, lean, relaxation):
    """Where the target has the source's fractions, and where it has others, which a loose hold lets it keep."""
    found, labels = labelled(counts, lean, relaxation)
    assert accuracy(found, labels) > 0.9
    assert torch.equal(found.soft_targets.argmax(dim=1), found.pseudo_labels)
    assert found.reverse["reverse_by_transport"] > found.reverse["reverse_by_centre"] - 0.02


def test_where_fractions_that_are_wrong_are_forced_less_of_the_source_comes_back():
    found, labels = labelled((200, 20, 20), 0.0, 0.0)
    assert accuracy(found, labels) < 0.7
    assert found.reverse["reverse_by_transport"] < found.reverse["reverse_by_centre"] - 0.01


@settings(max_examples=10)
@given(SEEDS)
def test_nothing_is_compared_where_nothing_is_transported(seed):
    (target, _), (source, labels) = domain((9, 9, 9), seed), domain((9, 9, 9), seed + 1)
    seen = [Predictions(features, features[:, :CLASSES]) for features in (target, source)]
    found = match_scales(seen[0], pytest.fail, seen[1], labels, Matching(), 1, torch.device("cpu"))
    assert found.reverse == {}
