"""Portable arithmetic: products as sums in one order, and the same bytes whatever code the libraries would choose."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dacsm.config.params import Pretrain
from dacsm.models.arithmetic import FUNCTIONS, MOST_TERMS, choose_arithmetic
from dacsm.runtime import processor
from dacsm.runtime.errors import InputError
from dacsm.runtime.processor import VARIABLES, X86, hold_libraries

needs_x86 = pytest.mark.skipif(not X86, reason="portable arithmetic is for x86-64")
TRAIN = """
import os, sys
from pathlib import Path
from dacsm.runtime.processor import hold_libraries
hold_libraries()
os.environ.update(pair.split("=", 1) for pair in sys.argv[2:])
import torch
from dacsm.config.datasets import DatasetSpec
from dacsm.config.params import Params
from dacsm.config.paths import Paths
from dacsm.config.project import Project
from dacsm.runtime.device import Compute
from dacsm.stages.adapt import adapt
from dacsm.stages.pretrain import pretrain
root = Path(sys.argv[1])
dataset, params = (kind.model_validate_json((root / name).read_text())
                   for kind, name in ((DatasetSpec, "dataset.json"), (Params, "params.json")))
project, compute = Project(params, dataset, Paths(root)), Compute(torch.device("cpu"))
pretrain(project, "synthetic", 0, compute)
adapt(project, "dacsm", "synthetic-mnist", 0, compute)
"""


@pytest.fixture(autouse=True)
def portable():
    choose_arithmetic("portable", 1)
    yield
    choose_arithmetic("native", torch.get_num_threads())


@pytest.fixture
def trained(tiny_dataset, portable_params, tiny_paths, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """The sha256 of each file that a pretraining and an adaptation leave, in a process of its own."""

    def train(outside: dict[str, str], *held: str) -> dict[str, str]:
        root = tmp_path / "root"
        shutil.copytree(tiny_paths.root, root)
        (root / "dataset.json").write_text(tiny_dataset.model_dump_json())
        (root / "params.json").write_text(portable_params.model_dump_json())
        subprocess.run([sys.executable, "-c", TRAIN, root, *held], check=True, env={**os.environ, **outside})
        found = {path.name: path for path in (root / "results").rglob("*") if path.is_file()}
        digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()}
        shutil.rmtree(root)
        return digests

    return train


@needs_x86
@pytest.mark.slow
def test_training_gives_the_same_bytes_whatever_the_libraries_would_choose(trained) -> None:
    first = trained({})
    assert {"model.safetensors", "last.safetensors", "epochs.npz", "log.csv"} <= set(first)
    outside = {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    assert trained(outside) == first  # the command overrides them
    # As on a processor without AVX-512: MKL has other code then, and is told to be strict.
    assert trained({}, "MKL_ENABLE_INSTRUCTIONS=AVX2", "MKL_CBWR=AVX2,STRICT") == first


def _in_order(left: np.ndarray, right: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Each element as a chain of fused multiplications and additions in each piece; float64 stands for the fusion."""
    total = first
    pieces = -(-left.shape[1] // MOST_TERMS)
    for a, b in zip(np.array_split(left, pieces, 1), np.array_split(right, pieces, 0), strict=True):
        chain = np.zeros((len(left), right.shape[1]), np.float32)
        for term in range(a.shape[1]):
            product = a[:, term : term + 1].astype(np.float64) * b[term : term + 1].astype(np.float64)
            chain = (product + chain).astype(np.float32)
        total = chain if total is None else total + chain
    return total


sides = st.sampled_from([1, 2, 5, 10, 15, 16, 17, 32, 33, 96])


@needs_x86
@given(rows=sides, columns=sides, terms=st.sampled_from([2, 17, 32, 96, 192, 193, 384, 500]), turned=st.booleans())
def test_a_product_is_a_sum_in_the_order_of_its_terms(rows: int, columns: int, terms: int, turned: bool) -> None:
    random = np.random.default_rng(rows * columns * terms)
    left, right = (random.standard_normal(shape, np.float32) for shape in ((rows, terms), (terms, columns)))
    bias = random.standard_normal(columns, np.float32)
    a, b = torch.from_numpy(left), torch.from_numpy(right)
    if turned:  # as a transposed weight lies in memory
        a, b = a.T.contiguous().T, b.T.contiguous().T
    batch = a.expand(3, -1, -1) @ b.expand(3, -1, -1)
    expected = _in_order(left, right, None)
    for found in (a @ b, *batch):
        # Where float64 rounds twice, which is rare, the reference is a bit off.
        assert (found.numpy() == expected).mean() > 0.99
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(torch.addmm(torch.from_numpy(bias), a, b), expected + bias, rtol=1e-4, atol=1e-5)


def test_gradients_of_products_are_right() -> None:
    torch.manual_seed(0)
    left, right, bias = torch.randn(7, 200), torch.randn(200, 5), torch.randn(5)
    values = [tensor.double().requires_grad_() for tensor in (bias, left, right)]
    expected = torch.autograd.grad(torch.addmm(*values).square().sum(), values)
    narrow = [tensor.requires_grad_() for tensor in (bias, left, right)]
    for found, wanted in zip(torch.autograd.grad(torch.addmm(*narrow).square().sum(), narrow), expected, strict=True):
        torch.testing.assert_close(found, wanted.float(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_rounded_from_float64(name: str) -> None:
    values = torch.linspace(0.01, 0.99, 997)
    expected = getattr(torch, name)(values.double()).float()
    assert torch.equal(getattr(torch, name)(values), expected)
    assert torch.equal(getattr(values.clone(), f"{name}_")(), expected)


def test_a_square_root_is_the_nearest_number() -> None:
    values = torch.rand(100_000) * 100
    assert np.array_equal(values.sqrt().numpy(), np.sqrt(values.numpy()))


def test_native_arithmetic_comes_back() -> None:
    values = torch.randn(64, 512), torch.randn(512, 64)
    choose_arithmetic("native", 1)
    plain = values[0] @ values[1]
    choose_arithmetic("portable", 1)
    cut = values[0] @ values[1]
    choose_arithmetic("native", 1)
    assert torch.equal(values[0] @ values[1], plain)
    torch.testing.assert_close(cut, plain, rtol=1e-4, atol=1e-4)


def test_portable_needs_float32(tiny_params) -> None:
    recipe = tiny_params.pretrain["tiny"].model_dump()
    with pytest.raises(ValidationError, match="arithmetic is portable, but precision is bfloat16; set float32"):
        Pretrain.model_validate(recipe | {"precision": "bfloat16", "arithmetic": "portable"})


@needs_x86
def test_a_processor_without_avx2_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_described", lambda key: "fpu sse sse2 fma")
    with pytest.raises(InputError, match="this processor has no avx2; set `arithmetic: native` in the recipe"):
        hold_libraries()


@needs_x86
def test_the_variables_are_set_and_others_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"})
    monkeypatch.setattr(processor, "_described", lambda key: "avx2 fma avx512f")
    hold_libraries()
    assert os.environ == VARIABLES
    monkeypatch.setattr(processor, "_described", lambda key: "avx2 fma")
    hold_libraries()
    assert os.environ == {**VARIABLES, "MKL_CBWR": "AUTO,STRICT"}


@needs_x86
def test_torch_loaded_without_the_variables_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    with pytest.raises(InputError, match="torch was loaded without ATEN_CPU_CAPABILITY=avx2; use the command"):
        choose_arithmetic("portable", 1)
