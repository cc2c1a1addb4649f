"""Which runs were made on processors whose arithmetic is alike, and what `dacsm compare` says where it is not."""

from typing import Any

import pytest

from dacsm.ledger.compare import _reasons, print_comparison
from dacsm.ledger.processors import kind_of_processor

INTEL, AMD, GPU = "cpu (Intel(R) Xeon(R) Processor, 2 cores)", "cpu (AMD EPYC 9R14, 64 cores)", "NVIDIA H200"


def record(device: str, arithmetic: str = "native", instructions: str = "AVX512") -> dict[str, Any]:
    """As much of a run record of an adaptation as tells what it was made with."""
    return {
        "arguments": {"method": "cdtrans", "task": "synthetic-mnist", "seed": 0},
        "settings": {"adapt.recipes.digits.arithmetic": arithmetic},
        "inputs": {},
        "device": device,
        "arithmetic": {"instructions": instructions},
    }


def pretrained(arithmetic: str) -> dict[str, Any]:
    return record(AMD) | {"settings": {"pretrain.digits": {"epochs": 8, "arithmetic": arithmetic}}}


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (record(INTEL), record(INTEL.replace("2 cores", "8 cores")), True),
        (record(INTEL), record(AMD), False),
        (record(INTEL), record(INTEL, instructions="AVX2"), False),
        (record(INTEL, "portable"), record(AMD, "portable", "AVX2"), True),
        (record(INTEL, "portable"), record(GPU, "portable"), False),
        (record(INTEL, "portable"), pretrained("portable"), True),
        (record(GPU), record(GPU), True),
    ],
)
def test_processors_are_alike_where_they_give_the_same_bits(one: dict, other: dict, alike: bool) -> None:
    assert (kind_of_processor(one) == kind_of_processor(other)) is alike


def test_a_comparison_names_another_kind_of_processor(capsys: pytest.CaptureFixture[str]) -> None:
    old, new = {"seed0.json": record(INTEL)}, {"seed0.json": record(AMD, instructions="AVX2")}
    run = {
        "task": "synthetic-mnist",
        "method": "cdtrans",
        "cells": {"overall": {"old": 74.5, "new": 72.8, "diff": -1.7}},
    }
    for after in (new, old):
        rows = [{**run, **_reasons("synthetic-mnist", "cdtrans", old, after)}]
        print_comparison({"old": "a", "new": "b", "params": {}, "code": [], "tables": {"digits": rows}}, as_json=False)
    printed = capsys.readouterr().out
    first, then = "a CPU Intel(R) Xeon(R) Processor with AVX512", "a CPU AMD EPYC 9R14 with AVX2"
    assert f"made on another kind of processor  {first} → {then}\n" in printed
    assert "name no difference in settings, code, data or processor" in printed
