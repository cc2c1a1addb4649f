"""Masked image consistency: masks, teacher and loss against a restatement of MIC (arXiv 2212.01322) in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_model import MODEL

from dacsm.adaptation.masking import block_masks, masked, masked_loss, statistics_kept
from dacsm.adaptation.teacher import Teacher
from dacsm.config.losses import Masking
from dacsm.models.classifier import Classifier, Description

DESCRIPTION = Description(MODEL, tuple("abcde"))


def classifier(seed: int = 0, **changes) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(Description(MODEL.model_copy(update=changes), DESCRIPTION.classes)).train()


@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 7))
def test_the_loss_is_cross_entropy_weighted_by_the_teachers_confidence(seed, classes, batch):
    draw = torch.Generator().manual_seed(seed)
    logits, teacher = 3 * torch.randn(2, batch, classes, generator=draw)
    total = 0.0
    for row, of_teacher in zip(logits.tolist(), teacher.tolist(), strict=True):
        exponentials = [math.exp(value) for value in of_teacher]
        quality = max(exponentials) / sum(exponentials)
        label = of_teacher.index(max(of_teacher))
        total += quality * (math.log(sum(math.exp(value) for value in row)) - row[label])
    assert masked_loss(logits, teacher).item() == pytest.approx(total / batch, rel=1e-5, abs=1e-6)
    soft_targets = teacher.log_softmax(dim=1)
    assert masked_loss(logits, soft_targets).item() == pytest.approx(total / batch, rel=1e-5, abs=1e-6)


def test_no_gradient_flows_through_what_is_held_to():
    model = classifier()
    teacher = Teacher(model, 0.9)
    masked_loss(model(torch.randn(4, 1, 28, 28)), teacher(torch.randn(4, 1, 28, 28))).backward()
    assert all(weight.grad is None and not weight.requires_grad for weight in teacher.weights)
    assert model.head.weight.grad.abs().sum() > 0


def test_whole_blocks_are_hidden_at_the_ratio_and_a_mask_depends_on_its_position_alone():
    settings = Masking(ratio=0.7, blocks=4)
    keep = block_masks(2000, settings, 0, 1)
    assert keep.shape == (2000, 1, 4, 4)
    assert keep.double().mean() == pytest.approx(0.3, abs=0.01)
    assert not torch.equal(keep, block_masks(2000, settings, 0, 2))
    assert torch.equal(keep[:50], block_masks(50, settings, 0, 1))
    images = torch.randn(5, 3, 28, 28)
    for image, hidden, kept in zip(images, masked(images, keep[:5]), keep[:5], strict=True):
        for row in range(28):
            for column in range(28):
                expected = image[:, row, column] * float(kept[0, row // 7, column // 7])
                assert torch.equal(hidden[:, row, column], expected)
    assert masked(torch.randn(2, 3, 30, 30), keep[:2]).shape == (2, 3, 30, 30)  # no multiple of the blocks


def test_the_teacher_follows_as_restated():
    student, teacher = classifier(1), Teacher(classifier(2), 0.9)
    expected = None
    for update in range(14):
        with torch.no_grad():
            for weight in student.parameters():
                weight.add_(torch.randn_like(weight))
        weights = [weight.detach().double().numpy().copy() for weight in student.parameters()]
        alpha = min(1 - 1 / (update + 1), 0.9)
        before = expected or weights
        expected = [alpha * old + (1 - alpha) * new for old, new in zip(before, weights, strict=True)]
        teacher.follow(student)
        for found, wanted in zip(teacher.weights, expected, strict=True):
            np.testing.assert_allclose(found.double().numpy(), wanted, rtol=0, atol=1e-5)


def test_the_teacher_drops_nothing_and_takes_the_statistics_of_the_batch():
    student = classifier(drop_path=0.5)
    teacher, images = Teacher(student, 0.9), torch.randn(8, 1, 28, 28)
    teacher.follow(student)
    whole = classifier()
    whole.load_state_dict(student.state_dict())
    assert torch.equal(teacher(images), teacher(images))
    assert torch.equal(teacher(images), whole(images).detach())  # without dropped paths, and in training


def test_a_teacher_goes_on_where_it_stopped():
    student, teacher = classifier(), Teacher(classifier(), 0.5)
    teacher.follow(student)
    other = Teacher(classifier(3), 0.5)
    other.load_state_dict(teacher.state_dict())
    for one in (teacher, other):
        one.follow(classifier(5))
    assert all(torch.equal(a, b) for a, b in zip(teacher.weights, other.weights, strict=True))


def test_statistics_are_those_of_the_batch_and_stay_as_they_are():
    model, images = classifier(), torch.randn(6, 1, 28, 28) + 3
    before = model.neck.running_mean.clone()
    with statistics_kept(model):
        found = model(images)
    assert torch.equal(model.neck.running_mean, before)
    assert torch.equal(found, model(images))
    assert not torch.equal(model.neck.running_mean, before)
