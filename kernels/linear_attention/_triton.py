"""linear_attention in Triton: three kernels, two passes over qkv.

``aggregate_kernel``, one program per (batch, head, run of positions): aggregates q, k and v of its
positions, depthwise over the neighbours and then a product within each of the three; writes q
where the output will be; adds v k^T and k of both scales up in registers. A second kernel adds the
programs' sums in order. ``apply_kernel``, one program per (batch, head, scale, tile): S q over
z . q.

Memory: qkv is read with its neighbours from the caches; the aggregated k and v are never written,
the aggregated q once, into the output that replaces it. Either layout is read as it lies: a
position's number times one stride, a channel's times another.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common._triton import plan_sum_partials
from ..common.launch import Launch, cdiv, multiprocessors
from ..contract import layout_of
from .launch import Config, Problem, pick


@triton.jit
def aggregated(
    qkv_ptr, depth_ptr, point_ptr, offs_p, mask_p, offs_t, offs_h, offs_w, first, channels,
    T, H, W, stride_p, stride_c,
    D: tl.constexpr, KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    BLOCK_P: tl.constexpr,
):  # fmt: skip
    """The D channels from ``first`` on, aggregated: [BLOCK_P, D] in fp32."""
    offs_c = first + tl.arange(0, D).to(tl.int64)
    b_sum = tl.zeros([BLOCK_P, D], dtype=tl.float32)
    for row in range(0, KT * KH):
        t = row // KH - KT // 2
        h = row % KH - KH // 2
        mask_row = mask_p & (offs_t + t >= 0) & (offs_t + t < T)
        mask_row = mask_row & (offs_h + h >= 0) & (offs_h + h < H)
        for w in tl.static_range(KW):
            mask = mask_row & (offs_w + (w - KW // 2) >= 0) & (offs_w + (w - KW // 2) < W)
            near = offs_p + (t * H + h) * W + (w - KW // 2)
            at = near[:, None] * stride_p + offs_c[None, :] * stride_c
            b_x = tl.load(qkv_ptr + at, mask=mask[:, None], other=0.0).to(tl.float32)
            b_tap = tl.load(depth_ptr + (row * KW + w) * channels + offs_c).to(tl.float32)
            b_sum += b_x * b_tap[None, :]
    # point is [output, input] within the D channels.
    at = offs_c[None, :] * D + tl.arange(0, D)[:, None]
    b_point = tl.load(point_ptr + at).to(tl.float32)
    return tl.dot(b_sum, b_point, input_precision="ieee")


@triton.jit
def aggregate_kernel(
    qkv_ptr, depth_ptr, point_ptr, y_ptr, partial_ptr, P, T, H, W, heads,
    stride_b, stride_p, stride_c, y_stride_b, y_stride_p, y_stride_c,
    programs_per_head, tiles_per_program,
    D: tl.constexpr, KT: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
    BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Partial sums of both scales, [batch, head, scale, program, D + 1, D]; aggregated q into y."""
    pid = tl.program_id(0).to(tl.int64)
    pid_p = pid % programs_per_head
    pid_n = pid // programs_per_head
    batch, head = pid_n // heads, pid_n % heads
    dtype = qkv_ptr.dtype.element_ty
    qkv_ptr += batch * stride_b
    y_ptr += batch * y_stride_b + (heads + head) * D * y_stride_c
    first = 3 * head * D
    channels = 3 * heads * D
    offs_d = tl.arange(0, D)
    b_state = tl.zeros([D, D], dtype=tl.float32)
    b_total = tl.zeros([D], dtype=tl.float32)
    b_own_state = tl.zeros([D, D], dtype=tl.float32)
    b_own_total = tl.zeros([D], dtype=tl.float32)
    for tile in range(0, tiles_per_program):
        offs_p = (pid_p * tiles_per_program + tile) * BLOCK_P + tl.arange(0, BLOCK_P)
        mask_p = offs_p < P
        offs_w = offs_p % W
        offs_h = offs_p // W % H
        offs_t = offs_p // W // H
        at = offs_p[:, None] * stride_p + (first + D + offs_d)[None, :] * stride_c
        b_k = tl.load(qkv_ptr + at, mask=mask_p[:, None], other=0.0).to(tl.float32)
        b_k = tl.maximum(b_k, 0.0, propagate_nan=tl.PropagateNan.ALL).to(dtype)
        b_v = tl.load(qkv_ptr + at + D * stride_c, mask=mask_p[:, None], other=0.0)
        b_own_state += tl.dot(tl.trans(b_v), b_k, input_precision="ieee")
        b_own_total += tl.sum(b_k.to(tl.float32), axis=0)

        b_q = aggregated(
            qkv_ptr, depth_ptr, point_ptr, offs_p, mask_p, offs_t, offs_h, offs_w, first,
            channels, T, H, W, stride_p, stride_c, D, KT, KH, KW, BLOCK_P,
        )  # fmt: skip
        at = offs_p[:, None] * y_stride_p + offs_d[None, :] * y_stride_c
        tl.store(y_ptr + at, b_q.to(dtype), mask=mask_p[:, None])
        b_k = aggregated(
            qkv_ptr, depth_ptr, point_ptr, offs_p, mask_p, offs_t, offs_h, offs_w, first + D,
            channels, T, H, W, stride_p, stride_c, D, KT, KH, KW, BLOCK_P,
        )  # fmt: skip
        b_k = tl.maximum(b_k, 0.0, propagate_nan=tl.PropagateNan.ALL).to(dtype)
        b_v = aggregated(
            qkv_ptr, depth_ptr, point_ptr, offs_p, mask_p, offs_t, offs_h, offs_w, first + 2 * D,
            channels, T, H, W, stride_p, stride_c, D, KT, KH, KW, BLOCK_P,
        )  # fmt: skip
        b_state += tl.dot(tl.trans(b_v.to(dtype)), b_k, input_precision="ieee")
        b_total += tl.sum(b_k.to(tl.float32), axis=0)
    size = (D + 1) * D
    to = partial_ptr + (pid_n * 2 * programs_per_head + pid_p) * size
    at = offs_d[:, None] * D + offs_d[None, :]
    tl.store(to + at, b_own_state)
    tl.store(to + D * D + offs_d, b_own_total)
    to += programs_per_head * size
    tl.store(to + at, b_state)
    tl.store(to + D * D + offs_d, b_total)


