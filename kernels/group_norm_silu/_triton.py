"""Triton kernels of group_norm_silu: y = silu((x - mean) * rstd * weight + bias).

Layout: x [B, C, ...] contiguous, or channels-last [B, ..., C]; y likewise, or, as what a
convolution reads, [B, T, H + 2 * border, W + 2 * border, C] with its border repeated.
Parallel: one program per (frame, run of position tiles, block of channels).
Bytes: the statistics read x (see _triton_statistics), then x is read again and y written.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ..common.launch import Launch, multiprocessors, strides
from ..contract import layout_of
from ._triton_backward import backward
from ._triton_statistics import load_parameters, merge_partials, statistics
from .launch import (
    MAX_BORDER,
    MAX_FRAME,
    Config,
    Problem,
    pick_elementwise,
    pick_transpose,
)

__all__ = ["activate", "backward", "forward", "merge_partials", "statistics"]


@triton.jit
def repeat_border(at, size, STEP: tl.constexpr, BORDER: tl.constexpr):
    """The STEP-th of the 2 * BORDER + 1 places that position ``at`` of an axis may go to.

    Step BORDER is its own place, those below and above are the borders before and behind.
    """
    if STEP < BORDER:
        place = at * 0 + STEP
        goes = at == 0
    elif STEP == BORDER:
        place = at + BORDER
        goes = at >= 0
    else:
        place = at + STEP
        goes = at == size - 1
    return place, goes


@triton.jit
def activate_kernel(
    x_ptr, mean_ptr, rstd_ptr, weight_ptr, bias_ptr, y_ptr,
    P, T, C, H, W, groups, width,
    x_stride_b, x_stride_t, x_stride_p, x_stride_c,
    y_stride_b, y_stride_t, y_stride_p, y_stride_c,
    column_blocks, programs_per_item, tiles_per_program,
    SILU: tl.constexpr, BORDER_H: tl.constexpr, BORDER_W: tl.constexpr,
    BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0).to(tl.int64)
    pid_c = pid % column_blocks
    pid_p = (pid // column_blocks) % programs_per_item
    pid_frame = pid // column_blocks // programs_per_item
    pid_b = pid_frame // T
    pid_t = pid_frame % T
    offs_c = pid_c * BLOCK_C + tl.arange(0, BLOCK_C)
    mask_c = offs_c < C
    b_mean, b_rstd, b_weight, b_bias = load_parameters(
        mean_ptr, rstd_ptr, weight_ptr, bias_ptr, pid_b, offs_c, mask_c, groups, width
    )
    b_scale = b_rstd * b_weight
    x_base = x_ptr + pid_b * x_stride_b + pid_t * x_stride_t + offs_c[None, :] * x_stride_c
    y_base = y_ptr + pid_b * y_stride_b + pid_t * y_stride_t + offs_c[None, :] * y_stride_c
    for tile in range(0, tiles_per_program):
        start = (pid_p * tiles_per_program + tile) * BLOCK_P
        offs_p = start + tl.arange(0, BLOCK_P)
        mask = (offs_p < P)[:, None] & mask_c[None, :]
        b_x = tl.load(x_base + offs_p[:, None] * x_stride_p, mask=mask, other=0.0).to(tl.float32)
        b_y = (b_x - b_mean) * b_scale + b_bias
        if SILU:
            b_y = b_y / (1.0 + tl.exp(-b_y))
        b_y = b_y.to(y_ptr.dtype.element_ty)
        if BORDER_H + BORDER_W == 0:
            tl.store(y_base + offs_p[:, None] * y_stride_p, b_y, mask=mask)
        else:
            # Positions of a frame are counted in 32 bits: the divisions are cheap ones.
            first = start.to(tl.int32)
            offs_h = (first + tl.arange(0, BLOCK_P)) // W
            offs_w = (first + tl.arange(0, BLOCK_P)) % W
            # Few tiles touch an edge; the others store once.
            side = (first % W == 0) | (first % W + BLOCK_P >= W)
            end = (first < W) | (first + BLOCK_P > P - W)
            if side | end:
                for step_h in tl.static_range(2 * BORDER_H + 1):
                    for step_w in tl.static_range(2 * BORDER_W + 1):
                        place_h, goes_h = repeat_border(offs_h, H, step_h, BORDER_H)
                        place_w, goes_w = repeat_border(offs_w, W, step_w, BORDER_W)
                        at = place_h.to(tl.int64) * (W + 2 * BORDER_W) + place_w
                        goes = mask & (goes_h & goes_w)[:, None]
                        tl.store(y_base + at[:, None] * y_stride_p, b_y, mask=goes)
            else:
                at = (offs_h + BORDER_H).to(tl.int64) * (W + 2 * BORDER_W) + offs_w + BORDER_W
                tl.store(y_base + at[:, None] * y_stride_p, b_y, mask=mask)


def forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor,
    num_groups: int, eps: float, silu: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Run the forward as the op's schema has it: y, mean, 1 / deviation."""
    x = x.contiguous(memory_format=layout_of(x))
    mean, rstd = statistics(x, num_groups, eps)
    y = torch.empty_like(x)
    config = pick_elementwise(elementwise_problem(x), multiprocessors(x.device))
    plan_forward(x, mean, rstd, weight, bias, y, silu, config).run()
    return y, mean, rstd


