"""Where to compute, and in which number format."""

from __future__ import annotations

import torch

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn "auto" or a name into a device that exists here.

    Args:
        device: "auto" (CUDA where there is one, else the CPU), "cpu", "cuda", "cuda:1", ...

    Returns:
        The device.

    Raises:
        ValueError: there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
    except RuntimeError:
        raise ValueError(f'device must be "auto", "cpu" or "cuda[:n]", got {device!r}') from None
    if target.type not in ("cpu", "cuda"):
        raise ValueError(f'device must be "auto", "cpu" or "cuda[:n]", got {str(device)!r}')
    count = torch.cuda.device_count()
    if target.type == "cuda" and (target.index or 0) >= count:
        raise ValueError(f"device {str(device)!r} is not here: torch sees {count} CUDA devices")
    return target


def resolve_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """Turn "auto" or a name into a dtype: bfloat16 on CUDA devices, float32 on the CPU.

    Args:
        dtype: "auto", a name, or the dtype itself.
        device: where it will be used.

    Returns:
        The dtype.

    Raises:
        ValueError: not one of bfloat16, float16 and float32.
    """
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    found = _DTYPES.get(str(dtype).removeprefix("torch."))
    if found is None:
        raise ValueError(f'dtype must be "auto", {", ".join(_DTYPES)}, got {str(dtype)!r}')
    return found
