"""The processor that a run computes on, and what holds the libraries to a code that any processor with AVX2 has."""

import os
import platform
from functools import cache
from pathlib import Path

from dacsm.runtime.errors import InputError

X86 = platform.machine() in ("x86_64", "AMD64")
NEEDED = ("avx2", "fma")  # of a processor, for portable arithmetic
VARIABLES = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}
# MKL's code for small products with AVX2 adds in another order, unless it is strict; with AVX-512 that costs a tenth.
OF_AVX2 = {"MKL_CBWR": "AUTO,STRICT"}
CLEARED = ("MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "DNNL_MAX_CPU_ISA")


def hold_libraries() -> None:
    """For portable arithmetic: set the variables that libraries read when they are loaded; call it before that.

    Raises InputError where the processor lacks what is needed.
    """
    if not X86:
        return
    flags = _described("flags").split()
    if flags and (missing := [flag for flag in NEEDED if flag not in flags]):
        raise InputError(
            f"params.yaml: arithmetic is portable, but this processor has no {' and no '.join(missing)}; "
            "set `arithmetic: native` in the recipe."
        )
    for name in CLEARED:
        os.environ.pop(name, None)
    os.environ.update(VARIABLES if "avx512f" in flags else VARIABLES | OF_AVX2)


def processor() -> str:
    """The processor's name."""
    return _described("model name") or platform.processor() or platform.machine()


@cache
def _described(key: str) -> str:
    """What the system says of the first processor, where it says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.split("\t")[0] == key), "")