@triton.jit
def apply_kernel(
    qkv_ptr, y_ptr, state_ptr, P, heads, eps,
    stride_b, stride_p, stride_c, y_stride_b, y_stride_p, y_stride_c,
    D: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """One tile of one head of one scale; the aggregated q lies where its output goes."""
    pid_p = tl.program_id(0).to(tl.int64)
    pid_g = tl.program_id(1).to(tl.int64)
    scale = pid_g % 2
    batch, head = pid_g // 2 // heads, pid_g // 2 % heads
    offs_p = pid_p * BLOCK_P + tl.arange(0, BLOCK_P)
    offs_d = tl.arange(0, D)
    mask = (offs_p < P)[:, None]
    at_y = y_ptr + batch * y_stride_b + offs_p[:, None] * y_stride_p
    at_y += ((scale * heads + head) * D + offs_d)[None, :] * y_stride_c
    at = qkv_ptr + batch * stride_b + offs_p[:, None] * stride_p
    at += (3 * head * D + offs_d)[None, :] * stride_c
    # One of the two is there.
    mask_base = (offs_p < P * (1 - scale))[:, None]
    b_q = tl.load(at, mask=mask_base, other=0.0).to(tl.float32)
    b_q += tl.load(at_y, mask=mask & ~mask_base, other=0.0).to(tl.float32)
    b_q = tl.maximum(b_q, 0.0, propagate_nan=tl.PropagateNan.ALL)
    state_ptr += pid_g * (D + 1) * D
    # S is [v, k]; here [k, v].
    b_state = tl.load(state_ptr + offs_d[None, :] * D + offs_d[:, None])
    b_total = tl.load(state_ptr + D * D + offs_d)
    b_denominator = tl.sum(b_q * b_total[None, :], axis=1) + eps
    b_out = tl.dot(b_q, b_state, input_precision="ieee") / b_denominator[:, None]
    tl.store(at_y, b_out.to(y_ptr.dtype.element_ty), mask=mask)


def forward(
    qkv: torch.Tensor, depth_weight: torch.Tensor, point_weight: torch.Tensor, head_dim: int,
    eps: float,
) -> torch.Tensor:  # fmt: skip
    """Run the forward as the op's schema has it."""
    layout = layout_of(qkv)
    qkv = qkv.contiguous(memory_format=layout)
    batch, width = qkv.shape[:2]
    y = torch.empty(
        (batch, width // 3 * 2, *qkv.shape[2:]),
        dtype=qkv.dtype,
        device=qkv.device,
        memory_format=layout,
    )
    # Taps of neighbouring channels next to each other.
    taps = depth_weight.flatten(1).t().contiguous()
    config = pick(problem_of(qkv, head_dim), multiprocessors(qkv.device))
    partial, state = new_sums(qkv, head_dim, config)
    kernel = tuple(depth_weight.shape[2:])
    plan_aggregate(qkv, taps, point_weight.contiguous(), y, partial, kernel, config).run()
    plan_sum_partials(partial, state).run()
    plan_apply(qkv, y, state, head_dim, eps, config).run()
    return y


def problem_of(qkv: torch.Tensor, head_dim: int) -> Problem:
    """Describe a call."""
    return Problem(
        heads=qkv.shape[0] * qkv.shape[1] // (3 * head_dim),
        head_dim=head_dim,
        positions=qkv[0, 0].numel(),
        itemsize=qkv.element_size(),
    )


def new_sums(qkv: torch.Tensor, head_dim: int, config: Config) -> tuple[torch.Tensor, torch.Tensor]:
    """S and z of every program, [1, batch · heads · scales, programs, (D + 1) · D], and in all."""
    heads = problem_of(qkv, head_dim).heads
    size = (head_dim + 1) * head_dim
    options = {"dtype": torch.float32, "device": qkv.device}
    partial = torch.empty((1, 2 * heads, config.programs_per_head, size), **options)
    return partial, torch.empty((2 * heads, size), **options)


def plan_aggregate(
    qkv: torch.Tensor, taps: torch.Tensor, point_weight: torch.Tensor, y: torch.Tensor,
    partial: torch.Tensor, kernel: tuple[int, ...], config: Config,
) -> Launch:  # fmt: skip
    """Plan the partial sums of ``new_sums`` and the aggregated q; taps is [kT·kH·kW, 3·C]."""
    head_dim = point_weight.shape[1]
    frames, rows, columns = qkv.shape[2:]
    return Launch(
        kernel=aggregate_kernel,
        grid=(problem_of(qkv, head_dim).heads * config.programs_per_head,),
        arguments={
            "qkv_ptr": qkv,
            "depth_ptr": taps,
            "point_ptr": point_weight,
            "y_ptr": y,
            "partial_ptr": partial,
            "P": frames * rows * columns,
            "T": frames,
            "H": rows,
            "W": columns,
            "heads": qkv.shape[1] // (3 * head_dim),
            "programs_per_head": config.programs_per_head,
            "tiles_per_program": config.tiles_per_program,
        }
        | _strides(qkv, y),
        constants={
            "D": head_dim,
            "KT": kernel[0],
            "KH": kernel[1],
            "KW": kernel[2],
            "BLOCK_P": config.block_p,
        },
        num_warps=config.num_warps,
    )


def plan_apply(
    qkv: torch.Tensor, y: torch.Tensor, state: torch.Tensor, head_dim: int, eps: float,
    config: Config,
) -> Launch:  # fmt: skip
    """Plan the outputs of both scales."""
    problem = problem_of(qkv, head_dim)
    return Launch(
        kernel=apply_kernel,
        grid=(cdiv(problem.positions, config.apply_block_p), 2 * problem.heads),
        arguments={
            "qkv_ptr": qkv,
            "y_ptr": y,
            "state_ptr": state,
            "P": problem.positions,
            "heads": qkv.shape[1] // (3 * head_dim),
            "eps": eps,
        }
        | _strides(qkv, y),
        constants={"D": head_dim, "BLOCK_P": config.apply_block_p},
        num_warps=config.num_warps,
    )


def _strides(qkv: torch.Tensor, y: torch.Tensor) -> dict[str, int]:
    """Of samples, positions and channels, whatever the strides of axes of one element say."""
    last = layout_of(qkv) is torch.channels_last_3d
    found = {}
    for prefix, tensor in (("", qkv), ("y_", y)):
        channels, positions = tensor.shape[1], tensor[0, 0].numel()
        found[prefix + "stride_b"] = channels * positions
        found[prefix + "stride_p"] = channels if last else 1
        found[prefix + "stride_c"] = 1 if last else positions
    return found
