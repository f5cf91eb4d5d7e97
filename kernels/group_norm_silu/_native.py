"""What the C++ backends of group_norm_silu share: which calls they take, and _C's arguments."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..contract import layout_of
from ..native import DTYPE_CODES

# Addresses of x, y, weight, bias, mean, rstd; sizes; eps, silu, layout and dtypes.
Arguments = tuple[int, int, int, int, int, int, int, int, int, int, float, bool, bool, int, int]


@dataclass(frozen=True, slots=True)
class Call:
    """Dense tensors of one call, kept alive as long as their addresses are in use."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    y: Tensor
    mean: Tensor
    rstd: Tensor

    def arguments(self, num_groups: int, eps: float, silu: bool) -> Arguments:
        """The arguments of the extension's functions, in their order."""
        batch, channels, *trailing = self.x.shape
        return (
            self.x.data_ptr(),
            self.y.data_ptr(),
            self.weight.data_ptr(),
            self.bias.data_ptr(),
            self.mean.data_ptr(),
            self.rstd.data_ptr(),
            batch,
            channels,
            math.prod(trailing),
            num_groups,
            eps,
            silu,
            layout_of(self.x) is torch.channels_last_3d,
            DTYPE_CODES[self.x.dtype],
            DTYPE_CODES[self.weight.dtype],
        )


def why_not(x: Tensor, weight: Tensor, bias: Tensor, dtypes: tuple[torch.dtype, ...]) -> str | None:
    """Say why kernels for these dtypes of x cannot run, or return None."""
    if x.dtype not in dtypes:
        accepted = ", ".join(str(dtype) for dtype in dtypes)
        return f"x is {x.dtype}, the kernel takes {accepted}"
    if weight.dtype != bias.dtype or weight.dtype not in (x.dtype, torch.float32):
        return f"weight is {weight.dtype} and bias {bias.dtype}, both must be {x.dtype} or fp32"
    return "the tensor is empty" if x.numel() == 0 else None


def prepare(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, y: Tensor | None = None
) -> Call:
    """Allocate the outputs; copy what is not dense, as every backend of this op does.

    `y` is where the result goes, if not to a tensor like x; without elements: nowhere.
    """
    x = x.contiguous(memory_format=layout_of(x))
    mean = x.new_empty((x.shape[0], num_groups), dtype=torch.float32)
    return Call(
        x,
        weight.contiguous(),
        bias.contiguous(),
        torch.empty_like(x) if y is None else y,
        mean,
        torch.empty_like(mean),
    )
