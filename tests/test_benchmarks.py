"""The benchmarks measure what they say: the plain step is ours, operations are counted, a missed bound ends with 1."""

import pytest
import torch
from small_model import MODEL
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import pairing as pairing_benchmark
from benchmarks.kills import write_project
from benchmarks.plain_step import plain_three_stream
from benchmarks.report import Measurement, in_fresh_process, report
from benchmarks.step import CLASSES, FORMS, operations
from dacsm.config.datasets import load_dataset
from dacsm.config.params import load_params
from dacsm.methods.cdtrans.losses import cdtrans_losses
from dacsm.models import plain_vit
from dacsm.models.classifier import Classifier, Description
from dacsm.models.precision import autocast
from dacsm.models.three_stream import three_stream

LOGITS = ("source_logits", "mix_logits", "target_logits")


def network(**changes) -> Classifier:
    torch.manual_seed(0)
    classifier = Classifier(Description(MODEL.model_copy(update=changes), CLASSES))
    torch.nn.init.normal_(classifier.head.weight)  # else logits are almost 0, and so is any difference
    return classifier.train()


def images() -> torch.Tensor:
    return torch.randn(2, 4, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def loss(classifier: Classifier, form: str, precision: str = "float32") -> torch.Tensor:
    with autocast(torch.device("cpu"), precision):
        streams = FORMS[form](classifier, *images())
    return sum(cdtrans_losses(streams, *torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])).values())


def gradient(form: str, precision: str = "float32") -> torch.Tensor:
    """Of all parameters, one after another."""
    classifier = network()
    loss(classifier, form, precision).backward()
    return torch.cat([p.grad.flatten() for p in classifier.parameters() if p.requires_grad])


def distance(form: str, precision: str) -> float:
    """From the plain form's gradient in float32, relative to its length."""
    exact = gradient("plain")
    return ((gradient(form, precision) - exact).norm() / exact.norm()).item()


def test_the_plain_form_has_the_same_logits_and_gradients():
    streams, plain = three_stream(network(), *images()), plain_three_stream(network(), *images())
    for name in LOGITS:
        torch.testing.assert_close(getattr(plain, name), getattr(streams, name), rtol=1e-5, atol=1e-4)
    assert distance("ours", "float32") < 1e-5


def test_bfloat16_is_as_near_to_float32_as_the_plain_form_is():
    assert 0 < distance("ours", "bfloat16") < 1.5 * distance("plain", "bfloat16")


def test_both_forms_of_attention_agree(monkeypatch):
    """In bfloat16 the one written out is taken on a CPU: it is within rounding of the fused one."""
    queries, keys, values = torch.randn(3, 2, 3, 17, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    fused = torch.nn.functional.scaled_dot_product_attention
    expected = fused(queries, keys, values, scale=0.3)
    called = []
    monkeypatch.setattr(plain_vit.F, "scaled_dot_product_attention", lambda *a, **k: called.append(1) or fused(*a, **k))
    torch.testing.assert_close(plain_vit.attend(queries, keys, values, 0.3), expected, rtol=0.03, atol=0.03)
    assert not called
    plain_vit.attend(queries.float(), keys.float(), values.float(), 0.3)
    assert called


@pytest.mark.parametrize("form", FORMS)
def test_operations_are_those_that_torch_counts(form):
    classifier = network()
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        loss(classifier, form).backward()
    assert operations(classifier, 4, lean=form == "ours") == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_neighbours_that_differ_are_counted(monkeypatch):
    cpu = ((90, 80), "cpu", (64, 64))
    assert pairing_benchmark.disagreements(*cpu) == 0
    wrong = torch.full((90,), 79), torch.full((80,), 89)
    monkeypatch.setattr(pairing_benchmark.pairing, "nearest_over_scales", lambda *_: wrong)
    assert pairing_benchmark.disagreements(*cpu) > 160


def test_a_missed_bound_is_said_and_ends_with_1(capsys):
    kept, missed = Measurement("time", 1.0, "s", 1.0), Measurement("memory", 2.0, "GB", 0.5)
    assert report("a", [kept]) == 0
    assert report("b", [kept, missed]) == 1
    assert report("c", [Measurement("broken", float("nan"), "", 1.0)]) == 1
    assert "| memory | 2 GB       | at most 0.5 | missed |" in capsys.readouterr().out


def test_memory_of_the_search_is_that_of_its_process():
    _held = torch.ones(50_000_000)  # 200 MB that this process has, and that one does not
    memory, on_gpu, spent, bare = in_fresh_process(pairing_benchmark.search, (300, 200), 1, "cpu")
    assert 0 <= memory < 0.1
    assert on_gpu == 0
    assert spent.seconds > 0 < bare.seconds


def test_the_killed_project_has_settings_of_its_own(tmp_path, monkeypatch):
    write_project(tmp_path, "adapt", per_class=6, epochs=2)
    monkeypatch.chdir(tmp_path)  # without the presets, which the other datasets' settings name
    assert load_params(tmp_path / "params.yaml").datasets == ("few",)
    assert load_dataset("few").domains["mnist"].images == 60
