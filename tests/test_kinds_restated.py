"""SHOT, CDAN, DANN and MIC exactly: losses, labels, reversal and whole steps against a restatement in float64."""

import math
from pathlib import Path

import kinds_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import MODEL
from torch import Tensor

from dacsm.adaptation.adversarial import Adversary, reversal
from dacsm.adaptation.certainty import certainty, confusion_loss, information_loss
from dacsm.adaptation.masking import masked
from dacsm.adaptation.pairing import centre_labels
from dacsm.config.losses import Adversarial
from dacsm.config.params import load_params
from dacsm.methods import load_kind
from dacsm.models.classifier import Classifier, Description
from dacsm.runtime.device import Compute

SEEDS = st.integers(0, 10_000)
PARAMS = Path(__file__).parents[1] / "params.yaml"
CLASSES = tuple("abcde")
PUBLIC = 2e-4  # what the 1e-5 inside the public programs' logarithms may change of a loss


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(SEEDS, st.integers(1, 9), st.integers(2, 7), st.sampled_from([0.1, 1.0, 20.0]))
def test_losses_on_unlabelled_predictions(seed, batch, classes, size):
    logits = size * draw(seed, batch, classes)
    rows = logits.double().tolist()
    found = information_loss(logits).item()
    assert found == pytest.approx(reference.information(rows), abs=1e-5)
    assert found == pytest.approx(reference.information(rows, reference.EPSILON), abs=PUBLIC)
    probabilities = logits.double().softmax(dim=1)
    assert certainty(probabilities).tolist() == pytest.approx(reference.certainties(probabilities.tolist()), rel=1e-6)
    if size < 20:  # else a class may be so improbable that its row of the matrix is rounding alone
        found = confusion_loss(logits, 2.0).item()
        assert found == pytest.approx(reference.confusion(rows, 2.0), abs=1e-5)
        assert found == pytest.approx(reference.confusion(rows, 2.0, reference.EPSILON), abs=PUBLIC)


def test_a_class_that_nothing_is_taken_for_stops_no_confusion():
    logits = torch.tensor([[300.0, 0.0, -300.0], [0.0, 300.0, -300.0]], requires_grad=True)
    loss = confusion_loss(logits, 1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@settings(max_examples=60)
@given(SEEDS, st.integers(2, 40), st.integers(2, 6), st.sampled_from([0.3, 1.0, 5.0]))
def test_pseudo_labels_of_shot(seed, images, classes, apart):
    centres, of = draw(seed, classes, 8), torch.arange(images) % classes
    features = apart * centres[of] + draw(seed + 1, images, 8)
    logits = features @ centres.T / 4 + draw(seed + 2, images, classes)
    expected = reference.shot_labels(features.double().numpy(), logits.double().numpy())
    assert centre_labels(features, logits).tolist() == expected


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.5, 1.0])
def test_the_reversal_is_that_of_the_paper(progress):
    decayed = math.exp(-10 * progress)
    assert reversal(progress) == pytest.approx((1 - decayed) / (1 + decayed), abs=1e-12)


