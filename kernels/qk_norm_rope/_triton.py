"""Triton kernels of qk_norm_rope: RMSNorm over a head, then rotation of channel pairs, of q and k.

    n = round(x * rstd),  (low, high) = round(n * weight),
    y_low = low * cos - high * sin,  y_high = high * cos + low * sin

round() is to the dtype of x; rstd, rotation and sums are fp32. Pairs are channels (j, j + D/2) in
the layout "half", (2j, 2j + 1) in "interleaved".
Layout: q, k [B, L, N, D], weights [D], cos and sin [B, L, D/2], any strides (stride 0 in B where
the tables are shared); outputs contiguous, the forward's at least within a sample.
Parallel: one program per (batch item, run of tiles of heads). It treats the same heads of q and k,
which share cos and sin.
Bytes: the forward reads and writes q and k once. The backward reads dq, dk, q and k (rstd is
recomputed), writes dq and dk and, per program, one row of partial sums of the weights' gradients,
which a second small kernel adds.

Backward, with g = rotation by -angle of dy, in fp32:  dweight = sum g * n,  p = g * weight,
dx = rstd * (p - x * rstd * mean(p * x * rstd)).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common._triton import plan_sum_partials, reciprocal_root
from ..common.launch import Launch, multiprocessors, strides
from .launch import Config, Problem, pick


@triton.jit
def load_pairs(
    base_ptr,
    at_row,
    mask_row,
    stride_d,
    D: tl.constexpr,
    HALF: tl.constexpr,
    INTERLEAVED: tl.constexpr,
):
    """Load both members of every pair of the rows at ``at_row``: two fp32 tiles [R, HALF]."""
    if INTERLEAVED:
        # One dense load, split in registers: two loads of every other element would be narrow ones.
        offs_d = tl.arange(0, 2 * HALF)
        mask = mask_row[:, None] & (offs_d < D)[None, :]
        at = at_row[:, None] + offs_d.to(tl.int64)[None, :] * stride_d
        b_x = tl.load(base_ptr + at, mask=mask, other=0.0).to(tl.float32)
        b_low, b_high = tl.split(tl.reshape(b_x, [b_x.shape[0], HALF, 2]))
    else:
        offs_j = tl.arange(0, HALF)
        mask = mask_row[:, None] & (offs_j < D // 2)[None, :]
        at = at_row[:, None] + offs_j.to(tl.int64)[None, :] * stride_d
        b_low = tl.load(base_ptr + at, mask=mask, other=0.0).to(tl.float32)
        b_high = tl.load(base_ptr + at + (D // 2) * stride_d, mask=mask, other=0.0).to(tl.float32)
    return b_low, b_high


@triton.jit
def store_pairs(
    base_ptr,
    at_row,
    mask_row,
    b_low,
    b_high,
    D: tl.constexpr,
    HALF: tl.constexpr,
    INTERLEAVED: tl.constexpr,
):
    """Store pairs to dense rows at ``at_row``, rounded to the dtype of the pointer."""
    dtype = base_ptr.dtype.element_ty
    if INTERLEAVED:
        offs_d = tl.arange(0, 2 * HALF)
        mask = mask_row[:, None] & (offs_d < D)[None, :]
        b_x = tl.reshape(tl.join(b_low.to(dtype), b_high.to(dtype)), [b_low.shape[0], 2 * HALF])
        tl.store(base_ptr + at_row[:, None] + offs_d[None, :], b_x, mask=mask)
    else:
        offs_j = tl.arange(0, HALF)
        mask = mask_row[:, None] & (offs_j < D // 2)[None, :]
        at = at_row[:, None] + offs_j[None, :]
        tl.store(base_ptr + at, b_low.to(dtype), mask=mask)
        tl.store(base_ptr + at + D // 2, b_high.to(dtype), mask=mask)


@triton.jit
def load_weight(weight_ptr, stride, offs_low, offs_high, mask_j):
    """The weights of both members of every pair, fp32 [1, HALF] each."""
    b_low = tl.load(weight_ptr + offs_low * stride, mask=mask_j, other=0.0).to(tl.float32)
    b_high = tl.load(weight_ptr + offs_high * stride, mask=mask_j, other=0.0).to(tl.float32)
    return b_low[None, :], b_high[None, :]


@triton.jit
def norm_rope(
    b_low,
    b_high,
    b_weight_low,
    b_weight_high,
    b_cos,
    b_sin,
    eps,
    D: tl.constexpr,
    dtype: tl.constexpr,
):
    b_square = tl.sum(b_low * b_low + b_high * b_high, axis=1)
    b_rstd = reciprocal_root(b_square / D, eps)[:, None]
    b_low = (b_low * b_rstd).to(dtype).to(tl.float32) * b_weight_low.to(dtype).to(tl.float32)
    b_high = (b_high * b_rstd).to(dtype).to(tl.float32) * b_weight_high.to(dtype).to(tl.float32)
    b_low = b_low.to(dtype).to(tl.float32)
    b_high = b_high.to(dtype).to(tl.float32)
    return b_low * b_cos - b_high * b_sin, b_high * b_cos + b_low * b_sin


@triton.jit
def norm_rope_backward(
    b_dlow, b_dhigh, b_low, b_high, b_weight_low, b_weight_high, b_cos, b_sin, mask_row, eps,
    D: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """Gradients of the input pair, and the rows' contributions to the weight's gradient."""
    b_glow = b_dlow * b_cos + b_dhigh * b_sin
    b_ghigh = b_dhigh * b_cos - b_dlow * b_sin
    b_rstd = reciprocal_root(tl.sum(b_low * b_low + b_high * b_high, axis=1) / D, eps)
    # A row past the end is zero: with eps = 0 its infinite rstd would poison the sums.
    b_rstd = tl.where(mask_row, b_rstd, 0.0)[:, None]
    b_low = b_low * b_rstd
    b_high = b_high * b_rstd
    b_dweight_low = b_glow * b_low.to(dtype).to(tl.float32)
    b_dweight_high = b_ghigh * b_high.to(dtype).to(tl.float32)
    b_plow = b_glow * b_weight_low
    b_phigh = b_ghigh * b_weight_high
    b_along = (tl.sum(b_plow * b_low + b_phigh * b_high, axis=1) / D)[:, None]
    b_dlow = b_rstd * (b_plow - b_low * b_along)
    b_dhigh = b_rstd * (b_phigh - b_high * b_along)
    return b_dlow, b_dhigh, b_dweight_low, b_dweight_high


@triton.jit
def load_table(table_ptr, pid_b, offs_l, mask, stride_b, stride_l, stride_d, HALF: tl.constexpr):
    offs_j = tl.arange(0, HALF).to(tl.int64)
    at = pid_b * stride_b + offs_l[:, None] * stride_l + offs_j[None, :] * stride_d
    return tl.load(table_ptr + at, mask=mask, other=0.0)


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, q_scale_ptr, k_scale_ptr, cos_ptr, sin_ptr, q_out_ptr, k_out_ptr, L, N, eps,
    q_stride_b, q_stride_l, q_stride_n, q_stride_d,
    k_stride_b, k_stride_l, k_stride_n, k_stride_d,
    q_scale_stride_d, k_scale_stride_d,
    cos_stride_b, cos_stride_l, cos_stride_d, sin_stride_b, sin_stride_l, sin_stride_d,
    out_stride_b, programs_per_item, tiles_per_program,
    D: tl.constexpr, INTERLEAVED: tl.constexpr, BLOCK_R: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    pid_b = pid // programs_per_item
    pid_r = pid % programs_per_item
    offs_j = tl.arange(0, HALF).to(tl.int64)
    mask_j = offs_j < D // 2
    offs_low = 2 * offs_j if INTERLEAVED else offs_j
    offs_high = 2 * offs_j + 1 if INTERLEAVED else offs_j + D // 2
    b_wq_low, b_wq_high = load_weight(q_scale_ptr, q_scale_stride_d, offs_low, offs_high, mask_j)
    b_wk_low, b_wk_high = load_weight(k_scale_ptr, k_scale_stride_d, offs_low, offs_high, mask_j)
    for tile in range(0, tiles_per_program):
        # Rows of one batch item fit 32 bits (see launch.why_not): the division is a cheap one.
        offs_r = ((pid_r * tiles_per_program + tile) * BLOCK_R).to(tl.int32) + tl.arange(0, BLOCK_R)
        offs_l = (offs_r // N).to(tl.int64)
        offs_n = (offs_r % N).to(tl.int64)
        mask_r = offs_l < L
        mask = mask_r[:, None] & mask_j[None, :]
        b_cos = load_table(
            cos_ptr, pid_b, offs_l, mask, cos_stride_b, cos_stride_l, cos_stride_d, HALF
        )
        b_sin = load_table(
            sin_ptr, pid_b, offs_l, mask, sin_stride_b, sin_stride_l, sin_stride_d, HALF
        )
        at_out = pid_b * out_stride_b + offs_r.to(tl.int64) * D
        at_q = pid_b * q_stride_b + offs_l * q_stride_l + offs_n * q_stride_n
        b_low, b_high = load_pairs(q_ptr, at_q, mask_r, q_stride_d, D, HALF, INTERLEAVED)
        b_low, b_high = norm_rope(
            b_low, b_high, b_wq_low, b_wq_high, b_cos, b_sin, eps, D, q_ptr.dtype.element_ty
        )
        store_pairs(q_out_ptr, at_out, mask_r, b_low, b_high, D, HALF, INTERLEAVED)
        at_k = pid_b * k_stride_b + offs_l * k_stride_l + offs_n * k_stride_n
        b_low, b_high = load_pairs(k_ptr, at_k, mask_r, k_stride_d, D, HALF, INTERLEAVED)
        b_low, b_high = norm_rope(
            b_low, b_high, b_wk_low, b_wk_high, b_cos, b_sin, eps, D, k_ptr.dtype.element_ty
        )
        store_pairs(k_out_ptr, at_out, mask_r, b_low, b_high, D, HALF, INTERLEAVED)


@triton.jit
def backward_kernel(
    dq_out_ptr, dk_out_ptr, q_ptr, k_ptr, q_scale_ptr, k_scale_ptr, cos_ptr, sin_ptr,
    dq_ptr, dk_ptr, partial_ptr, L, N, eps,
    dq_out_stride_b, dq_out_stride_l, dq_out_stride_n, dq_out_stride_d,
    dk_out_stride_b, dk_out_stride_l, dk_out_stride_n, dk_out_stride_d,
    q_stride_b, q_stride_l, q_stride_n, q_stride_d,
    k_stride_b, k_stride_l, k_stride_n, k_stride_d,
    q_scale_stride_d, k_scale_stride_d,
    cos_stride_b, cos_stride_l, cos_stride_d, sin_stride_b, sin_stride_l, sin_stride_d,
    partial_stride, programs_per_item, tiles_per_program,
    D: tl.constexpr, INTERLEAVED: tl.constexpr, BLOCK_R: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    pid_b = pid // programs_per_item
    pid_r = pid % programs_per_item
    offs_j = tl.arange(0, HALF).to(tl.int64)
    mask_j = offs_j < D // 2
    offs_low = 2 * offs_j if INTERLEAVED else offs_j
    offs_high = 2 * offs_j + 1 if INTERLEAVED else offs_j + D // 2
    b_wq_low, b_wq_high = load_weight(q_scale_ptr, q_scale_stride_d, offs_low, offs_high, mask_j)
    b_wk_low, b_wk_high = load_weight(k_scale_ptr, k_scale_stride_d, offs_low, offs_high, mask_j)
    b_dwq_low = tl.zeros([BLOCK_R, HALF], dtype=tl.float32)
    b_dwq_high = tl.zeros([BLOCK_R, HALF], dtype=tl.float32)
    b_dwk_low = tl.zeros([BLOCK_R, HALF], dtype=tl.float32)
    b_dwk_high = tl.zeros([BLOCK_R, HALF], dtype=tl.float32)
    for tile in range(0, tiles_per_program):
        # Rows of one batch item fit 32 bits (see launch.why_not): the division is a cheap one.
        offs_r = ((pid_r * tiles_per_program + tile) * BLOCK_R).to(tl.int32) + tl.arange(0, BLOCK_R)
        offs_l = (offs_r // N).to(tl.int64)
        offs_n = (offs_r % N).to(tl.int64)
        mask_r = offs_l < L
        mask = mask_r[:, None] & mask_j[None, :]
        b_cos = load_table(
            cos_ptr, pid_b, offs_l, mask, cos_stride_b, cos_stride_l, cos_stride_d, HALF
        )
        b_sin = load_table(
            sin_ptr, pid_b, offs_l, mask, sin_stride_b, sin_stride_l, sin_stride_d, HALF
        )
        at_dx = (pid_b * L * N + offs_r) * D
        at_dy = pid_b * dq_out_stride_b + offs_l * dq_out_stride_l + offs_n * dq_out_stride_n
        at_x = pid_b * q_stride_b + offs_l * q_stride_l + offs_n * q_stride_n
        b_dlow, b_dhigh = load_pairs(
            dq_out_ptr, at_dy, mask_r, dq_out_stride_d, D, HALF, INTERLEAVED
        )
        b_low, b_high = load_pairs(q_ptr, at_x, mask_r, q_stride_d, D, HALF, INTERLEAVED)
        b_dlow, b_dhigh, b_dw_low, b_dw_high = norm_rope_backward(
            b_dlow, b_dhigh, b_low, b_high, b_wq_low, b_wq_high, b_cos, b_sin, mask_r, eps, D,
            q_ptr.dtype.element_ty,
        )  # fmt: skip
        b_dwq_low += b_dw_low
        b_dwq_high += b_dw_high
        store_pairs(dq_ptr, at_dx, mask_r, b_dlow, b_dhigh, D, HALF, INTERLEAVED)
        at_dy = pid_b * dk_out_stride_b + offs_l * dk_out_stride_l + offs_n * dk_out_stride_n
        at_x = pid_b * k_stride_b + offs_l * k_stride_l + offs_n * k_stride_n
        b_dlow, b_dhigh = load_pairs(
            dk_out_ptr, at_dy, mask_r, dk_out_stride_d, D, HALF, INTERLEAVED
        )
        b_low, b_high = load_pairs(k_ptr, at_x, mask_r, k_stride_d, D, HALF, INTERLEAVED)
        b_dlow, b_dhigh, b_dw_low, b_dw_high = norm_rope_backward(
            b_dlow, b_dhigh, b_low, b_high, b_wk_low, b_wk_high, b_cos, b_sin, mask_r, eps, D,
            k_ptr.dtype.element_ty,
        )  # fmt: skip
        b_dwk_low += b_dw_low
        b_dwk_high += b_dw_high
        store_pairs(dk_ptr, at_dx, mask_r, b_dlow, b_dhigh, D, HALF, INTERLEAVED)
    at_partial = partial_ptr + pid * D
    tl.store(at_partial + offs_low, tl.sum(b_dwq_low, axis=0), mask=mask_j)
    tl.store(at_partial + offs_high, tl.sum(b_dwq_high, axis=0), mask=mask_j)
    at_partial += partial_stride
    tl.store(at_partial + offs_low, tl.sum(b_dwk_low, axis=0), mask=mask_j)
    tl.store(at_partial + offs_high, tl.sum(b_dwk_high, axis=0), mask=mask_j)


def forward(
    q: torch.Tensor, k: torch.Tensor, q_scale: torch.Tensor, k_scale: torch.Tensor,
    cos: torch.Tensor, sin: torch.Tensor, layout: str, eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Run the forward as the op's schema has it."""
    q_out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    k_out = torch.empty(k.shape, dtype=k.dtype, device=k.device)
    write(q, k, q_scale, k_scale, cos, sin, layout, eps, q_out, k_out)
    return q_out, k_out


