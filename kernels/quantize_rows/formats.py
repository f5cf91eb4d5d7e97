"""The 8-bit formats: their dtype, their largest number, and where they are native."""

from __future__ import annotations

from typing import Final

import torch

FORMATS: Final[dict[str, torch.dtype]] = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
LARGEST: Final[dict[str, float]] = {"int8": 127.0, "fp8": 448.0}
# A row whose numbers are all smaller is scaled as if its largest were this, so that the reciprocal
# of its scale stays finite.
SMALLEST: Final = 2.0**-96
MIN_FP8_CAPABILITY: Final = 89


def check_format(op: str, format: str) -> None:
    """Raise ValueError unless `format` is one of `FORMATS`."""
    if format not in FORMATS:
        known = ", ".join(FORMATS)
        raise ValueError(f"{op}: unknown format {format!r}, accepted are {known}")


def format_of(op: str, name: str, dtype: torch.dtype) -> str:
    """Return the format that a dtype stores.

    Raises:
        TypeError: it stores none.
    """
    for format, stored in FORMATS.items():
        if stored is dtype:
            return format
    known = ", ".join(map(str, FORMATS.values()))
    raise TypeError(f"{op}: {name} is {dtype}, accepted are {known}")


def preferred_format(device: torch.device | str) -> str:
    """Return the format whose products are native on a device: "fp8" or "int8".

    fp8 has the smaller error where rows hold a few large numbers, int8 where they do not; int8 is
    native everywhere.

    Args:
        device: where the products are to be computed.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return "int8"
    major, minor = torch.cuda.get_device_capability(device)
    return "fp8" if 10 * major + minor >= MIN_FP8_CAPABILITY else "int8"
