"""The launches of quantize_rows, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import NUM_TOKENS, Compiled, meta
from . import _triton
from .formats import FORMATS, MIN_FP8_CAPABILITY


def launches(capability: int) -> Iterator[Compiled]:
    """The released transformer's rows in bf16, in every format the device has."""
    # Dense half-precision rows are read 16 bytes at a time.
    vectors = ("ld.global.v4",)
    scales = meta(NUM_TOKENS, dtype=torch.float32)
    for format, dtype in FORMATS.items():
        if format == "fp8" and capability < MIN_FP8_CAPABILITY:
            continue
        for width in (3072, 5 * 3072):
            x, values = meta(NUM_TOKENS, width), meta(NUM_TOKENS, width, dtype=dtype)
            launch = _triton.plan_forward(x, values, scales, format)
            yield Compiled(name=f"{format}.{width}", launch=launch, promises=vectors)
