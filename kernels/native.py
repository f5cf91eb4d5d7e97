"""The native extension as the C++ backends use it: whether it is there, and its dtype codes."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Final, cast

import torch

if TYPE_CHECKING:
    from opensora_fast import _C as Extension

NO_EXTENSION: Final = (
    "the native extension is not built: no C++ compiler was found, or `make build` has not run"
)
NO_CUDA: Final = "the native extension was built without CUDA (no nvcc at installation)"
# As in csrc/core/tensor.h.
DTYPE_CODES: Final = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}


@functools.cache
def extension() -> Extension | None:
    """Return the extension module, or None where it was not built.

    Raises:
        ImportError: the extension is there and does not load.
    """
    try:
        module = importlib.import_module("opensora_fast._C")
    except ModuleNotFoundError as error:
        if error.name != "opensora_fast._C":
            raise
        return None
    return cast("Extension", module)


def why_no_cpu() -> str | None:
    """Say why the C++ kernels for the CPU cannot run, or return None."""
    return NO_EXTENSION if extension() is None else None


def why_no_cuda() -> str | None:
    """Say why the CUDA C++ kernels cannot run, whatever the device; None if they can."""
    module = extension()
    if module is None:
        return NO_EXTENSION
    return None if module.HAS_CUDA else NO_CUDA
