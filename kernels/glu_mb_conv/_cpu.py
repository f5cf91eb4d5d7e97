"""glu_mb_conv on the CPU: torch's products, and a C++ kernel for what lies between them.

csrc/cpu/glu_mb_conv.h states layouts and accuracy of the kernel, walk.py what is copied. The
gradients are those of `_torch`, with depthwise convolutions in C++ (csrc/cpu/depthwise3d.h).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .. import native
from ..common.native_depthwise import NATIVE
from . import _torch, walk

VERIFIED = "CPU: x86-64 scalar, AVX2 and AVX-512, torch 2.13, 2026-11"

# A chunk's products of a slab stay in a level-2 cache of 2 MiB until the kernel reads them.
_SLAB = 1024
_STRIP = 4096
_CHANNELS = 256
# As in csrc/cpu/glu_mb_conv.cpp: channels whose taps lie together.
_PANEL = 16


def why_not(x: Tensor, *_: Tensor) -> str | None:
    """Say why the kernel cannot serve this call, or return None."""
    if x.dtype not in native.CPU_DTYPES:
        return native.not_a_cpu_dtype("x", x)
    if x.numel() == 0:
        return "the tensor is empty"
    return native.why_no_cpu()


def backward_why_not(grad: Tensor, x: Tensor, *_: Tensor) -> str | None:
    """Say why the kernels cannot serve this call, or return None."""
    return why_not(x)


def forward(
    x: Tensor,
    inverted_weight: Tensor,
    inverted_bias: Tensor,
    depth_weight: Tensor,
    depth_bias: Tensor,
    point_weight: Tensor,
) -> Tensor:
    """Return y."""
    from opensora_fast import _C

    _, _, frames, rows, columns = x.shape
    width = point_weight.shape[1]
    taps = _panels(depth_weight)
    inverted_bias, depth_bias = inverted_bias.float().contiguous(), depth_bias.float().contiguous()

    def gate(step: walk.Step, gated: Tensor) -> None:
        _, places, strip, _, chunk = step.ring.shape
        _C.glu_mb_conv_cpu(
            products=step.products.data_ptr(),
            ring=step.ring.data_ptr(),
            gated=gated.data_ptr() + step.first_channel * gated.element_size(),
            taps=taps.data_ptr(),
            inverted_bias=inverted_bias.data_ptr(),
            depth_bias=depth_bias.data_ptr(),
            width=width,
            channels=(step.first_channel, chunk),
            num_frames=step.num_frames,
            ring_size=(places, strip, columns),
            new_frames=step.new_frames,
            out_frames=step.out_frames,
            out_rows=step.out_rows,
            dtype=native.DTYPE_CODES[x.dtype],
        )

    plan = walk.choose((frames, rows, columns), width, _SLAB, _STRIP, _CHANNELS)
    return walk.run(x, inverted_weight, point_weight, plan, gate)


def backward(*args: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x and of the five parameters."""
    return _torch.backward_by(NATIVE, *args)


def _panels(depth_weight: Tensor) -> Tensor:
    """The taps of both halves as the kernel reads them, [2, panels, 27, 16] in fp32."""
    halves = depth_weight.float().reshape(2, -1, 27)
    padded = F.pad(halves, (0, 0, 0, -halves.shape[1] % _PANEL))
    return padded.view(2, -1, _PANEL, 27).transpose(2, 3).contiguous()
