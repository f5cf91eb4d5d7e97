"""Every Triton kernel compiles for every architecture we name: no spills, shared memory that fits.

Compilation needs no GPU. The launches are those that would be made for real shapes: the kernels and
`pick` are tested together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")
if os.environ.get("TRITON_INTERPRET"):
    pytest.skip("interpreted kernels do not compile", allow_module_level=True)

from opensora_fast.kernels.common._triton import plan_sum_partials
from opensora_fast.kernels.common.compile import compile_launch
from opensora_fast.kernels.common.launch import Launch
from opensora_fast.kernels.frame_causal_attention import _triton as frame_causal_attention
from opensora_fast.kernels.frame_causal_attention import launch as frame_causal_attention_launch
from opensora_fast.kernels.layer_norm_modulate import _triton as layer_norm_modulate
from opensora_fast.kernels.layer_norm_modulate import launch as layer_norm_modulate_launch
from opensora_fast.kernels.qk_norm_rope import _triton as qk_norm_rope
from opensora_fast.kernels.qk_norm_rope import launch as qk_norm_rope_launch

NUM_SMS = {80: 108, 90: 132, 100: 148}
WIDTHS = (64, 3072, 8192)  # many rows a tile, the released transformer, the widest
HEAD_DIMS = (128, 256)  # the released transformer, the largest
LENGTH = 76_544  # tokens of a 129-frame 768 px video with its text


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def plan_layer_norm_modulate(
    width: int, backward: bool, num_sms: int, dtype: torch.dtype = torch.bfloat16
) -> Launch:
    x, shift = meta(1, LENGTH, width, dtype=dtype), meta(1, width, dtype=dtype)
    problem = layer_norm_modulate_launch.Problem(
        batch=1, length=LENGTH, width=width, backward=backward
    )
    config = layer_norm_modulate_launch.pick(problem, num_sms)
    if not backward:
        return layer_norm_modulate.plan_forward(x, shift, shift, 1e-6, x, config)
    partial = layer_norm_modulate.new_partial(x, config)
    return layer_norm_modulate.plan_backward(x, x, shift, 1e-6, x, partial, config)


def plan_qk_norm_rope(
    head_dim: int, layout: str, backward: bool, num_sms: int, dtype: torch.dtype = torch.bfloat16
) -> Launch:
    q, weight = meta(1, LENGTH, 24, head_dim, dtype=dtype), meta(head_dim, dtype=dtype)
    table = meta(LENGTH, head_dim // 2, dtype=torch.float32)
    problem = qk_norm_rope_launch.Problem(
        batch=1, length=LENGTH, num_heads=24, head_dim=head_dim, backward=backward
    )
    config = qk_norm_rope_launch.pick(problem, num_sms)
    inputs = (q, q, weight, weight, table, table, layout, 1e-6)
    if not backward:
        return qk_norm_rope.plan_forward(*inputs, q, q, config)
    partial = qk_norm_rope.new_partial(q, config)
    return qk_norm_rope.plan_backward(q, q, *inputs, q, q, partial, config)


def plan_frame_causal_attention(
    head_dim: int, describable: bool, capability: int, dtype: torch.dtype = torch.bfloat16
) -> Launch:
    per_frame = 9216  # a latent frame of 96 x 96
    q, lse = meta(33 * per_frame, head_dim, dtype=dtype), meta(33 * per_frame, dtype=torch.float32)
    problem = frame_causal_attention_launch.Problem(
        head_dim=head_dim, half_precision=dtype.itemsize == 2, describable=describable
    )
    config = frame_causal_attention_launch.pick(problem, capability)
    return frame_causal_attention.plan_forward(q, q, q, 33, q, lse, config)


def launches(capability: int) -> Iterator[Launch]:
    num_sms = NUM_SMS[capability]
    for backward in (False, True):
        for width in WIDTHS:
            yield plan_layer_norm_modulate(width, backward, num_sms)
        for head_dim in HEAD_DIMS:
            for layout in ("half", "interleaved"):
                yield plan_qk_norm_rope(head_dim, layout, backward, num_sms)
    # The released VAE's head, once by descriptors where there are any and once by pointers.
    for describable in (True, False):
        yield plan_frame_causal_attention(512, describable, capability)
    partial = meta(2, 1, 4 * num_sms, 3072, dtype=torch.float32)
    yield plan_sum_partials(partial, meta(1, 3072), meta(1, 3072))


@pytest.mark.parametrize(
    "capability",
    [pytest.param(80, marks=pytest.mark.slow), 90, pytest.param(100, marks=pytest.mark.slow)],
)
def test_every_kernel_fits_the_device(capability: int) -> None:
    complaints = []
    for launch in launches(capability):
        resources = compile_launch(launch, capability)
        complaints += [f"{c} ({dict(launch.constants)})" for c in resources.complaints()]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(
    "launch",
    [
        plan_layer_norm_modulate(8192, True, 132, torch.float32),
        plan_qk_norm_rope(256, "interleaved", True, 132, torch.float32),
        plan_frame_causal_attention(128, True, 90, torch.float32),
    ],
    ids=["layer_norm_modulate", "qk_norm_rope", "frame_causal_attention"],
)
def test_the_widest_fp32_kernel_fits_the_device(launch: Launch) -> None:
    assert compile_launch(launch, 90).complaints() == []


def test_dense_half_precision_rows_are_read_16_bytes_at_a_time() -> None:
    launch = plan_layer_norm_modulate(3072, False, 132)
    assert "ld.global.v4" in compile_launch(launch, 90).ptx
    launch = plan_qk_norm_rope(128, "interleaved", False, 132)
    assert "ld.global.v4" in compile_launch(launch, 90).ptx


def test_hopper_attention_uses_its_tensor_cores_and_bulk_copies() -> None:
    ptx = compile_launch(plan_frame_causal_attention(512, True, 90), 90).ptx
    assert "wgmma.mma_async" in ptx and "cp.async.bulk.tensor" in ptx


def test_a_kernel_that_does_not_fit_is_reported() -> None:
    """The gate itself: one warp for the widest row cannot hold it in registers."""
    launch = plan_layer_norm_modulate(8192, True, 132)
    starved = Launch(
        kernel=launch.kernel,
        grid=launch.grid,
        arguments=launch.arguments,
        constants=launch.constants,
        num_warps=2,
    )
    resources = compile_launch(starved, 90)
    assert resources.stack_bytes > 0
    assert "registers are spilled" in resources.complaints()[0]


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="compute capability 61 is unknown"):
        compile_launch(plan_layer_norm_modulate(64, False, 132), 61)
