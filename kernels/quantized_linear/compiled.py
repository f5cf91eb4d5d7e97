"""The launches of quantized_linear, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import NUM_TOKENS, Compiled, meta
from ..common.launch import Launch
from ..quantize_rows.formats import FORMATS, MIN_FP8_CAPABILITY
from . import _triton
from .launch import Problem, pick

WIDTH_IN, WIDTH_OUT = 3072, 7 * 3072  # the first linear of the released single-stream block


def launches(capability: int) -> Iterator[Compiled]:
    """Every format the device has, by descriptors where there are any, and by pointers."""
    products = {90: ("wgmma.mma_async",), 100: ("tcgen05.mma",)}.get(capability, ())
    for format in FORMATS:
        if format == "fp8" and capability < MIN_FP8_CAPABILITY:
            continue
        if capability >= 90:
            launch = plan(format, capability, describable=True)
            yield Compiled(name=format, launch=launch, promises=(*products, "cp.async.bulk.tensor"))
        launch = plan(format, capability, describable=False)
        yield Compiled(name=f"{format}.pointers", launch=launch, promises=products)


def plan(format: str, capability: int, *, describable: bool) -> Launch:
    """The launch for one long video, bf16 out."""
    x = meta(NUM_TOKENS, WIDTH_IN, dtype=FORMATS[format])
    weight = meta(WIDTH_OUT, WIDTH_IN, dtype=FORMATS[format])
    row_scales, scales = (meta(n, dtype=torch.float32) for n in (NUM_TOKENS, WIDTH_OUT))
    problem = Problem(
        rows=NUM_TOKENS,
        width_in=WIDTH_IN,
        width_out=WIDTH_OUT,
        format=format,
        describable=describable,
    )
    config = pick(problem, capability)
    y, bias = meta(NUM_TOKENS, WIDTH_OUT), meta(WIDTH_OUT)
    return _triton.plan_forward(x, row_scales, weight, scales, bias, y, problem, config)
