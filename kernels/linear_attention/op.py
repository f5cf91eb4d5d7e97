"""linear_attention: ReLU linear attention over a video, at two scales."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _torch, launch, reference

_NAME = "linear_attention"


def linear_attention(
    qkv: Tensor,
    depth_weight: Tensor,
    point_weight: Tensor,
    head_dim: int = 32,
    eps: float = 1e-15,
) -> Tensor:
    r"""Attend with ReLU kernels over all frames, as is and after aggregating neighbours.

    .. math:: o_n = \frac{\sum_m v_m (k_m \cdot q_n)}{\sum_m k_m \cdot q_n + \epsilon}

    where q and k are those of a head after ReLU, and m runs over every position of the video: the
    sums :math:`S = \sum_m v_m k_m^T` and :math:`\sum_m k_m` are taken once. The first C channels of
    the output are the heads of `qkv`; the last C are those of its aggregation, a depthwise
    convolution between zeros followed by a pointwise one within every q, k and v.

    Args:
        qkv: [B, 3·C, T, H, W], any floating dtype, any strides; head n has its q, k and v in the
            channels from 3·n·head_dim, head_dim each.
        depth_weight: [3·C, 1, kT, kH, kW], every k odd, dtype of `qkv`.
        point_weight: [3·C, head_dim, 1, 1, 1], dtype of `qkv`.
        head_dim: channels of a head's q, k and v each; divides C.
        eps: added to the denominator.

    Returns:
        [B, 2·C, T, H, W], dtype of `qkv`; channels-last-3d where `qkv` is, else contiguous.

    Numerics:
        Sums in fp32 (fp64 for fp64), rounded once at the end; backends may round the aggregation to
        the dtype of `qkv`. The Video DC-AE as released also rounds S and S q to bf16.
        Deterministic. Autocast: runs in autocast's dtype.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes, head_dim, eps or devices do not fit.

    Source: the lightweight multi-scale attention of Cai et al., EfficientViT (2023), section 3.1,
    in the Video DC-AE of Open-Sora 2.0.
    """
    return cast(Tensor, FORWARD(*_prepare(qkv, depth_weight, point_weight, head_dim, eps)))


def _prepare(
    qkv: Tensor,
    depth_weight: Tensor,
    point_weight: Tensor,
    head_dim: int = 32,
    eps: float = 1e-15,
) -> tuple[Any, ...]:
    contract.check_tensors(_NAME, qkv=qkv, depth_weight=depth_weight, point_weight=point_weight)
    if qkv.dim() != 5 or head_dim < 1 or qkv.shape[1] < 1 or qkv.shape[1] % (3 * head_dim):
        raise ValueError(
            f"{_NAME}: qkv must be [B, 3*C, T, H, W] with C a multiple of head_dim {head_dim}, got "
            f"shape {list(qkv.shape)}"
        )
    channels = qkv.shape[1]
    if (
        depth_weight.dim() != 5
        or depth_weight.shape[:2] != (channels, 1)
        or any(size % 2 == 0 for size in depth_weight.shape[2:])
    ):
        raise ValueError(
            f"{_NAME}: depth_weight must be [{channels}, 1, kT, kH, kW] with odd kT, kH, kW, got "
            f"shape {list(depth_weight.shape)}"
        )
    contract.check_shape(_NAME, "point_weight", point_weight, (channels, head_dim, 1, 1, 1))
    if eps < 0:
        raise ValueError(f"{_NAME}: eps must not be negative, got {eps}")
    if not contract.autocast_is_on(qkv.device):
        contract.check_same_dtype(
            _NAME, qkv=qkv, depth_weight=depth_weight, point_weight=point_weight
        )
    return qkv, depth_weight, point_weight, int(head_dim), float(eps)


def _fake(
    qkv: Tensor, depth_weight: Tensor, point_weight: Tensor, head_dim: int, eps: float
) -> Tensor:
    shape = (qkv.shape[0], qkv.shape[1] // 3 * 2, *qkv.shape[2:])
    return torch.empty(
        shape, dtype=qkv.dtype, device=qkv.device, memory_format=contract.layout_of(qkv)
    )


def _fake_backward(
    grad: Tensor,
    qkv: Tensor,
    depth_weight: Tensor,
    point_weight: Tensor,
    head_dim: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    dqkv = torch.empty_like(qkv, memory_format=contract.layout_of(qkv))
    return (
        dqkv,
        depth_weight.new_empty(depth_weight.shape),
        point_weight.new_empty(point_weight.shape),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    qkv, depth_weight, point_weight, ctx.head_dim, ctx.eps = inputs
    ctx.save_for_backward(qkv, depth_weight, point_weight)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *BACKWARD(grad, *ctx.saved_tensors, ctx.head_dim, ctx.eps), None, None


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, Tensor qkv, Tensor depth_weight, Tensor point_weight, int head_dim,"
    " float eps) -> (Tensor, Tensor, Tensor)",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        triton_backend(__package__, "backward", launch.backward_why_not, module="_triton_backward"),
        Backend("cpu", "cpu", _cpu.backward, _cpu.backward_why_not, _cpu.VERIFIED),
        Backend("torch", "any", _torch.backward, _torch.backward_why_not, _torch.VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor qkv, Tensor depth_weight, Tensor point_weight, int head_dim, float eps)"
    " -> Tensor",
    reference=reference.forward,
    fake=_fake,
    backends=[
        triton_backend(__package__, "forward", launch.why_not),
        Backend("cpu", "cpu", _cpu.forward, _cpu.why_not, _cpu.VERIFIED),
        Backend("torch", "any", _torch.forward, _torch.why_not, _torch.VERIFIED),
    ],
    prepare=_prepare,
    backward=_backward,
    setup_context=_save,
    autocast=True,
)
