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
        return _why_not_channels_last(x, num_groups)
    return reason


def _why_not_channels_last(x: Tensor, num_groups: int) -> str | None:
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
    size = _C.group_norm_silu_cuda_workspace(*arguments)
    with torch.cuda.device(x.device):
        workspace = torch.empty(size, dtype=torch.uint8, device=x.device)
        stream = torch.cuda.current_stream().cuda_stream
        _C.group_norm_silu_cuda(workspace.data_ptr(), stream, *arguments)
    return call.y, call.mean, call.rstd
