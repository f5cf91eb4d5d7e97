"""Properties of linear_attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import linear_attention
from opensora_fast.kernels.linear_attention import launch
from opensora_fast.kernels.registry import use_backend

sizes = st.tuples(*(st.integers(1, n) for n in (4, 5, 6)))
seeds = st.integers(0, 2**16)
BACKENDS = ("cpu", "torch", "reference")


def inputs(batch, heads, head_dim, size, seed, dtype=torch.float64, kernel=3):
    generator = torch.Generator().manual_seed(seed)
    width = 3 * heads * head_dim
    shapes = ((batch, width, *size), (width, 1, *[kernel] * 3), (width, head_dim, 1, 1, 1))
    # A mean above zero keeps the denominators away from it.
    return tuple(torch.randn(s, generator=generator, dtype=dtype) * 0.5 + 0.2 for s in shapes)


def attention(qkv, head_dim):
    """Every weight of every pair of positions, and their sum one."""
    q, k, v = qkv.reshape(qkv.shape[0], -1, 3, head_dim, qkv.shape[2:].numel()).unbind(2)
    weights = F.relu(q).mT @ F.relu(k)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-15)
    return (v @ weights.mT).reshape(qkv.shape[0], -1, *qkv.shape[2:])


@given(st.integers(1, 2), st.integers(1, 3), st.sampled_from((1, 4, 7)), sizes, seeds)
def test_equals_quadratic_attention_of_both_scales(batch, heads, head_dim, size, seed):
    qkv, depth, point = inputs(batch, heads, head_dim, size, seed)
    aggregated = F.conv3d(qkv, depth, padding=1, groups=qkv.shape[1])
    aggregated = F.conv3d(aggregated, point, groups=3 * heads)
    expected = torch.cat([attention(qkv, head_dim), attention(aggregated, head_dim)], dim=1)
    torch.testing.assert_close(linear_attention(qkv, depth, point, head_dim), expected)


@given(sizes, seeds)
def test_order_of_positions_does_not_matter_to_the_base_heads(size, seed):
    qkv, depth, point = inputs(1, 2, 4, size, seed)
    order = torch.randperm(qkv[0, 0].numel(), generator=torch.Generator().manual_seed(seed))
    shuffled = qkv.flatten(2)[..., order].view(qkv.shape)
    base = linear_attention(qkv, depth, point, 4)[:, :8].flatten(2)
    other = linear_attention(shuffled, depth, point, 4)[:, :8].flatten(2)
    torch.testing.assert_close(other, base[..., order])


@given(sizes, seeds)
def test_a_centre_tap_and_unit_matrices_aggregate_nothing(size, seed):
    qkv, depth, point = inputs(2, 2, 4, size, seed)
    centre = torch.zeros_like(depth)
    centre[:, 0, 1, 1, 1] = 1
    unit = torch.eye(4, dtype=qkv.dtype).repeat(6, 1).view(point.shape)
    base, aggregated = linear_attention(qkv, centre, unit, 4).chunk(2, dim=1)
    torch.testing.assert_close(aggregated, base)


@given(sizes, seeds, st.floats(0.25, 4))
def test_linear_in_v_and_blind_to_the_scale_of_q_and_k(size, seed, factor):
    qkv, depth, point = inputs(1, 1, 4, size, seed)
    scaled = qkv * torch.tensor([factor, factor**2, 3.0]).repeat_interleave(4).view(-1, 1, 1, 1)
    y, other = (linear_attention(x, depth, point, 4) for x in (qkv, scaled))
    torch.testing.assert_close(other, 3 * y)


@given(seeds)
def test_values_that_are_equal_come_out_as_they_are(seed):
    qkv, depth, point = inputs(1, 1, 4, (2, 3, 4), seed)
    qkv[:, :8].abs_().add_(0.1)
    qkv[:, 8:] = torch.arange(4.0).view(-1, 1, 1, 1)
    y = linear_attention(qkv, depth, point, 4)[:, :4]
    torch.testing.assert_close(y, qkv[:, 8:])


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_positive_query_nothing_is_attended(backend):
    qkv, depth, point = inputs(1, 1, 32, (2, 2, 3), 0, torch.float32)
    qkv[:, :32] = -1.0
    with use_backend(backend):
        y = linear_attention(qkv, depth.abs(), point.abs())
    assert torch.equal(y, torch.zeros_like(y))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_nan_is_seen_by_its_own_head_and_video_alone(backend, dtype):
    qkv, depth, point = inputs(2, 2, 32, (3, 2, 4), 0, dtype)
    qkv[0, 40, 0, 0, 0] = torch.nan  # a key of the first head
    with use_backend(backend):
        y = linear_attention(qkv, depth, point).unflatten(1, (2, 2, 32))
    assert y[0, :, 0].isnan().all()
    assert not y[0, :, 1].isnan().any() and not y[1].isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_do_not_change_a_bit(dtype):
    arguments = inputs(1, 2, 32, (11, 5, 9), 0, dtype)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with use_backend("cpu"):
                results.append(linear_attention(*arguments))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"qkv": torch.ones(12, 4)}, ValueError, r"qkv must be \[B, 3\*C, T, H, W\]"),
        ({"head_dim": 3}, ValueError, "multiple of head_dim 3"),
        ({"depth_weight": torch.ones(12, 1, 3, 4, 3)}, ValueError, "odd kT, kH, kW"),
        ({"point_weight": torch.ones(12, 12, 1, 1, 1)}, ValueError, r"expected \[12, 4, 1, 1, 1\]"),
        ({"eps": -1.0}, ValueError, "eps must not be negative"),
        ({"point_weight": torch.ones(12, 4, 1, 1, 1).half()}, TypeError, "point_weight is"),
        ({"qkv": torch.ones(1, 12, 1, 2, 3, dtype=torch.int8)}, TypeError, "floating-point"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {
        "qkv": torch.ones(1, 12, 1, 2, 3),
        "depth_weight": torch.ones(12, 1, 3, 3, 3),
        "point_weight": torch.ones(12, 4, 1, 1, 1),
        "head_dim": 4,
    }
    with pytest.raises(error, match=message):
        linear_attention(**(arguments | change))


@pytest.mark.parametrize("positions", [1, 64, 65, 4096, 32768])
@pytest.mark.parametrize("heads", [1, 32, 400])
def test_triton_programs_cover_every_position(positions, heads):
    problem = launch.Problem(heads=heads, head_dim=32, positions=positions, itemsize=2)
    config = launch.pick(problem, 132)
    run = config.tiles_per_program * config.block_p
    assert (config.programs_per_head - 1) * run < positions <= config.programs_per_head * run