def activate(
    x: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor,
    weight: torch.Tensor, bias: torch.Tensor, num_groups: int,
    *, silu: bool = True, border: tuple[int, int] = (0, 0),
) -> torch.Tensor:  # fmt: skip
    """Normalise and activate a video into what a convolution reads: channels last, border around.

    Args:
        x: [B, C, T, H, W], not empty; dense or channels-last, else a copy is read.
        mean: fp32 [B, G], contiguous.
        rstd: fp32 [B, G], contiguous.
        weight: [C].
        bias: [C].
        num_groups: divides C.
        silu: apply SiLU.
        border: rows above and below, columns left and right, of repeated pixels.

    Returns:
        [B, T, H + 2 * border[0], W + 2 * border[1], C], dtype of x, contiguous.

    Raises:
        ValueError: the border is too wide, or a frame too large for one.
    """
    if not all(0 <= side <= MAX_BORDER for side in border):
        raise ValueError(f"group_norm_silu: border {border} is not within 0 to {MAX_BORDER}")
    batch, channels, num_frames, height, width = x.shape
    if any(border) and height * width > MAX_FRAME:
        raise ValueError(f"group_norm_silu: {height} x {width} pixels exceed {MAX_FRAME}")
    x = x.contiguous(memory_format=layout_of(x))
    y = x.new_empty((batch, num_frames, height + 2 * border[0], width + 2 * border[1], channels))
    problem = activate_problem(x)
    pick = pick_elementwise if problem.along_columns else pick_transpose
    config = pick(problem, multiprocessors(x.device))
    plan_activate(x, mean, rstd, weight, bias, y, silu, config).run()
    return y


def elementwise_problem(x: torch.Tensor) -> Problem:
    """A dense or channels-last x as items of positions by channels."""
    return Problem(
        batch=x.shape[0],
        rows=x[0, 0].numel(),
        columns=x.shape[1],
        along_columns=layout_of(x) is torch.channels_last_3d,
    )


def activate_problem(x: torch.Tensor) -> Problem:
    """A dense or channels-last video as frames of positions by channels."""
    batch, channels, num_frames, height, width = x.shape
    return Problem(
        batch=batch * num_frames,
        rows=height * width,
        columns=channels,
        along_columns=layout_of(x) is torch.channels_last_3d,
    )


def plan_forward(
    x: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor,
    weight: torch.Tensor, bias: torch.Tensor, y: torch.Tensor, silu: bool, config: Config,
) -> Launch:  # fmt: skip
    """Plan y in the layout of x, which is dense or channels-last."""
    batch, channels = x.shape[:2]
    rows = x[0, 0].numel()
    last = layout_of(x) is torch.channels_last_3d
    arguments = {"x_ptr": x, "y_ptr": y, "P": rows, "T": 1, "H": 1, "W": rows}
    for name in "xy":
        arguments |= {
            f"{name}_stride_b": channels * rows,
            f"{name}_stride_t": 0,
            f"{name}_stride_p": channels if last else 1,
            f"{name}_stride_c": 1 if last else rows,
        }
    return _launch(arguments, mean, rstd, weight, bias, silu, (0, 0), batch, channels, config)


def plan_activate(
    x: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor,
    weight: torch.Tensor, bias: torch.Tensor, y: torch.Tensor, silu: bool, config: Config,
) -> Launch:  # fmt: skip
    """Plan y [B, T, H + 2 * border, W + 2 * border, C], contiguous, of x [B, C, T, H, W]."""
    batch, channels, num_frames, height, width = x.shape
    border = ((y.shape[2] - height) // 2, (y.shape[3] - width) // 2)
    last = layout_of(x) is torch.channels_last_3d
    arguments = {
        "x_ptr": x, "y_ptr": y, "P": height * width, "T": num_frames, "H": height, "W": width,
        "x_stride_b": x[0].numel(),
        "x_stride_t": height * width * (channels if last else 1),
        "x_stride_p": channels if last else 1,
        "x_stride_c": 1 if last else num_frames * height * width,
    }  # fmt: skip
    arguments |= strides("y", y.flatten(2, 3), "btpc")
    frames = batch * num_frames
    return _launch(arguments, mean, rstd, weight, bias, silu, border, frames, channels, config)


def _launch(
    arguments, mean, rstd, weight, bias, silu, border, frames: int, channels: int, config: Config
) -> Launch:
    num_groups = mean.shape[1]
    arguments |= {
        "mean_ptr": mean, "rstd_ptr": rstd,
        "weight_ptr": weight.contiguous(), "bias_ptr": bias.contiguous(),
        "C": channels, "groups": num_groups, "width": channels // num_groups,
        "column_blocks": config.column_blocks,
        "programs_per_item": config.programs_per_item,
        "tiles_per_program": config.tiles_per_program,
    }  # fmt: skip
    return Launch(
        kernel=activate_kernel,
        grid=(frames * config.programs_per_item * config.column_blocks,),
        arguments=arguments,
        constants={
            "SILU": silu,
            "BORDER_H": border[0],
            "BORDER_W": border[1],
            "BLOCK_P": config.block_r,
            "BLOCK_C": config.block_c,
        },
        num_warps=config.num_warps,
    )
