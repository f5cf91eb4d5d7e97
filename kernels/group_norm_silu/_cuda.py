"""group_norm_silu in CUDA C++: csrc/cuda/group_norm_silu.h states layouts and accuracy."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import native
from ..contract import layout_of
from . import _native

# As in csrc/cuda/group_norm_silu.cu: a channels-last row is the work of one block at most.
_THREADS = 256
_MAX_GROUPS = 256


def why_not(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float, silu: bool
) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    reason = native.why_no_cuda() or _native.why_not(
        x, weight, bias, (torch.float32, torch.bfloat16, torch.float16)
    )
    if reason is None and layout_of(x) is torch.channels_last_3d:
        return why_not_channels_last(x, num_groups)
    return reason


def why_not_channels_last(x: Tensor, num_groups: int) -> str | None:
    """Say why the kernel cannot serve x were it channels last, or return None."""
    channels = x.shape[1]
    width = 16 // x.element_size()
    most = _THREADS * (width if channels % width == 0 and x.data_ptr() % 16 == 0 else 1)
    if channels > most:
        return f"a channels-last x may have {most} channels here, not {channels}"
    if num_groups > _MAX_GROUPS:
        return f"a channels-last x may have {_MAX_GROUPS} groups, not {num_groups}"
    return None


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float, silu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, and each group's mean and 1/std in fp32."""
    from opensora_fast import _C

    call = _native.prepare(x, weight, bias, num_groups)
    arguments = call.arguments(num_groups, eps, silu)
    with torch.cuda.device(x.device):
        workspace = _workspace(x, arguments)
        stream = torch.cuda.current_stream().cuda_stream
        _C.group_norm_silu_cuda(workspace.data_ptr(), stream, *arguments)
    return call.y, call.mean, call.rstd


def forward_with_border(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float, silu: bool
) -> Tensor:
    """Return y as a convolution's taps like it: channels last, each frame's border repeated once.

    Args:
        x: [B, C, T, H, W], channels-last-3d, such that `why_not` has no objection.
        weight: [C].
        bias: [C].
        num_groups: number of groups.
        eps: added to the variance.
        silu: apply SiLU.

    Returns:
        [B, T, H + 2, W + 2, C], contiguous: element (t, h, w) is y at (t, h - 1, w - 1), or at the
        nearest place inside the frame.
    """
    from opensora_fast import _C

    batch, channels, frames, height, width = x.shape
    y = x.new_empty((batch, frames, height + 2, width + 2, channels))
    arguments = _native.prepare(x, weight, bias, num_groups, y).arguments(num_groups, eps, silu)
    with torch.cuda.device(x.device):
        workspace = _workspace(x, arguments)
        stream = torch.cuda.current_stream().cuda_stream
        _C.group_norm_silu_border_cuda(workspace.data_ptr(), stream, height, width, *arguments)
    return y


def affine(x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float) -> Tensor:
    """Return fp32 [2, B, C]: the scale and the shift of x that the norm comes to."""
    from opensora_fast import _C

    out = x.new_empty((2, x.shape[0], x.shape[1]), dtype=torch.float32)
    nothing = x.new_empty(0)
    call = _native.prepare(x, weight, bias, num_groups, nothing)
    arguments = call.arguments(num_groups, eps, False)
    with torch.cuda.device(x.device):
        workspace = _workspace(x, arguments)
        stream = torch.cuda.current_stream().cuda_stream
        _C.group_norm_affine_cuda(workspace.data_ptr(), stream, out.data_ptr(), *arguments)
    return out


def _workspace(x: Tensor, arguments: _native.Arguments) -> Tensor:
    from opensora_fast import _C

    size = _C.group_norm_silu_cuda_workspace(*arguments)
    return torch.empty(size, dtype=torch.uint8, device=x.device)
