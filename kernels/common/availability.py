"""Whether Triton can serve a call, and the row that brings it in only when it does.

Nothing here imports Triton: a machine without it loads every op and hears the reason.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..registry import Backend, current_backend

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MIN_CAPABILITY = 80


@functools.cache
def triton_installed() -> bool:
    """Return whether Triton can be imported."""
    return importlib.util.find_spec("triton") is not None


@functools.cache
def interpreted() -> bool:
    """Return whether Triton interprets kernels; settled at its import, so kept here too."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")


@functools.cache
def capability(device: torch.device) -> int:
    """Return the compute capability times ten; the interpreter has every form, as 90 has."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def triton_why_not(*tensors: Tensor) -> str | None:
    """Return why Triton cannot run a kernel on these tensors, or None if it can.

    Args:
        *tensors: all tensor arguments, on one device.

    Returns:
        One sentence, or None.
    """
    device = tensors[0].device
    if device.type == "cpu":
        if not interpreted():
            return "on CPU tensors Triton runs only in its interpreter (TRITON_INTERPRET=1)"
        if current_backend() != "triton":
            return "Triton's interpreter is for tests: it runs only where 'triton' is forced"
    elif device.type != "cuda":
        return f"Triton does not run on {device.type} tensors"
    elif capability(device) < MIN_CAPABILITY:
        found = capability(device) / 10
        return f"needs compute capability {MIN_CAPABILITY / 10}, this device has {found}"
    if not triton_installed():
        return "triton is not installed"
    for tensor in tensors:
        if tensor.dtype not in DTYPES:
            return f"computes in fp32: it takes fp32, fp16 and bf16 tensors, not {tensor.dtype}"
    return None


def triton_backend(
    package: str, function: str, why_not: Callable[..., str | None], module: str = "_triton"
) -> Backend:
    """Make the row of an op's table that imports and runs ``package.module.function``.

    The import waits for the first call.

    Args:
        package: the op's package; in its op.py, ``__package__``.
        function: the name of the function to run; it takes the op's schema arguments.
        why_not: as in `Backend`; see `triton_why_not`.
        module: of the package, in which the function is.
    """

    @functools.cache
    def load() -> Callable[..., Any]:
        return getattr(importlib.import_module(f"{package}.{module}"), function)  # type: ignore[no-any-return]

    def run(*args: Any) -> Any:
        return load()(*args)

    return Backend("triton", "any", run, why_not)
