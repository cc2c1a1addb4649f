"""CDTrans exactly: our forward, step, pseudo labels and pairs against what the official program computed."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dacsm.models.backbone import embed, resize_position
from dacsm.models.classifier import Classifier, Description
from dacsm.models.three_stream import three_stream
from dacsm.pairing import agreeing_pairs, centre_labels, nearest_over_sizes
from dacsm.params import Model, Optimiser
from dacsm.training.losses import cdtrans_losses
from dacsm.training.optim import build_optimiser, set_learning_rate

PARITY = Path(os.environ.get("DACSM_PARITY", Path(__file__).parents[2] / "shared" / "parity"))
SGD = Optimiser(name="sgd", learning_rate=0.008, weight_decay=1e-4, schedule="cdtrans", warmup_epochs=10, clip_norm=1)
TINY = Model(
    name="vit_tiny_patch16_224",
    weights="none",
    image_size=64,
    resize=64,
    channels=3,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    patch_size=16,
    dim=48,
    depth=3,
    heads=4,
    drop_path=0,
)


def tensors(name: str) -> dict:
    path = PARITY / f"{name}.pt"
    if not path.is_file():
        pytest.skip(f"{path} is not there (set DACSM_PARITY to its folder)")
    return torch.load(path, weights_only=True)


def official_classifier(state: dict[str, torch.Tensor]) -> Classifier:
    """Our classifier with the weights of an official state dict; the unused `fc` and absent head are left out."""
    names = {"base.": "backbone.", "bottleneck.": "neck.", "classifier.": "head."}
    classifier = Classifier(Description(TINY, tuple("abcdefg")))
    own = classifier.state_dict()
    for key, value in state.items():
        for old, new in names.items():
            if key.startswith(old) and not key.startswith("base.fc"):
                own[new + key.removeprefix(old)] = value
    classifier.load_state_dict(own)
    return classifier


def assert_near(found: torch.Tensor, expected: torch.Tensor, bound: float) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max().item() <= bound


def test_class_tokens_of_the_three_streams():
    saved = tensors("backbone_eval")
    classifier = official_classifier(saved["state_dict"]).eval()
    xs, xt = saved["inputs"]["xs"], saved["inputs"]["xt"]
    with torch.no_grad():
        assert_near(classifier.tokens(xt)[:, 0], saved["cls_target_only"], 5e-6)
        streams = three_stream(classifier, xs, xt)
    assert_near(streams.source_tokens[:, 0], saved["cls_source"], 5e-6)
    assert_near(streams.target_tokens[:, 0], saved["cls_target"], 5e-6)
    assert_near(streams.mix_tokens[:, 0], saved["cls_mix"], 5e-6)


def test_one_training_step():
    saved = tensors("train_step")
    classifier = official_classifier(saved["state_before"]).train()
    inputs = saved["inputs"]
    optimiser = build_optimiser(SGD, [classifier])
    set_learning_rate(optimiser, SGD, epochs=40, epoch=1, share=0)
    streams = three_stream(classifier, inputs["xs"], inputs["xt"])
    for found, expected in zip(
        (streams.source_logits, streams.target_logits, streams.mix_logits), saved["logits"], strict=True
    ):
        assert_near(found, expected, 2e-5)
    losses = cdtrans_losses(streams, inputs["ys"], inputs["yt"])
    for name, official in (("source", "source_ce"), ("target", "target_ce"), ("distillation", "distill")):
        assert losses[name].item() == pytest.approx(saved["losses"][official], abs=2e-5)
    sum(losses.values()).backward()
    for name, parameter in classifier.named_parameters():
        official = name.replace("backbone.", "base.").replace("neck.", "bottleneck.").replace("head.", "classifier.")
        if parameter.requires_grad:
            assert_near(parameter.grad, saved["grads"][official], 2e-3)
    norm = torch.nn.utils.clip_grad_norm_(classifier.parameters(), SGD.clip_norm)
    assert norm.item() == pytest.approx(saved["grad_norm"], rel=1e-4)
    optimiser.step()
    after = official_classifier(saved["state_after"]).state_dict()
    for name, value in classifier.state_dict().items():
        assert_near(value.float(), after[name].float(), 1e-6 if "running" not in name else 2e-5)


def test_pseudo_labels_and_pairs():
    saved = tensors("pseudo_label")
    pseudo_labels = centre_labels(saved["tgt_feat"], saved["tgt_logits"])
    assert torch.equal(pseudo_labels, saved["pseudo"])
    target_of_source, source_of_target = nearest_over_sizes(saved["src_feat"], [saved["tgt_feat"]])
    assert torch.equal(target_of_source, saved["nearest_target_of_source"])
    assert torch.equal(source_of_target, saved["nearest_source_of_target"])
    pairs = agreeing_pairs(target_of_source, source_of_target, saved["src_label"], pseudo_labels)
    found = np.stack([pairs.source, pairs.target, pairs.source_labels, pairs.pseudo_labels], axis=1)
    assert np.array_equal(found, saved["pairs_filtered"].numpy())


@pytest.mark.parametrize(("key", "grid"), [("same", (14, 14)), ("to16x16", (16, 16)), ("to16x8", (16, 8))])
def test_position_embedding_resized(key, grid):
    saved = tensors("pos_embed")
    assert_near(resize_position(saved["src"], (14, 14), grid), saved[key], 1e-6)


def test_embedding_is_timms():
    classifier = Classifier(Description(TINY, ("a", "b"))).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    backbone = classifier.backbone
    with torch.no_grad():
        assert torch.equal(embed(backbone, images), backbone._pos_embed(backbone.patch_embed(images)))
