"""The launches of layer_norm_modulate_quantized, to be compiled without a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..common.catalogue import NUM_MULTIPROCESSORS, NUM_TOKENS, Compiled, meta
from ..common.launch import Launch
from ..layer_norm_modulate.launch import Problem, pick
from ..quantize_rows.formats import FORMATS, MIN_FP8_CAPABILITY
from . import _triton


def launches(capability: int) -> Iterator[Compiled]:
    """The released transformer's width in every format the device has; the widest row."""
    num_units = NUM_MULTIPROCESSORS[capability]
    # Dense half-precision rows are read 16 bytes at a time.
    vectors = ("ld.global.v4",)
    yield Compiled(name="int8.3072", launch=plan(3072, "int8", num_units), promises=vectors)
    yield Compiled(name="int8.8192", launch=plan(8192, "int8", num_units))
    if capability >= MIN_FP8_CAPABILITY:
        yield Compiled(name="fp8.3072", launch=plan(3072, "fp8", num_units), promises=vectors)


def plan(width: int, format: str, num_units: int) -> Launch:
    """The launch for one long video."""
    x, shift = meta(1, NUM_TOKENS, width), meta(1, width)
    values = meta(1, NUM_TOKENS, width, dtype=FORMATS[format])
    scales = meta(1, NUM_TOKENS, dtype=torch.float32)
    problem = Problem(batch=1, length=NUM_TOKENS, width=width, backward=False)
    config = pick(problem, num_units)
    return _triton.plan_forward(x, shift, shift, 1e-6, values, scales, format, config)