def write(
    q: torch.Tensor, k: torch.Tensor, q_scale: torch.Tensor, k_scale: torch.Tensor,
    cos: torch.Tensor, sin: torch.Tensor, layout: str, eps: float,
    q_out: torch.Tensor, k_out: torch.Tensor,
) -> None:  # fmt: skip
    """Write the forward's results to tensors of equal strides whose samples are dense."""
    config = pick(_problem(q, backward=False), multiprocessors(q.device))
    plan_forward(q, k, q_scale, k_scale, cos, sin, layout, eps, q_out, k_out, config).run()


def backward(
    grad_q: torch.Tensor, grad_k: torch.Tensor, q: torch.Tensor, k: torch.Tensor,
    q_scale: torch.Tensor, k_scale: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
    layout: str, eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Run the backward as the op's schema has it: gradients of q, k, q_scale and k_scale."""
    dq = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    dk = torch.empty(k.shape, dtype=k.dtype, device=k.device)
    dq_scale = torch.empty(q_scale.shape, dtype=q_scale.dtype, device=q.device)
    dk_scale = torch.empty(k_scale.shape, dtype=k_scale.dtype, device=q.device)
    config = pick(_problem(q, backward=True), multiprocessors(q.device))
    partial = new_partial(q, config)
    plan_backward(
        grad_q, grad_k, q, k, q_scale, k_scale, cos, sin, layout, eps, dq, dk, partial, config
    ).run()
    plan_sum_partials(partial, dq_scale[None], dk_scale[None]).run()
    return dq, dk, dq_scale, dk_scale


def new_partial(q: torch.Tensor, config: Config) -> torch.Tensor:
    """The buffer between the two stages of the weights' gradients: [2, 1, programs, D]."""
    programs = q.shape[0] * config.programs_per_item
    return torch.empty((2, 1, programs, q.shape[3]), dtype=torch.float32, device=q.device)


def plan_forward(
    q: torch.Tensor, k: torch.Tensor, q_scale: torch.Tensor, k_scale: torch.Tensor,
    cos: torch.Tensor, sin: torch.Tensor, layout: str, eps: float,
    q_out: torch.Tensor, k_out: torch.Tensor, config: Config,
) -> Launch:  # fmt: skip
    """Plan q_out, k_out = qk_norm_rope(q, k, ...); a sample of the outputs is contiguous."""
    arguments = _inputs(q, k, q_scale, k_scale, cos, sin, eps)
    arguments |= {"q_out_ptr": q_out, "k_out_ptr": k_out, "out_stride_b": q_out.stride(0)}
    return _launch(forward_kernel, arguments, q, layout, config)


def plan_backward(
    grad_q: torch.Tensor, grad_k: torch.Tensor, q: torch.Tensor, k: torch.Tensor,
    q_scale: torch.Tensor, k_scale: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor,
    layout: str, eps: float,
    dq: torch.Tensor, dk: torch.Tensor, partial: torch.Tensor, config: Config,
) -> Launch:  # fmt: skip
    """Plan dq, dk (contiguous) and the sums of ``new_partial``."""
    arguments = _inputs(q, k, q_scale, k_scale, cos, sin, eps)
    arguments |= {
        "dq_out_ptr": grad_q,
        "dk_out_ptr": grad_k,
        "dq_ptr": dq,
        "dk_ptr": dk,
        "partial_ptr": partial,
    }
    arguments |= strides("dq_out", grad_q, "blnd") | strides("dk_out", grad_k, "blnd")
    arguments["partial_stride"] = partial.stride(0)
    return _launch(backward_kernel, arguments, q, layout, config)


def _problem(q: torch.Tensor, backward: bool) -> Problem:
    batch, length, num_heads, head_dim = q.shape
    return Problem(
        batch=batch, length=length, num_heads=num_heads, head_dim=head_dim, backward=backward
    )


def _inputs(q, k, q_scale, k_scale, cos, sin, eps: float) -> dict:
    tables = {"cos": cos, "sin": sin}
    for name, table in tables.items():
        if table.dim() == 2:
            tables[name] = table.expand(q.shape[0], *table.shape)
    arguments = {
        "q_ptr": q, "k_ptr": k, "q_scale_ptr": q_scale, "k_scale_ptr": k_scale,
        "cos_ptr": tables["cos"], "sin_ptr": tables["sin"],
        "L": q.shape[1], "N": q.shape[2], "eps": eps,
    }  # fmt: skip
    arguments |= strides("q", q, "blnd") | strides("k", k, "blnd")
    arguments |= strides("q_scale", q_scale, "d") | strides("k_scale", k_scale, "d")
    return arguments | strides("cos", tables["cos"], "bld") | strides("sin", tables["sin"], "bld")


def _launch(kernel, arguments: dict, q: torch.Tensor, layout: str, config: Config) -> Launch:
    walk = {
        "programs_per_item": config.programs_per_item,
        "tiles_per_program": config.tiles_per_program,
    }
    return Launch(
        kernel=kernel,
        grid=(q.shape[0] * config.programs_per_item,),
        arguments=arguments | walk,
        constants={
            "D": q.shape[3],
            "INTERLEAVED": layout == "interleaved",
            "BLOCK_R": config.block_r,
            "HALF": config.block_half,
        },
        num_warps=config.num_warps,
    )
