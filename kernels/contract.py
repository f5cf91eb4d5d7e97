"""What every op's contract shares: argument checks, accumulation dtype, layout of outputs."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which references compute: fp64 for fp64, else fp32."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def layout_of(x: Tensor) -> torch.memory_format:
    """The layout of an op's output: channels-last for a channels-last 5-D `x`, else contiguous.

    A tensor that is both (one channel, or one pixel) counts as contiguous.
    """
    if (
        x.dim() == 5
        and not x.is_contiguous()
        and x.is_contiguous(memory_format=torch.channels_last_3d)
    ):
        return torch.channels_last_3d
    return torch.contiguous_format


def check_tensors(op: str, **tensors: Tensor | None) -> None:
    """Raise unless all given arguments are floating-point tensors on one device.

    Raises:
        TypeError: one is no tensor, or not floating-point.
        ValueError: they live on different devices.
    """
    first: Tensor | None = None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{op}: {name} must be a tensor, got {type(tensor).__name__}")
        if not tensor.is_floating_point():
            raise TypeError(f"{op}: {name} must be floating-point, got {tensor.dtype}")
        if first is None:
            first = tensor
        elif tensor.device != first.device:
            raise ValueError(
                f"{op}: {name} is on {tensor.device}, the first tensor is on {first.device}"
            )


def autocast_is_on(device: torch.device) -> bool:
    """Whether autocast is on for a device; never for one that knows none (meta)."""
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def check_same_dtype(op: str, **tensors: Tensor) -> None:
    """Raise TypeError unless all arguments have one dtype."""
    (first_name, first), *rest = tensors.items()
    for name, tensor in rest:
        if tensor.dtype != first.dtype:
            raise TypeError(f"{op}: {name} is {tensor.dtype}, {first_name} is {first.dtype}")


def check_shape(op: str, name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    """Raise ValueError unless `tensor` has exactly the expected shape."""
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{op}: {name} has shape {list(tensor.shape)}, expected {list(expected)}")
