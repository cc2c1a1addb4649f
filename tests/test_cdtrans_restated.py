"""CDTrans exactly: our forward, step, schedule, pseudo labels and pairs against a plain restatement in float64."""

from collections.abc import Iterable

import cdtrans_pairs_reference as pairs_reference
import cdtrans_reference as reference
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from dacsm.adaptation import pairing
from dacsm.adaptation.pairing import agreeing_pairs, centre_labels, nearest_over_scales
from dacsm.config.params import Optimiser
from dacsm.methods.cdtrans.losses import cdtrans_losses
from dacsm.models.classifier import Classifier
from dacsm.models.official import describe, official_name, to_classifier
from dacsm.models.plain_vit import resize_position
from dacsm.models.three_stream import stream_tokens, three_stream
from dacsm.training.optim import build_optimiser, set_learning_rate

SEEDS = st.integers(0, 10_000)
# name, sizes of the network, heads, pairs; more than 16 pairs, since torch draws those in another way
SHAPES = {
    "three blocks": ({}, 3, 5),
    "one head, one channel": ({"channels": 1, "depth": 2, "side": 2}, 1, 4),
    "many pairs": ({"width": 16, "depth": 4, "classes": 3, "side": 2}, 4, 19),
    "one block": ({"width": 8, "depth": 1, "patch": 2}, 2, 6),
}
shapes = pytest.mark.parametrize("shape", SHAPES)
# epochs and base rate of both stages in CDTrans' tables
RECIPES = {
    "Office-31, Office-Home, DomainNet: pretraining": (10, 0.008),
    "VisDA: pretraining": (20, 0.0005),
    "Office-31, Office-Home, DomainNet: adaptation": (40, 0.008),
    "VisDA: adaptation": (40, 0.00005),
}


class Case:
    """A random network, ours in float32 and its official state in float64, and a batch for both."""

    def __init__(self, shape: str, drop_path: float = 0.0, seed: int = 0):
        sizes, self.heads, self.batch = SHAPES[shape]
        state = reference.random_state(seed, **sizes)
        description = describe(state, heads=self.heads, drop_path=drop_path, recipe=one_channel(state))
        self.ours: Classifier = to_classifier(state, description)
        self.state = reference.float64(state)
        generator = torch.Generator().manual_seed(seed + 1)
        model = description.model
        self.source, self.target = torch.randn(
            2, self.batch, model.channels, model.image_size, model.image_size, generator=generator
        )
        self.source_labels, self.pseudo_labels = torch.randint(
            0, len(description.classes), (2, self.batch), generator=generator
        )

    def restated(self, last_rate: float = 0.0, uniform=None) -> list[dict[str, Tensor]]:
        source, target = self.source.double(), self.target.double()
        return reference.three_streams(self.state, self.heads, source, target, last_rate, uniform)


def one_channel(state: reference.State):
    """Settings with a mean and a deviation, for a network of one channel."""
    if state["base.patch_embed.proj.weight"].shape[1] != 1:
        return None
    described = describe({**state, "base.patch_embed.proj.weight": torch.zeros(8, 3, 4, 4)}, heads=1).model
    return described.model_copy(update={"channels": 1, "mean": (0.5,), "std": (0.5,)})


def assert_near(found: Tensor, expected: Tensor, bound: float) -> None:
    """Equal within `bound` of the largest value (or of 1, where all are smaller)."""
    assert found.shape == expected.shape
    assert (found.double() - expected).abs().max() <= bound * max(1.0, expected.abs().max())


def gradients(state: reference.State, loss: Tensor) -> reference.State:
    names = reference.trained(state)
    return dict(zip(names, torch.autograd.grad(loss, [state[name] for name in names]), strict=True))


