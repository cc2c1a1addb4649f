"""CDTrans exactly: our forward, step, pseudo labels and pairs against what the official program computed.

Run as a program, this prints the largest errors, as docs/cdtrans.md has them.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dacsm.adaptation.pairing import agreeing_pairs, centre_labels, nearest_over_scales
from dacsm.config.params import Optimiser
from dacsm.methods.cdtrans.losses import cdtrans_losses
from dacsm.models.classifier import Classifier, Description
from dacsm.models.official import describe, official_name, to_classifier
from dacsm.models.plain_vit import embed, resize_position
from dacsm.models.three_stream import Streams, stream_tokens, three_stream
from dacsm.training.optim import build_optimiser, set_learning_rate

PARITY = Path(os.environ.get("DACSM_PARITY", Path(__file__).parents[2] / "shared" / "parity"))
SGD = Optimiser(name="sgd", learning_rate=0.008, weight_decay=1e-4, schedule="cdtrans", warmup_epochs=10, clip_norm=1)
LARGEST: dict[str, tuple[float, float]] = {}  # what was compared: the largest error so far, its bound


def tensors(name: str) -> dict:
    path = PARITY / f"{name}.pt"
    if not path.is_file():
        pytest.skip(f"{path} is not there (set DACSM_PARITY to its folder)")
    return torch.load(path, weights_only=True)


def classifier_of(state: dict[str, Tensor]) -> Classifier:
    return to_classifier(state, describe(state, heads=4, drop_path=0))


def assert_near(what: str, found: Tensor | float, expected: Tensor | float, bound: float) -> None:
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    assert found.shape == expected.shape
    error = (found.double() - expected.double()).abs().max().item()
    LARGEST[what] = max(error, LARGEST.get(what, (0.0, 0.0))[0]), bound
    assert error <= bound, what


def class_tokens(streams: Streams) -> tuple[Tensor, ...]:
    return tuple(tokens[:, 0] for tokens in (streams.source_tokens, streams.target_tokens, streams.mix_tokens))


@torch.no_grad()
def test_tokens_of_the_three_streams_after_each_block():
    saved = tensors("backbone_eval")
    classifier = classifier_of(saved["state_dict"])
    _embedded, *layers = stream_tokens(classifier, saved["inputs"]["xs"], saved["inputs"]["xt"])
    assert len(layers) == len(saved["layers"])
    for found, expected in zip(layers, saved["layers"], strict=True):
        for tokens, official_tokens in zip(found.chunk(3), expected, strict=True):
            assert_near("tokens after each block", tokens, official_tokens, 5e-6)


@pytest.mark.parametrize("patches", [True, False])
@torch.no_grad()
def test_class_tokens_of_the_three_streams(patches):
    saved = tensors("backbone_eval")
    classifier = classifier_of(saved["state_dict"])
    xs, xt = saved["inputs"]["xs"], saved["inputs"]["xt"]
    found = class_tokens(three_stream(classifier, xs, xt, patches=patches))
    for tokens, stream in zip(found, ("source", "target", "mix"), strict=True):
        assert_near("class tokens after the final norm", tokens, saved[f"cls_{stream}"], 5e-6)
    for images, expected in zip((xs, xs), saved["same_image"][:2], strict=True):
        same = class_tokens(three_stream(classifier, images, images, patches=patches))
        assert_near("class tokens, one image in both streams", torch.stack(same), torch.stack([expected] * 3), 5e-6)
    assert_near("class token of the target stream alone", classifier.class_token(xt), saved["cls_target_only"], 5e-6)


@pytest.mark.parametrize("patches", [True, False])
def test_one_training_step(patches):
    saved = tensors("train_step")
    classifier = classifier_of(saved["state_before"]).train()
    inputs = saved["inputs"]
    seen = []  # what the neck takes and gives, stream by stream
    classifier.neck.register_forward_hook(lambda _neck, taken, given: seen.append((taken[0], given)))
    optimiser = build_optimiser(SGD, [classifier])
    set_learning_rate(optimiser, SGD, epochs=40, epoch=saved["epoch"], fraction=0)
    assert_groups(classifier, optimiser, saved)

    streams = three_stream(classifier, inputs["xs"], inputs["xt"], patches=patches)
    source, mix, target = seen
    for (taken, given), stream in zip((source, target, mix), range(3), strict=True):
        assert_near("features before the neck", taken, saved["feats"][stream], 2e-5)
        assert_near("features after the neck", given, saved["bn_feats"][stream], 2e-5)
    logits = (streams.source_logits, streams.target_logits, streams.mix_logits)
    for found, expected in zip(logits, saved["logits"], strict=True):
        assert_near("logits in training", found, expected, 2e-5)
    losses = cdtrans_losses(streams, inputs["ys"], inputs["yt"])
    for name, theirs in (("source", "source_ce"), ("target", "target_ce"), ("distillation", "distill")):
        assert_near("losses", losses[name].item(), saved["losses"][theirs], 2e-5)

    sum(losses.values()).backward()
    gradients = {official_name(name): p.grad for name, p in classifier.named_parameters() if p.grad is not None}
    assert gradients.keys() == saved["grads"].keys()
    for name, expected in saved["grads"].items():
        assert_near("gradients", gradients[name], expected, 2e-3)
    norm = torch.nn.utils.clip_grad_norm_(classifier.parameters(), SGD.clip_norm)
    assert_near("norm of all gradients", norm.item(), saved["grad_norm"], 1e-4 * saved["grad_norm"])
    optimiser.step()
    for name, value in classifier.state_dict().items():
        name = official_name(name)
        if name in saved["bn_after"]:
            expected = saved["bn_after" if "running" in name else "state_after"][name]
        else:
            expected = saved["state_after"][name]
        what = "the neck's running statistics" if "running" in name else "parameters after the step"
        assert_near(what, value, expected, 1e-6)


def assert_groups(classifier: Classifier, optimiser: torch.optim.Optimizer, saved: dict) -> None:
    """The learning rate and weight decay of every parameter that gets a gradient."""
    names = {parameter: official_name(name) for name, parameter in classifier.named_parameters()}
    found = {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in optimiser.param_groups
        for parameter in group["params"]
    }
    expected = {g["name"]: (g["lr"], g["weight_decay"]) for g in saved["param_groups"] if g["name"] in saved["grads"]}
    assert found.keys() == expected.keys()
    for name, settings in expected.items():
        assert_near("learning rates and weight decay", torch.tensor(found[name]), torch.tensor(settings), 1e-12)


def test_pseudo_labels_and_pairs():
    saved = tensors("pseudo_label")
    pseudo_labels = centre_labels(saved["tgt_feat"], saved["tgt_logits"])
    assert_near("pseudo labels", pseudo_labels, saved["pseudo"], 0)
    target_of_source, source_of_target = nearest_over_scales(saved["src_feat"], [saved["tgt_feat"]])
    assert_near("nearest neighbours, both ways", target_of_source, saved["nearest_target_of_source"], 0)
    assert_near("nearest neighbours, both ways", source_of_target, saved["nearest_source_of_target"], 0)
    pairs = agreeing_pairs(target_of_source, source_of_target, saved["src_label"], pseudo_labels)
    found = np.stack([pairs.source, pairs.target, pairs.source_labels, pairs.pseudo_labels], axis=1)
    assert_near("pairs and their labels, in order", torch.from_numpy(found), saved["pairs_filtered"], 0)
    agree = saved["pairs_all"][:, 2] == saved["pairs_all"][:, 3]
    assert torch.equal(saved["pairs_all"][agree], saved["pairs_filtered"])


@pytest.mark.parametrize(("key", "grid"), [("same", (14, 14)), ("to16x16", (16, 16)), ("to16x8", (16, 8))])
def test_position_embedding_resized(key, grid):
    saved = tensors("pos_embed")
    assert_near("position embedding, resized", resize_position(saved["src"], (14, 14), grid), saved[key], 1e-6)


def test_embedding_is_timms():
    model = describe({}, classes=("a", "b")).model.model_copy(
        update={"image_size": 32, "dim": 8, "depth": 1, "heads": 2}
    )
    backbone = Classifier(Description(model, ("a", "b"))).eval().backbone
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(embed(backbone, images), backbone._pos_embed(backbone.patch_embed(images)))


if __name__ == "__main__":
    pytest.main([__file__, "--quiet"])
    from test_cdtrans_parity import LARGEST  # of the module that pytest ran

    print("\n| what | largest error | bound |\n|---|---|---|")
    for what, (error, bound) in LARGEST.items():
        print(f"| {what} | {error:.1e} | {bound:.1e} |" if bound else f"| {what} | equal | equal |")
