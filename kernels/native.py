"""The native extension as the C++ backends use it: whether it is there, and its dtype codes.

A backend asks `why_no_cpu` or `why_no_cuda` first, and imports ``opensora_fast._C`` at the call.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Final

import torch
from torch import Tensor

NO_EXTENSION: Final = (
    "the native extension is not built: no C++ compiler was found, or `make build` has not run"
)
NO_CUDA: Final = "the native extension was built without CUDA (no nvcc at installation)"
# As in csrc/core/tensor.h.
DTYPE_CODES: Final = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
# What the C++ kernels for the CPU take; they compute in fp32.
CPU_DTYPES: Final = (torch.float32, torch.bfloat16)


@functools.cache
def extension() -> ModuleType | None:
    """Return the extension, or None where it was not built.

    Raises:
        ImportError: the extension is there and does not load.
    """
    try:
        return importlib.import_module("opensora_fast._C")
    except ModuleNotFoundError as error:
        if error.name != "opensora_fast._C":
            raise
        return None


def why_no_cpu() -> str | None:
    """Say why the C++ kernels for the CPU cannot run, or return None."""
    return NO_EXTENSION if extension() is None else None


def why_no_cuda() -> str | None:
    """Say why the CUDA C++ kernels cannot run, whatever the device; None if they can."""
    module = extension()
    if module is None:
        return NO_EXTENSION
    return None if module.HAS_CUDA else NO_CUDA


def not_a_cpu_dtype(name: str, x: Tensor) -> str:
    """The sentence about an argument that is in none of `CPU_DTYPES`."""
    accepted = ", ".join(str(dtype) for dtype in CPU_DTYPES)
    return f"{name} is {x.dtype}, the kernel takes {accepted}"