def assert_gradients(ours: Classifier, expected: reference.State) -> None:
    """Every parameter has the restatement's gradient within rounding, and no other parameter has one."""
    found = {official_name(name): p.grad for name, p in ours.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        # softmax cancels a key's bias, and the neck most of the final norm: only rounding is left there
        bound = 1e-3 * gradient.abs().max() + 1e-4 * largest
        assert (found[name] - gradient).abs().max() <= bound, name


def require_gradients(state: reference.State) -> None:
    for name in reference.trained(state):
        state[name] = state[name].detach().requires_grad_()


def as_stages(tokens: Iterable[Tensor]) -> list[tuple[Tensor, ...]]:
    return [stage.chunk(3) for stage in tokens]


@shapes
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_tokens_after_each_block(shape, dtype, bound):
    case = Case(shape)
    with torch.no_grad():
        found = as_stages(stream_tokens(case.ours.to(dtype), case.source.to(dtype), case.target.to(dtype)))
    expected = case.restated()
    assert len(found) == len(expected)
    for layer, stage in zip(found, expected, strict=True):
        for tokens, stream in zip(layer, reference.STREAMS, strict=True):
            assert_near(tokens, stage[stream], bound)


@shapes
def test_evaluation_is_the_plain_target_stream_with_running_statistics(shape):
    case = Case(shape)
    with torch.no_grad():
        found = case.ours(case.target)
    tokens = reference.plain(case.state, case.heads, case.target.double())
    last = case.restated()[-1]["target"]
    assert torch.equal(tokens, reference.norm(case.state, "base.norm", last)[:, 0])
    features = reference.neck_in_evaluation(case.state, tokens)
    assert_near(case.ours.features(case.target).detach(), features, 1e-5)
    assert_near(found, features @ case.state["classifier.weight"].T, 1e-5)


@pytest.mark.parametrize("last_rate", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@shapes
def test_dropped_paths_of_the_three_streams(shape, dtype, last_rate):
    case = Case(shape, drop_path=last_rate)
    case.ours.to(dtype).train()
    torch.manual_seed(7)
    with torch.no_grad():
        *_, found = as_stages(stream_tokens(case.ours, case.source.to(dtype), case.target.to(dtype)))
    uniform = reference.draws(torch.Generator().manual_seed(7), case.batch, dtype)
    expected = case.restated(last_rate, uniform)[-1]
    for tokens, stream in zip(found, reference.STREAMS, strict=True):
        assert_near(tokens, expected[stream], 1e-5 if dtype is torch.float32 else 1e-7)  # a rate is float32


@pytest.mark.parametrize(("last_rate", "patches"), [(0.0, True), (0.0, False), (0.4, False)])
@shapes
def test_two_adaptation_steps(shape, last_rate, patches):
    case = Case(shape, drop_path=last_rate)
    ours = case.ours.train()
    settings_ = sgd(0.008)
    optimiser = build_optimiser(settings_, [ours])
    uniform = reference.draws(torch.Generator().manual_seed(11), case.batch)
    torch.manual_seed(11)
    momenta: reference.State = {}
    for epoch in (1, 12):
        set_learning_rate(optimiser, settings_, epochs=40, epoch=epoch, fraction=0)
        require_gradients(case.state)
        logits = reference.training_logits(case.state, case.restated(last_rate, uniform)[-1])
        expected = reference.losses(logits, case.source_labels, case.pseudo_labels)

        streams = three_stream(ours, case.source, case.target, patches=patches)
        for stream in reference.STREAMS:
            assert_near(getattr(streams, f"{stream}_logits"), logits[stream], 3e-5)
        found = cdtrans_losses(streams, case.source_labels, case.pseudo_labels)
        for name, loss in expected.items():
            assert found[name].item() == pytest.approx(loss.item(), rel=1e-4, abs=1e-5)
        optimiser.zero_grad()
        sum(found.values()).backward()
        step_both(case, optimiser, sum(expected.values()), momenta, epoch)


def step_both(case: Case, optimiser, loss: Tensor, momenta: reference.State, epoch: int) -> None:
    """One clipped step of ours, whose gradients are there, and of the restatement; before and after they agree."""
    ours = case.ours
    expected = gradients(case.state, loss)
    assert_gradients(ours, expected)
    norm = torch.nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
    assert norm.item() == pytest.approx(reference.clipped_norm(expected)[1].item(), rel=1e-4)
    optimiser.step()
    with torch.no_grad():
        reference.sgd_step(case.state, expected, momenta, 0.008, epoch, 40)
    for name, value in ours.state_dict().items():
        assert_near(value, case.state[official_name(name)].detach(), 1e-6 if "running" not in name else 1e-5)


@pytest.mark.parametrize("last_rate", [0.0, 0.4])
@shapes
def test_a_pretraining_step(shape, last_rate):
    case = Case(shape, drop_path=last_rate)
    ours = case.ours.train()
    optimiser = build_optimiser(sgd(0.008), [ours])
    set_learning_rate(optimiser, sgd(0.008), epochs=40, epoch=1, fraction=0)
    torch.manual_seed(5)
    logits = ours(case.source)
    F.cross_entropy(logits, case.source_labels, label_smoothing=0.1).backward()

    require_gradients(case.state)
    uniform = reference.draws(torch.Generator().manual_seed(5), case.batch)
    tokens = reference.plain(case.state, case.heads, case.source.double(), last_rate, uniform)
    expected = reference.neck_in_training(case.state, tokens) @ case.state["classifier.weight"].T
    assert_near(logits.detach(), expected.detach(), 3e-5)
    loss = reference.cross_entropy(expected, case.source_labels, smoothing=0.1)
    step_both(case, optimiser, loss, {}, epoch=1)


def sgd(base: float) -> Optimiser:
    return Optimiser(
        name="sgd", learning_rate=base, weight_decay=1e-4, schedule="cdtrans", warmup_epochs=10, clip_norm=1
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_rate_of_every_parameter_in_every_epoch(recipe):
    epochs, base = RECIPES[recipe]
    ours = Case("one block").ours
    optimiser = build_optimiser(sgd(base), [ours])
    names = {parameter: name for name, parameter in ours.named_parameters()}
    for epoch in range(1, epochs + 1):
        for share in (0, 0.7):  # it does not change within an epoch
            set_learning_rate(optimiser, sgd(base), epochs, epoch, share)
            rates = {names[p]: group["lr"] for group in optimiser.param_groups for p in group["params"]}
            assert rates.keys() == {name for name in names.values() if name != "neck.bias"}
            for name, found in rates.items():
                assert found == pytest.approx(reference.rate(base, epoch, epochs, "bias" in name), rel=1e-12)


def test_the_restated_rates_are_those_of_the_description():
    shares = [round(reference.rate(1, epoch, 10), 3) for epoch in range(1, 11)]
    assert shares == [0.109, 0.208, 0.307, 0.406, 0.505, 0.604, 0.703, 0.802, 0.901, 0.002]
    assert [round(reference.rate(1, epoch, 20), 3) for epoch in (9, 10, 20)] == [0.901, 0.501, 0.002]
    assert [round(reference.rate(1, epoch, 40), 3) for epoch in (9, 10, 40)] == [0.901, 0.854, 0.002]
    assert reference.rate(1, 40, 40, bias=True) == 0.002


@settings(max_examples=25)
@given(SEEDS, st.integers(2, 30), st.integers(2, 30), st.integers(2, 6), st.booleans())
def test_pseudo_labels_neighbours_and_pairs(seed, sources, targets, classes, ties):
    generator = torch.Generator().manual_seed(seed)
    if ties:  # exact in any arithmetic, so that the first index must win
        source, target = (torch.eye(4)[torch.randint(0, 4, (n,), generator=generator)] for n in (sources, targets))
    else:
        source, target = (torch.randn(n, 7, generator=generator) for n in (sources, targets))
    features = torch.randn(targets, 5, generator=generator)
    logits = 2 * torch.randn(targets, classes, generator=generator)
    source_labels = torch.randint(0, classes, (sources,), generator=generator)

    pseudo = pairs_reference.pseudo_labels(features, logits)
    assert centre_labels(features, logits).tolist() == pseudo
    of_source, of_target = pairs_reference.nearest(source, target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "BLOCK", 5)  # so that ties lie in different blocks too
        found = nearest_over_scales(source, [target])
    assert [index.tolist() for index in found] == [of_source, of_target]
    pairs = agreeing_pairs(*found, source_labels, torch.tensor(pseudo))
    expected = pairs_reference.pairs(of_source, of_target, source_labels.tolist(), pseudo)
    rows = np.stack([pairs.source, pairs.target, pairs.source_labels, pairs.pseudo_labels], axis=1)
    assert [tuple(row) for row in rows.tolist()] == expected


@settings(max_examples=25)
@given(SEEDS, *[st.tuples(st.integers(1, 6), st.integers(1, 6))] * 2)
def test_position_embedding_on_another_grid(seed, old, new):
    position = torch.randn(1, 1 + old[0] * old[1], 3, generator=torch.Generator().manual_seed(seed))
    assert_near(resize_position(position, old, new), pairs_reference.resized(position, old, new), 1e-6)
