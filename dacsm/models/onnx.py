"""A network as an ONNX file, for programs without torch, and the proof that it computes the same."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from dacsm.runtime.errors import InputError

PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # the extra `onnx` of pyproject.toml
INPUT, OUTPUT = "images", "logits"
OPSET = 18


def require_onnx() -> None:
    """Raise InputError where a package that ONNX needs is not installed."""
    absent = [name for name in PACKAGES if find_spec(name) is None]
    if absent:
        raise InputError(
            f'model.onnx needs {", ".join(absent)}, not installed here; run `uv pip install --editable ".[onnx]"`, '
            "or set export.onnx to false in params.yaml."
        )


def write_onnx(network: nn.Module, images: Tensor, path: Path) -> None:
    """Write a network on the CPU that takes such images (B, C, H, W), any number of them, and gives logits (B, K).

    What the exporter notes about the code that it has traced, places of files included, is left out. Raises InputError
    where the network cannot be traced.
    """
    import onnx

    example = images[:1].repeat(2, 1, 1, 1)  # of a single image torch would take the number for fixed
    try:
        with _quiet():
            torch.onnx.export(
                network,
                (example,),
                path,
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # whatever in a network cannot be traced
        reason = " ".join(str(error).split())[:150] or type(error).__name__
        raise InputError(
            f"the network cannot be written as ONNX ({reason}); set export.onnx to false in params.yaml."
        ) from error
    model = onnx.load(path)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
    onnx.save(model, path)


def onnx_logits(path: Path, images: Tensor) -> Tensor:
    """What an ONNX file gives for images (B, C, H, W), normalised, on the CPU with one thread: logits (B, K)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors alone
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own insides from people."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)
