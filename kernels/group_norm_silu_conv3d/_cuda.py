"""group_norm_silu_conv3d in CUDA C++: csrc/cuda/group_norm_silu_conv3d.h states its accuracy.

The normalised video never exists: one pass over x gathers the statistics, unless its moments are
given, and the convolution activates what it reads. The moments of y, where they are wanted, are a
pass over it. The kernels work on channels-last videos; any other layout is converted here, on both
sides.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..common.availability import capability
from ..contract import layout_of
from ..group_norm_silu import _cuda as norm
from ..moments import channel_statistics, fake_moments

TILE = 128  # channels, as kConv3dTileChannels
_HALF = 64  # input channels that the matrix units read at a time
_CHUNK = 8  # of them in sixteen bytes
_CAPABILITIES = (80, 90)
_MAX_PIXELS = 2**31  # of a frame


def why_not(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    moments: Tensor | None,
    gather: bool,
    pad_rows: bool,
) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    given = {"x": x, "weight": weight, "bias": bias, "residual": residual}
    for name, tensor in given.items():
        if tensor is not None and tensor.dtype is not torch.bfloat16:
            return f"{name} is {tensor.dtype}, the kernel takes torch.bfloat16"
    if not pad_rows:
        return "the kernel repeats rows above and below, which a slab of rows has none of"
    outputs, channels, *kernel = weight.shape
    if kernel != [3, 3, 3]:
        return f"the kernel has {kernel} taps, only [3, 3, 3] is served"
    if channels % TILE != 0 or outputs % TILE != 0:
        return f"{channels} -> {outputs} channels, both must be multiples of {TILE}"
    if x.shape[3] * x.shape[4] >= _MAX_PIXELS:
        return f"frames of {x.shape[3]} x {x.shape[4]} pixels are not smaller than {_MAX_PIXELS}"
    reason = norm.why_not(x, norm_weight, norm_bias, num_groups, eps, True)
    reason = reason or norm.why_not_channels_last(x, num_groups)
    if reason is None and gather and outputs > norm.MAX_GROUPS:
        return f"moments of {outputs} channels are wanted, at most {norm.MAX_GROUPS} are served"
    if reason is None and capability(x.device) not in _CAPABILITIES:
        return f"needs compute capability 8.0 or 9.0, this device has {capability(x.device) / 10}"
    return reason


def forward(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    eps: float,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    moments: Tensor | None,
    gather: bool,
    pad_rows: bool,
) -> tuple[Tensor, Tensor]:
    """Return the convolution of the activated x, plus the residual, and its channels' moments."""
    from opensora_fast import _C

    layout = layout_of(x)
    x = _dense(x)
    if moments is None:
        affine = norm.affine(x, norm_weight, norm_bias, num_groups, eps)
    else:
        affine = affine_of(moments, norm_weight, norm_bias, num_groups, eps)
    packed = pack(weight)
    added = None if residual is None else _dense(residual)
    shift = None if bias is None else bias.to(torch.float32).contiguous()
    batch, channels, frames, height, width = x.shape
    y = torch.empty(
        (batch, weight.shape[0], frames, height, width),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last_3d,
    )
    with torch.cuda.device(x.device):
        _C.group_norm_silu_conv3d_cuda(
            stream=torch.cuda.current_stream().cuda_stream,
            x=x.data_ptr(),
            affine=affine.data_ptr(),
            packed=packed.data_ptr(),
            bias=0 if shift is None else shift.data_ptr(),
            residual=0 if added is None else added.data_ptr(),
            y=y.data_ptr(),
            batch=batch,
            channels=channels,
            outputs=weight.shape[0],
            size=(frames, height, width),
        )
    gathered = norm.channel_moments(y) if gather else fake_moments(x, y, False)
    return y.contiguous(memory_format=layout), gathered


def affine_of(
    moments: Tensor, norm_weight: Tensor, norm_bias: Tensor, num_groups: int, eps: float
) -> Tensor:
    """Return fp32 [2, B, C]: what `norm.affine` does, from moments of the channels."""
    mean, root = channel_statistics(moments, num_groups, eps)
    scale = root * norm_weight.float()
    return torch.stack([scale, norm_bias.float() - mean * scale])


def pack(weight: Tensor) -> Tensor:
    """Bring a weight into the order that the kernel reads, which csrc/cuda's header states.

    Done at every call: it moves as many bytes as a few frames of the smallest video, and nothing
    has to find out whether a packed copy is still the weight.

    Args:
        weight: [O, C, 3, 3, 3], O and C multiples of 128.

    Returns:
        [O / 128, C / 128, 3, 3, 3, 2, 128, 8, 8], contiguous: of the last four axes, half of 128
        input channels, output, chunk of eight input channels (chunk c of output o is that of number
        c ^ (o % 8)), channel.
    """
    outputs, channels = weight.shape[:2]
    parts = (channels // TILE, TILE // _HALF, _HALF // _CHUNK, _CHUNK)
    parted = weight.detach().reshape(outputs // TILE, TILE, *parts, 3, 3, 3)
    ordered = parted.permute(0, 2, 6, 7, 8, 3, 1, 4, 5)
    output = torch.arange(TILE, device=weight.device)[:, None]
    chunk = torch.arange(_HALF // _CHUNK, device=weight.device)[None, :]
    packed: Tensor = ordered[..., output, chunk ^ output % _CHUNK, :].contiguous()
    return packed


def _dense(x: Tensor) -> Tensor:
    """`x` channels last, where the kernel's loads of sixteen bytes can begin; else a copy."""
    dense = x.contiguous(memory_format=torch.channels_last_3d)
    aligned = dense.data_ptr() % 16 == 0
    return dense if aligned else dense.clone(memory_format=torch.channels_last_3d)