FORMS = {
    "dann": {"conditioned": False},
    "cdan": {},
    "cdan+e": {"entropy_conditioning": True},
    "at random": {"widest": 10, "random_width": 6},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_the_adversary_and_its_gradients(form, progress):
    torch.manual_seed(3)
    adversary = Adversary(8, 5, Adversarial(hidden=16, **FORMS[form]), seed=0)
    features, logits = draw(0, 14, 8).requires_grad_(), draw(1, 14, 5).requires_grad_()
    loss = adversary(features, logits, progress)
    loss.backward()
    assert logits.grad is None  # no gradient flows through the predictions

    state = {key: value.detach().double().requires_grad_() for key, value in adversary.discriminator.named_parameters()}
    wanted = features.detach().double().requires_grad_()
    expected = reference.adversarial(state, *restated_joint(adversary, form, wanted, logits.detach(), progress))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    assert (features.grad.double() - wanted.grad).abs().max() <= 1e-5 * max(1e-3, wanted.grad.abs().max())
    for name, weight in adversary.discriminator.named_parameters():
        assert (weight.grad.double() - state[name].grad).abs().max() <= 1e-5, name
    if progress == 0:
        assert not features.grad.any()


def restated_joint(adversary, form: str, features: Tensor, logits: Tensor, progress: float):
    """What the discriminator sees in float64, the reversal's factor, and the images' weights."""
    probabilities = [reference.softmax(row) for row in logits.double().tolist()]
    rows = torch.tensor(probabilities, dtype=torch.float64)
    if form == "dann":
        joint = features
    elif form == "at random":
        left, right = adversary.of_features.double(), adversary.of_classes.double()
        joint = torch.stack([(f @ left) * (p @ right) / 6**0.5 for f, p in zip(features, rows, strict=True)])
    else:
        joint = torch.stack([torch.cat([p * f for p in row]) for f, row in zip(features, rows, strict=True)])
    weights = torch.tensor(reference.certainties(probabilities)) if form == "cdan+e" else None
    return joint, reversal(progress), weights


def test_products_are_taken_at_random_where_they_are_wide():
    assert not Adversary(8, 512, Adversarial(), seed=0).at_random  # 4096, as in the paper
    wide = Adversary(8, 513, Adversarial(), seed=0)
    assert wide.at_random
    assert wide.discriminator[0].in_features == 1024
    again, other = (Adversary(8, 513, Adversarial(), seed=seed) for seed in (0, 1))
    assert torch.equal(wide.of_features, again.of_features)
    assert not torch.equal(wide.of_features, other.of_features)
    assert wide.of_features.std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("method", ["shot", "cdan", "mic"])
def test_a_whole_step(method):
    """The losses, their sum, and its gradient in every parameter of the classifier."""
    params = load_params(PARAMS)
    recipe, chosen = params.adaptation("digits", method), params.method(method)
    torch.manual_seed(0)
    classifier = Classifier(Description(MODEL, CLASSES)).train()
    torch.nn.init.normal_(classifier.head.weight)
    kind = load_kind(chosen.kind)(classifier, recipe, chosen, None, 0, Compute(torch.device("cpu")))
    (batch,) = kind.made_up_batches(10)
    losses, total = kind.losses(batch, 0.4)
    total.backward()
    found = {name: p.grad.clone() for name, p in classifier.named_parameters() if p.grad is not None}
    assert ("head.weight" in found) == (method != "shot")
    assert "neck.bias" not in found

    classifier.zero_grad(set_to_none=True)
    expected = RESTATED[method](kind, batch, 0.4)
    assert losses.keys() == expected.keys()
    for name, loss in expected.items():
        assert losses[name].item() == pytest.approx(loss.item(), rel=1e-4, abs=1e-6), name
    weights = {"shot": {"pseudo_labels": 0.3}}.get(method, {})
    restated = sum(weights.get(name, 1.0) * loss for name, loss in expected.items())
    assert total.item() == pytest.approx(restated.item(), rel=1e-4, abs=1e-6)
    restated.backward()
    largest = max(p.grad.abs().max() for p in classifier.parameters() if p.grad is not None)
    for name, p in classifier.named_parameters():
        assert (name in found) == (p.grad is not None), name
        if p.grad is not None:  # softmax cancels a key's bias: only rounding is left there
            assert (found[name] - p.grad).abs().max() <= 1e-3 * p.grad.abs().max() + 1e-5 * largest, name


def shot(kind, batch, _passed: float) -> dict[str, Tensor]:
    images, labels = batch
    logits = kind.classifier(images).double()
    p = torch.softmax(logits, dim=1)
    each, mean = -(p * p.log()).sum(dim=1).mean(), p.mean(dim=0)
    return {
        "information": each + (mean * mean.log()).sum(),
        "pseudo_labels": reference.cross_entropy(logits, labels),
    }


def cdan(kind, batch, passed: float, weighted: bool = True) -> dict[str, Tensor]:
    features = kind.classifier.features(torch.cat([batch.source, batch.target]))
    logits = kind.classifier.classify(features)
    form = "cdan+e" if weighted else "cdan"
    joint = restated_joint(kind.adversary, form, features.double(), logits.detach(), passed)
    state = {name: weight.detach().double() for name, weight in kind.adversary.discriminator.named_parameters()}
    return {
        "source": reference.cross_entropy(logits[: len(batch.source)], batch.labels),
        "adversarial": reference.adversarial(state, *joint),
    }


def mic(kind, batch, passed: float) -> dict[str, Tensor]:
    images, keep = batch
    losses = cdan(kind, images, passed, weighted=False)
    of_target = kind.classifier(torch.cat([images.source, images.target]))[len(images.source) :].double()
    p = torch.softmax(of_target / 2, dim=1)
    weights = torch.tensor(reference.certainties(p.tolist()), dtype=torch.float64)
    matrix = (p * weights[:, None]).T @ p
    matrix = matrix / matrix.sum(dim=1)  # divides columns, as the public program does: the matrix is symmetric
    taught = torch.softmax(kind.classifier(images.target).detach().double(), dim=1)  # at first the teacher is a copy
    logs = torch.log_softmax(kind.classifier(masked(images.target, keep)).double(), dim=1)
    chosen = taught.argmax(dim=1)
    each = [-taught[i, c] * logs[i, c] for i, c in enumerate(chosen.tolist())]
    return losses | {
        "confusion": (matrix.sum() - torch.trace(matrix)) / len(matrix),
        "masking": torch.stack(each).mean(),
    }


RESTATED = {"shot": shot, "cdan": cdan, "mic": mic}


def test_the_restatement_itself_knows_simple_cases():
    assert reference.information([[0.0, 0.0]]) == pytest.approx(0)  # unsure, and as unsure in the mean
    assert reference.information([[50.0, 0.0], [0.0, 50.0]]) == pytest.approx(-math.log(2))
    assert reference.confusion([[0.0, 0.0]], 1.0) == pytest.approx(0.5)
    assert reference.shot_labels(np.array([[1.0, 0], [0.9, 0.1], [0, 1]]), np.array([[9.0, 0], [9, 0], [0, 9]])) == [
        0,
        0,
        1,
    ]
