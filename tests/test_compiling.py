"""`compile: true`: each block is one graph, the same for all layers and steps, and computes what the plain one does."""

import shutil
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from dacsm.config.kinds.cdtrans import Settings
from dacsm.config.params import Model, Params, parse_params
from dacsm.methods.cdtrans.parts.noise import BeneficialNoise
from dacsm.models.classifier import Classifier, Description
from dacsm.models.compiling import choose_compiling, compilable
from dacsm.models.three_stream import three_stream
from dacsm.runtime.errors import InputError

ALL = {"style": {"weight": 1}, "noise": {"weight": 1}, "source_style": {"weight": 1, "spread": 0.3}}
SIZES = {"image_size": 28, "resize": 28, "channels": 1, "patch_size": 7, "dim": 32, "heads": 2}
TRACED = "aot_eager"  # what torch compiles, forward and backward, but run without machine code of its own


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    counters.clear()
    yield
    choose_compiling(False)


def classifier(depth: int) -> Classifier:
    torch.manual_seed(0)
    sizes = SIZES | {"depth": depth}
    model = Model(name="vit_tiny_patch16_224", weights="none", mean=(0.5,), std=(0.25,), drop_path=0.3, **sizes)
    return Classifier(Description(model, ("a", "b", "c"))).train()


def trained(parts: dict, depth: int = 4, steps: int = 3) -> list[Tensor]:
    """The gradients of all weights, of a sum over a few steps."""
    network = classifier(depth)
    modules: list[nn.Module] = [network]
    noise = None
    if parts:
        noise = BeneficialNoise(network, Settings(kind="cdtrans", **parts), torch.Generator().manual_seed(0))
        modules.append(noise)
    source, target = torch.randn(2, 4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    for step in range(steps):
        if noise is not None:
            noise.progress = step / steps
        streams = three_stream(network, source, target, noise, patches=False)
        (streams.source_logits.square().sum() + streams.mix_logits.square().sum()).backward()
    network(source).square().sum().backward()  # the plain network's blocks
    return [weight.grad for module in modules for weight in module.parameters() if weight.grad is not None]


@pytest.mark.slow
@pytest.mark.parametrize(("parts", "kinds"), [({}, 3), (ALL, 4)])
def test_compiled_blocks_give_the_same_gradients(parts: dict, kinds: int) -> None:
    """First, middle and last blocks are graphs of their own, and those that restyle the source; none is broken."""
    plain = trained(parts)
    choose_compiling(True, TRACED)
    compiled = trained(parts)
    assert len(compiled) == len(plain) > 20
    assert all(torch.equal(one, other) for one, other in zip(compiled, plain, strict=True))
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == kinds + 3  # the plain network's first, middle and last blocks


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.skipif(not shutil.which("g++"), reason="needs a compiler of C++")
def test_code_for_this_machine_gives_the_same_gradients_but_for_roundings() -> None:
    plain = trained(ALL, depth=2)
    choose_compiling(True)
    compiled = trained(ALL, depth=2)
    largest = max(gradient.abs().max() for gradient in plain)
    for one, other in zip(compiled, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * largest.item())


def test_a_pass_without_gradients_is_not_compiled() -> None:
    choose_compiling(True, TRACED)
    with torch.no_grad():
        classifier(depth=1)(torch.zeros(2, 1, 28, 28))
    assert not counters["stats"]


def test_a_machine_that_cannot_compile_says_so() -> None:
    def broken(*_graph: object) -> None:
        raise RuntimeError("no working compiler")

    @compilable
    def doubled(values: Tensor) -> Tensor:
        return 2 * values

    choose_compiling(True, broken)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"cannot compile here \(.*no working compiler.*\); set the recipe's compile"):
        doubled(torch.ones(2, requires_grad=True))


def test_portable_arithmetic_is_not_compiled(portable_params: Params) -> None:
    content = portable_params.model_dump(mode="json")
    content["adapt"]["recipes"]["tiny"]["compile"] = True
    with pytest.raises(InputError, match="arithmetic is portable, but compile is true"):
        parse_params(content)
