"""The networks: what the three streams share, what the noise may touch, and what matching across scales measures."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from small_model import MODEL

from dacsm.config.kinds.cdtrans import Noise, Pyramid, Settings, Style
from dacsm.methods.cdtrans.parts.consistency import scale_loss
from dacsm.methods.cdtrans.parts.noise import (
    BeneficialNoise,
    DrawnNoise,
    LogitNoise,
    StyleTranslation,
    gaussian_divergence,
    style_of,
)
from dacsm.methods.cdtrans.parts.pyramid import pyramid_loss
from dacsm.models.backbone import build_backbone, load_weights
from dacsm.models.classifier import Classifier, Description, load_checkpoint, save_checkpoint
from dacsm.models.plain_vit import attend, embed, plain_block
from dacsm.models.three_stream import three_stream
from dacsm.runtime.errors import InputError


def classifier(**changes) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Description(MODEL.model_copy(update=changes), ("a", "b", "c")))


def images(count: int = 4, size: int = 28, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


def plain_tokens(network: Classifier, pixels: torch.Tensor) -> torch.Tensor:
    """All tokens after the final norm of the plain network."""
    tokens = embed(network.backbone, pixels)
    for block in network.backbone.blocks:
        tokens = plain_block(block, tokens)
    return network.backbone.norm(tokens)


def noise_of(network: Classifier, **parts) -> BeneficialNoise:
    noise = BeneficialNoise(network, Settings(kind="cdtrans", **parts), torch.Generator().manual_seed(0))
    noise.progress = 1.0
    return noise


def test_one_image_in_both_streams_gives_one_answer():
    streams = three_stream(classifier(), images(), images())
    torch.testing.assert_close(streams.mix_tokens, streams.target_tokens)
    torch.testing.assert_close(streams.source_tokens, streams.target_tokens)


def test_source_and_target_stream_are_the_plain_network():
    network = classifier()
    streams = three_stream(network, images(seed=1), images(seed=2))
    torch.testing.assert_close(streams.source_tokens, plain_tokens(network, images(seed=1)))
    torch.testing.assert_close(streams.target_tokens, plain_tokens(network, images(seed=2)))


@pytest.mark.parametrize("parts", [{}, {"style": {"weight": 1}, "noise": {"weight": 1}}])
def test_the_last_block_may_make_the_class_token_alone(parts):
    network = classifier()
    whole, short = (
        three_stream(network, images(seed=1), images(seed=2), noise_of(network, **parts) if parts else None, patches)
        for patches in (True, False)
    )
    for stream in ("source_logits", "mix_logits", "target_logits") if not parts else ("source_logits", "target_logits"):
        torch.testing.assert_close(getattr(short, stream), getattr(whole, stream))
    assert short.mix_tokens.shape == (4, 1, 32)
    torch.testing.assert_close(network.class_token(images()), plain_tokens(network, images())[:, 0])


def test_dropped_paths_are_drawn_stream_by_stream():
    network = classifier(drop_path=0.5).train()
    torch.manual_seed(3)
    three_stream(network, images(), images())
    state = torch.random.get_rng_state()
    torch.manual_seed(3)
    for _ in range(2 * 3 * 2):  # two blocks with a rate, three streams, two residuals; the first block has none
        torch.rand(4)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("parts", [{"style": {"weight": 1}}, {"noise": {"weight": 1}}])
def test_noise_reaches_the_mix_stream_alone(parts):
    network = classifier()
    plain = three_stream(network, images(seed=1), images(seed=2))
    noisy = three_stream(network, images(seed=1), images(seed=2), noise_of(network, **parts))
    torch.testing.assert_close(noisy.source_tokens, plain.source_tokens)
    torch.testing.assert_close(noisy.target_tokens, plain.target_tokens)
    assert (noisy.mix_tokens - plain.mix_tokens).abs().max() > 1e-3


def test_the_noise_is_learned_and_draws_from_its_own_generator():
    network = classifier()
    noise = noise_of(network, style={"weight": 1}, noise={"weight": 1})
    before = torch.random.get_rng_state()
    streams = three_stream(network, images(seed=1), images(seed=2), noise)
    (streams.mix_logits.square().sum() + noise.divergence()).backward()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in noise.parameters())


def test_a_part_of_weight_zero_is_not_built():
    assert not list(noise_of(classifier(), style={"weight": 0}, noise={"weight": 0}).parameters())


def test_softmax_cancels_noise_that_moves_all_keys_alike():
    queries, keys, values, shift = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8), torch.eye(5), torch.randn(8)
    values = values.expand(2, 3, 5, 5)
    moved = attend(queries, keys + shift, values, 0.3)
    torch.testing.assert_close(moved, attend(queries, keys, values, 0.3))


def test_logit_noise_has_the_deviation_that_it_says():
    layer = LogitNoise(8, Noise(weight=1, prior=0.7))
    with torch.no_grad():
        layer.strength.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    queries, keys_values, generator = torch.randn(1, 3, 8), torch.randn(1, 4, 16), torch.Generator().manual_seed(0)
    keys, own = keys_values[..., :8], style_of(keys_values)[1][..., :8]

    def moved() -> torch.Tensor:
        noise = DrawnNoise(0.0, None, None, layer.draw(keys, generator))
        return noise.perturb(keys_values, keys_values)[0] - keys

    draws = torch.stack([queries @ moved().transpose(1, 2) for _ in range(4000)])
    stated = (queries * layer.deviation() * own).norm(dim=2, keepdim=True).expand(1, 3, 4)  # |q ⊙ sigma ⊙ d|
    torch.testing.assert_close(draws.std(dim=0), stated, rtol=0.08, atol=0.01)
    torch.testing.assert_close(draws.mean(dim=0), torch.zeros(1, 3, 4), rtol=0, atol=0.15)


def test_noise_that_is_not_learned_has_the_priors_deviation_and_no_parameters():
    noise = noise_of(classifier(), noise={"weight": 1, "prior": 0.3, "learned": False})
    assert not list(noise.parameters())
    assert noise.divergence() is None
    assert noise.strengths() == pytest.approx([0.3] * 3)


def test_style_travels_from_the_target_to_the_source():
    translation = StyleTranslation(1.0, Style(weight=1, spread=0))
    source, target = torch.randn(2, 17, 6) * 3 + 1, torch.randn(2, 17, 6)

    def travelled(way: float) -> torch.Tensor:
        drawn = translation.draw(target[..., :3], way, torch.Generator())  # of tokens whose keys and values these are
        return torch.cat(DrawnNoise(0.0, None, drawn, None).perturb(source, target), dim=-1)

    torch.testing.assert_close(travelled(0.0), target)
    there = travelled(1.0)[:, 1:]
    torch.testing.assert_close(there.mean(dim=1), source[:, 1:].mean(dim=1))
    torch.testing.assert_close(there.std(dim=1), source[:, 1:].std(dim=1))


@given(st.floats(0.01, 10), st.floats(0.01, 10))
def test_divergence_is_least_at_the_prior(deviation, prior):
    at = gaussian_divergence(torch.tensor([deviation]), prior).item()
    assert at >= gaussian_divergence(torch.tensor([prior]), prior).item() - 1e-5


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_pyramid_prefers_a_pair_of_one_picture(seed):
    generator = torch.Generator().manual_seed(seed)
    one, other = torch.randn(3, 16, 8, generator=generator), torch.randn(3, 16, 8, generator=generator)
    chosen = Pyramid(weight=1, entropy=0)
    assert pyramid_loss(one, one, chosen) < pyramid_loss(one, other, chosen)


def test_scale_loss_leaves_the_necks_memory_alone():
    network = classifier().train()
    before = network.neck.running_mean.clone()
    loss = scale_loss(network, images(), torch.tensor([[9.0, 0, 0]]).log_softmax(dim=1).expand(4, 3))
    loss.backward()
    assert torch.equal(before, network.neck.running_mean)
    assert loss.item() > 0
    assert network.head.weight.grad.abs().sum() > 0


def test_scale_loss_is_least_where_predictions_agree_and_counts_what_is_sure():
    network = classifier().eval()
    features = network.neck.train()(network.class_token(images()))
    known = network.classify(features).detach().log_softmax(dim=1)
    assert scale_loss(network, images(), known).item() == pytest.approx(0, abs=1e-6)
    sure, unsure = (torch.tensor([[of, 0, 0]]).log_softmax(dim=1).expand(4, 3) for of in (9.0, 0.5))
    assert scale_loss(network, images(), sure) > scale_loss(network, images(), unsure) > 0


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_a_class_that_the_source_lacks_leaves_the_scale_loss_a_number(precision):
    network = classifier().train()
    known = torch.tensor([[2.0, 0.5, -torch.inf]], dtype=precision).log_softmax(dim=1).expand(4, 3)
    loss = scale_loss(network, images(), known)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    almost = torch.tensor([[2.0, 0.5, -80.0]], dtype=precision).log_softmax(dim=1).expand(4, 3)
    torch.testing.assert_close(loss, scale_loss(network, images(), almost))


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    network = classifier().eval()
    save_checkpoint(tmp_path / "model.safetensors", network.description, network.state_dict())
    back = load_checkpoint(tmp_path / "model.safetensors")
    assert back.description == network.description
    assert torch.equal(back(images()), network(images()))


def test_files_that_are_no_checkpoint(tmp_path):
    for name, make, words in (
        ("absent", lambda path: None, "was not found"),
        ("damaged", lambda path: path.write_bytes(b"no tensors here"), "cannot be read"),
        ("foreign", lambda path: save_file({"x": torch.zeros(1)}, path), "not a checkpoint of dacsm"),
    ):
        make(tmp_path / name)
        with pytest.raises(InputError, match=words):
            load_checkpoint(tmp_path / name)


SHAPE = dict.fromkeys(("patch_size", "dim", "depth", "heads"))
OTHERS = {  # a few of the networks that are not plain Vision Transformers, and their widths
    "resnet18": 512,
    "convnext_atto": 320,
    "swin_tiny_patch4_window7_224": 768,
    "vit_small_patch14_reg4_dinov2": 384,
    "mobilenetv3_small_050": 1024,
}


@pytest.mark.parametrize("name", OTHERS)
def test_any_network_of_timm_gives_features_of_its_width(name, tmp_path):
    network = classifier(name=name, image_size=56, resize=56, drop_path=0.1, **SHAPE)
    assert network.width == OTHERS[name]
    assert network.training
    seen = torch.randn(3, 1, 56, 56, generator=torch.Generator().manual_seed(0))
    network.eval()
    assert network.features(seen).shape == (3, network.width)
    assert network(seen).shape == (3, 3)
    save_checkpoint(tmp_path / "model.safetensors", network.description, network.state_dict())
    assert torch.equal(load_checkpoint(tmp_path / "model.safetensors")(seen), network(seen))
    with torch.device("meta"):
        assert Classifier(network.description).width == network.width


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"name": "vit_tiny_patch16_225"},
            "which timm does not know; name one such as vit_tiny_patch16_224",
        ),
        ({"name": "resnet18", "dim": 96}, r"model\.dim can only be set for a plain Vision Transformer, which resnet18"),
        (
            {"name": "vit_small_patch14_reg4_dinov2", "depth": 2, "heads": 2},
            r"model\.depth, model\.heads can only be set for a plain Vision Transformer, which vit_small_patch14_reg4",
        ),
        ({"name": "vgg11", "drop_path": 0.1}, r"model\.drop_path is 0\.1, but vgg11 drops no paths; set it to 0"),
        ({"name": "convnext_atto", "image_size": 16}, "'convnext_atto', which cannot be built for images of 16 pixels"),
    ],
)
def test_what_a_network_cannot_be_is_one_sentence(changes, sentence):
    with pytest.raises(InputError, match=f"^params.yaml: .*{sentence}") as caught:
        classifier(**SHAPE | changes)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_come_without_its_head(tmp_path):
    import timm

    other = timm.create_model("convnext_atto", in_chans=1, num_classes=7)
    torch.save(other.state_dict(), tmp_path / "weights.pth")
    network = classifier(name="convnext_atto", image_size=56, resize=56, **SHAPE)
    load_weights(network.backbone, str(tmp_path / "weights.pth"), "convnext_atto")
    assert torch.equal(network.backbone.head.norm.weight, other.head.norm.weight)
    assert torch.equal(network.backbone.stem[0].weight, other.stem[0].weight)
    with pytest.raises(InputError, match="do not fit resnet18"):
        load_weights(classifier(name="resnet18", **SHAPE).backbone, str(tmp_path / "weights.pth"), "resnet18")


def test_distilled_weights_lose_the_token_and_fit_another_grid(tmp_path):
    large = build_backbone(MODEL.model_copy(update={"image_size": 56}))
    state = large.state_dict() | {"dist_token": torch.zeros(1, 1, 32), "head.weight": torch.zeros(9, 32)}
    position = state["pos_embed"]
    state["pos_embed"] = torch.cat([position[:, :1], torch.full((1, 1, 32), 9.0), position[:, 1:]], dim=1)
    torch.save({"model": state}, tmp_path / "deit.pth")
    small = build_backbone(MODEL)
    load_weights(small, str(tmp_path / "deit.pth"), "tiny")
    assert torch.equal(small.blocks[0].attn.qkv.weight, large.blocks[0].attn.qkv.weight)
    assert small.pos_embed.shape == (1, 17, 32)
    assert small.pos_embed.max() < 9


def test_weights_that_do_not_fit_are_named(tmp_path):
    state = build_backbone(MODEL).state_dict()
    del state["norm.bias"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(InputError, match=r"norm\.bias is missing"):
        load_weights(build_backbone(MODEL), str(tmp_path / "part.pth"), "tiny")
