"""Properties of glu_mb_conv, and of the walk through a clip."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import glu_mb_conv
from opensora_fast.kernels.glu_mb_conv import _cpu, _torch, walk
from opensora_fast.kernels.registry import use_backend

sizes = st.tuples(*(st.integers(1, n) for n in (4, 5, 6)))
seeds = st.integers(0, 2**16)


def inputs(batch, channels, width, outputs, size, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = (
        (batch, channels, *size),
        (2 * width, channels, 1, 1, 1),
        (2 * width,),
        (2 * width, 1, 3, 3, 3),
        (2 * width,),
        (outputs, width, 1, 1, 1),
    )
    return tuple(torch.randn(s, generator=generator, dtype=dtype) * 0.5 for s in shapes)


def composed(x, inverted_weight, inverted_bias, depth_weight, depth_bias, point_weight):
    hidden = F.silu(F.conv3d(x, inverted_weight, inverted_bias))
    hidden = F.conv3d(hidden, depth_weight, depth_bias, padding=1, groups=hidden.shape[1])
    value, gate = hidden.chunk(2, dim=1)
    return F.conv3d(value * F.silu(gate), point_weight)


@given(st.integers(1, 2), st.integers(1, 5), st.integers(1, 6), st.integers(1, 4), sizes, seeds)
def test_equals_torch(batch, channels, width, outputs, size, seed):
    arguments = inputs(batch, channels, width, outputs, size, seed)
    torch.testing.assert_close(glu_mb_conv(*arguments), composed(*arguments))


@given(sizes, seeds, st.floats(-3, 3))
def test_linear_in_the_last_weight(size, seed, factor):
    *rest, point = inputs(1, 3, 4, 2, size, seed)
    y = glu_mb_conv(*rest, factor * point)
    torch.testing.assert_close(y, factor * glu_mb_conv(*rest, point))


@given(seeds, st.integers(0, 5))
def test_a_frame_is_seen_by_its_neighbours_alone(seed, changed):
    x, *rest = inputs(1, 3, 4, 2, (6, 2, 3), seed)
    other = x.clone()
    other[:, :, changed] += 1
    same = torch.isclose(glu_mb_conv(x, *rest), glu_mb_conv(other, *rest)).all(dim=(0, 1, 3, 4))
    assert [t for t in range(6) if not same[t]] == [t for t in range(6) if abs(t - changed) <= 1]


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
@pytest.mark.parametrize("rows", [1, 2, 4, 7])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_slabs_strips_and_chunks_do_not_change_the_result(monkeypatch, frames, rows, layout):
    """The C++ kernel, in pieces that do not divide what they are pieces of."""
    arguments = inputs(2, 6, 41, 5, (5, 7, 9), 0, torch.float32)
    arguments = (arguments[0].contiguous(memory_format=layout), *arguments[1:])
    plan = walk.Plan(frames=frames, rows=rows, channels=16)
    monkeypatch.setattr(walk, "choose", lambda *_: plan)
    with use_backend("cpu"):
        y = glu_mb_conv(*arguments)
    torch.testing.assert_close(y, composed(*arguments), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunks_of_the_torch_row_do_not_change_the_result(monkeypatch, dtype):
    arguments = [a.requires_grad_() for a in inputs(2, 6, 37, 5, (3, 4, 5), 0, dtype)]
    grad = torch.ones(2, 5, 3, 4, 5, dtype=dtype)
    results = []
    for elements in (1 << 24, 1):
        monkeypatch.setattr(_torch, "_CHUNK_ELEMENTS", elements)
        with use_backend("torch"):
            y = glu_mb_conv(*arguments)
            results.append((y, *torch.autograd.grad(y, arguments, grad)))
    tolerance = 1e-4 if dtype is torch.float32 else 4e-2
    for one, other in zip(*results, strict=True):
        scale = float(one.detach().abs().max())
        assert float((one - other).detach().abs().max()) <= tolerance * scale


@pytest.mark.parametrize(
    "size", [(32, 32, 32), (16, 16, 16), (8, 8, 8), (128, 96, 96), (1, 1, 9000)]
)
def test_the_plan_bounds_the_workspace(size):
    plan = walk.choose(size, 2048, _cpu._SLAB, _cpu._STRIP, _cpu._CHANNELS)
    positions = plan.frames * (plan.rows + 2) * size[2]
    assert 1 <= plan.frames <= size[0] and 1 <= plan.rows <= size[1]
    assert positions <= max(2 * _cpu._STRIP, 10 * size[2])
    assert plan.channels == _cpu._CHANNELS


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.ones(2, 4)}, ValueError, r"x must be \[B, C, T, H, W\]"),
        ({"inverted_weight": torch.ones(5, 2, 1, 1, 1)}, ValueError, "even number of output"),
        ({"inverted_weight": torch.ones(6, 3, 1, 1, 1)}, ValueError, r"expected \[6, 2, 1, 1, 1\]"),
        ({"inverted_bias": torch.ones(3)}, ValueError, r"inverted_bias has shape \[3\]"),
        ({"depth_weight": torch.ones(6, 1, 5, 5, 5)}, ValueError, r"expected \[6, 1, 3, 3, 3\]"),
        ({"depth_bias": torch.ones(6, 1)}, ValueError, r"depth_bias has shape \[6, 1\]"),
        ({"point_weight": torch.ones(2, 6, 1, 1, 1)}, ValueError, r"expected \[2, 3, 1, 1, 1\]"),
        ({"depth_bias": torch.ones(6).double()}, TypeError, "depth_bias is torch.float64"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {
        "x": torch.ones(1, 2, 1, 2, 3),
        "inverted_weight": torch.ones(6, 2, 1, 1, 1),
        "inverted_bias": torch.ones(6),
        "depth_weight": torch.ones(6, 1, 3, 3, 3),
        "depth_bias": torch.ones(6),
        "point_weight": torch.ones(2, 3, 1, 1, 1),
    }
    with pytest.raises(error, match=message):
        glu_mb_conv(**(arguments | change))
