"""Runs on a machine with several GPUs, here pretended ones: each takes one of its own."""

import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dacsm.methods.cdtrans.resolutions import pooled_by_products
from dacsm.models.precision import autocast
from dacsm.runtime import device
from dacsm.runtime.device import choose_compute, free_gpu
from dacsm.runtime.errors import InputError

GPUS = [SimpleNamespace(uuid=str(uuid.uuid4())) for _ in range(2)]
HOLDER = """import sys, types, torch
torch.cuda.device_count = lambda: 2
torch.cuda.get_device_properties = lambda index: types.SimpleNamespace(uuid=sys.argv[2:][index])
from dacsm.runtime.device import free_gpu
print(free_gpu(), flush=True)
sys.stdin.read()"""


@pytest.fixture(autouse=True)
def _two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(GPUS))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: GPUS[index])
    monkeypatch.setattr(device, "_HELD", [])
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    for name in device.SCHEDULERS:
        monkeypatch.delenv(name, raising=False)


def holder() -> tuple[subprocess.Popen, int]:
    """Another process that takes a GPU, and which one it is."""
    command = [sys.executable, "-c", HOLDER, "-", *(gpu.uuid for gpu in GPUS)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def test_two_processes_take_different_gpus_and_a_killed_one_frees_its_own() -> None:
    first, taken = holder()
    second, other = holder()
    try:
        assert {taken, other} == {0, 1}
    finally:
        first.kill()
        first.wait()
    try:
        assert free_gpu() == taken
    finally:
        second.kill()
        second.wait()


def test_where_all_are_taken_they_are_shared(capsys: pytest.CaptureFixture[str]) -> None:
    assert [free_gpu(), free_gpu(), free_gpu()] == [0, 1, 0]
    assert "every GPU is taken" in capsys.readouterr().err


def test_a_schedulers_choice_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert [free_gpu(), free_gpu()] == [0, 0]


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "cpu:x"])
def test_a_device_that_is_not_there_is_one_sentence(name: str) -> None:
    with pytest.raises(InputError, match="which this machine does not offer; use auto or cpu"):
        choose_compute(name)


def test_a_number_of_workers_and_a_folder_are_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--workers is -3, expected 0 to 512"):
        choose_compute("cpu", -3)
    with pytest.raises(InputError, match="which is not a folder"):
        choose_compute("cpu", 0, tmp_path / "nowhere")


@pytest.mark.parametrize(("side", "cells"), [(14, 7), (14, 3), (7, 3), (4, 1), (5, 5)])
def test_pooling_by_products_is_pooling(side: int, cells: int) -> None:
    """It stands for PyTorch's where a GPU is to be exact; so does its gradient."""
    one, other = (torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    pools = pooled_by_products, torch.nn.functional.adaptive_avg_pool2d
    for grid, pool in zip((one.requires_grad_(), other.requires_grad_()), pools, strict=True):
        pool(grid, cells).square().sum().backward()
    torch.testing.assert_close(pools[0](one, cells), pools[1](one, cells))
    torch.testing.assert_close(one.grad, other.grad)


def test_only_matrix_products_take_the_precision() -> None:
    with autocast(torch.device("cpu"), "bfloat16"):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    with autocast(torch.device("cpu"), "float32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert product.dtype == torch.bfloat16
