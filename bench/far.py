"""Tensors of more than 2^31 elements: is the far end of one computed as it is by itself?

The definition of such a case fits no device. But an op that treats the items of a batch alike gives
the last of them the same result alone, and a convolution that looks back a few frames gives the
last frame the same result in a short clip. An index that overflowed would read or write elsewhere.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from opensora_fast.kernels.registry import OPS, use_backend
from opensora_fast.kernels.testing import cases_of

from . import gate
from .case import as_tuple

# Ops of single videos whose last frame depends on the last frames only.
LOCAL_IN_TIME = frozenset({"causal_conv3d", "upsample_conv3d", "nearest_upsample3d"})
# More frames than a kernel sees, so that the border of the short clip does not matter.
_FRAMES = 4
# Sums may be taken in another order, and rounded otherwise once.
_ALLOWED = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}


class NotSeparableError(Exception):
    """Every element of the result depends on all of the input."""


def check_far_end(op: str, case: Any, *, backend: str, device: str, dtype: torch.dtype) -> None:
    """Compare the far end of a large result with the same part computed alone.

    Args:
        op: a forward op.
        case: its HUGE one, or a smaller one in a test.
        backend: to force.
        device: where to run.
        dtype: of the inputs.

    Raises:
        AssertionError: they differ.
        NotSeparableError: the op has no such part.
        BackendError: the backend cannot serve the case.
    """
    prepare = OPS[op].prepare
    assert prepare is not None
    args = prepare(*cases_of(op).make_inputs(case, device, dtype))
    alone, frames = far_part(op, args)
    with use_backend(backend), torch.no_grad():
        whole = as_tuple(OPS[op](*args))[0]
        part = as_tuple(OPS[op](*alone))[0]
    whole = whole[:, :, -1:] if frames else whole[-1:]
    part = part[:, :, -1:] if frames else part
    found = gate.errors((whole,), (part,)).rel_l2
    assert found <= _ALLOWED[dtype], (
        f"{op}[{backend}, {case.name}, {dtype}]: the far end differs from what it is alone by "
        f"{found:.3g} (relative L2)"
    )


def far_part(op: str, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], bool]:
    """The arguments of the far end alone, and whether that end is one of frames.

    Raises:
        NotSeparableError: the op has no such part.
    """
    first: Tensor = args[0]
    batch = first.shape[0]
    if batch > 1:
        return tuple(
            arg[-1:] if isinstance(arg, Tensor) and arg.dim() > 1 and arg.shape[0] == batch else arg
            for arg in args
        ), False
    if op in LOCAL_IN_TIME:
        return (first[:, :, -_FRAMES:], *args[1:]), True
    raise NotSeparableError(f"every element of {op} depends on all of its input")
