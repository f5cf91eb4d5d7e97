"""Micro-benchmarks of calls: `pytest tests/bench/test_micro.py --benchmark-only`.

Without that option each of them runs once and only has to be right.
"""

from __future__ import annotations

import pytest
import torch

import opensora_fast.kernels
from opensora_fast.kernels.registry import OPS
from opensora_fast.kernels.testing import cases_of
from opensora_fast.models.sampling import get_schedule
from opensora_fast.models.tiling import TileSizes

pytest.importorskip("pytest_benchmark")

FORWARD = opensora_fast.kernels.__all__


@pytest.mark.parametrize("op", FORWARD)
def test_overhead_of_a_call(benchmark, op) -> None:
    """The smallest check case: checks, dispatch and choice of a backend."""
    module = cases_of(op)
    inputs = module.make_inputs(module.CHECK[0], "cpu", torch.float32)
    function = getattr(opensora_fast.kernels, op)
    with torch.inference_mode():
        out = benchmark(function, *inputs)
    first = out[0] if isinstance(out, tuple) else out
    assert bool(torch.isfinite(first).all())


def test_choice_of_a_backend(benchmark) -> None:
    """`explain` on one op."""
    module = cases_of("gate_residual")
    inputs = module.make_inputs(module.CHECK[0], "cpu", torch.float32)
    assert benchmark(OPS["gate_residual"].explain, *inputs).chosen is not None


def test_schedule(benchmark) -> None:
    """Fifty steps."""
    assert len(benchmark(get_schedule, 50, 252, 33)) == 51


def test_tile_plan(benchmark) -> None:
    """Sizes of the released autoencoder's tiles."""
    assert benchmark(TileSizes.from_windows, 256, 32, 0.25).window == 256
