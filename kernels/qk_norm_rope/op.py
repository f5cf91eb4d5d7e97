"""qk_norm_rope: RMSNorm of queries and keys, then rotary position embedding."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _cuda, _torch, launch, reference

_NAME = "qk_norm_rope"
_LAYOUTS = ("half", "interleaved")


def qk_norm_rope(
    q: Tensor,
    k: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str = "half",
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    r"""Normalise each head's queries and keys and rotate their channel pairs by the token's angles.

    .. math:: n = x / \sqrt{\mathrm{mean}(x^2) + \epsilon} \cdot s,\qquad
              y_a = n_a \cos\varphi_j - n_b \sin\varphi_j,\quad
              y_b = n_b \cos\varphi_j + n_a \sin\varphi_j

    where (a, b), pair j, is channels (j, j + D/2) in layout "half" and (2j, 2j + 1) in layout
    "interleaved".

    Args:
        q: [B, L, N, D], any floating dtype; any strides.
        k: [B, L, N, D], dtype of `q`.
        q_scale: [D], any floating dtype.
        k_scale: [D], any floating dtype.
        cos: [L, D/2] or [B, L, D/2], fp32 (fp64 allowed); gets no gradient.
        sin: shape and dtype of `cos`; gets no gradient.
        layout: ``"half"`` or ``"interleaved"``.
        eps: added to the mean square.

    Returns:
        q and k, [B, L, N, D] each, dtype of `q`, contiguous.

    Numerics:
        Statistics in fp32 (fp64 for fp64); rounded to the dtype of `q` after the normalisation and
        again after the multiplication with the scale, as the released models do; rotated in fp32
        and rounded.

    Raises:
        TypeError: not floating-point tensors, or q and k differ in dtype.
        ValueError: shapes, layout, eps or devices do not fit.

    Source: Zhang and Sennrich (2019), RMSNorm; Su et al. (2021), RoFormer, eq. 34; the two layouts
        of Open-Sora v2.
    """
    args = _prepare(q, k, q_scale, k_scale, cos, sin, layout, eps)
    return cast("tuple[Tensor, Tensor]", FORWARD(*args))


def check(
    op: str,
    q: Tensor,
    k: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str,
    eps: float,
) -> None:
    """Raise unless the arguments fit each other.

    Raises:
        TypeError: not floating-point tensors, or q and k differ in dtype.
        ValueError: shapes, layout, eps or devices do not fit.
    """
    contract.check_tensors(op, q=q, k=k, q_scale=q_scale, k_scale=k_scale, cos=cos, sin=sin)
    if q.dim() != 4 or q.shape[3] % 2 != 0 or q.shape[3] == 0:
        raise ValueError(f"{op}: q must be [B, L, N, D] with an even D, got shape {list(q.shape)}")
    contract.check_same_dtype(op, q=q, k=k)
    contract.check_shape(op, "k", k, tuple(q.shape))
    batch, length, _, width = q.shape
    contract.check_shape(op, "q_scale", q_scale, (width,))
    contract.check_shape(op, "k_scale", k_scale, (width,))
    per_sample = (batch,) if cos.dim() == 3 else ()
    contract.check_shape(op, "cos", cos, (*per_sample, length, width // 2))
    contract.check_shape(op, "sin", sin, tuple(cos.shape))
    if layout not in _LAYOUTS:
        raise ValueError(f"{op}: unknown layout {layout!r}, accepted are {', '.join(_LAYOUTS)}")
    if eps < 0:
        raise ValueError(f"{op}: eps must not be negative, got {eps}")


def _prepare(
    q: Tensor,
    k: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str = "half",
    eps: float = 1e-6,
) -> tuple[Any, ...]:
    check(_NAME, q, k, q_scale, k_scale, cos, sin, layout, eps)
    return q, k, q_scale, k_scale, cos, sin, layout, float(eps)


def _fake(
    q: Tensor,
    k: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str,
    eps: float,
) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape)


def _fake_backward(
    grad_q: Tensor,
    grad_k: Tensor,
    q: Tensor,
    k: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        q.new_empty(q.shape),
        k.new_empty(k.shape),
        q_scale.new_empty(q_scale.shape),
        k_scale.new_empty(k_scale.shape),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.layout, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad_q: Tensor, grad_k: Tensor) -> tuple[Tensor | None, ...]:
    grads = BACKWARD(grad_q, grad_k, *ctx.saved_tensors, ctx.layout, ctx.eps)
    return (*grads, None, None, None, None)


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad_q, Tensor grad_k, Tensor q, Tensor k, Tensor q_scale, Tensor k_scale,"
    " Tensor cos, Tensor sin, str layout, float eps) -> (Tensor, Tensor, Tensor, Tensor)",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        triton_backend(__package__, "backward", launch.backward_why_not),
        Backend("torch", "any", _torch.backward, None, _torch.VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor q, Tensor k, Tensor q_scale, Tensor k_scale, Tensor cos, Tensor sin,"
    " str layout, float eps) -> (Tensor, Tensor)",
    reference=reference.forward,
    fake=_fake,
    backends=[
        Backend("cuda", "cuda", _cuda.forward, _cuda.why_not),
        triton_backend(__package__, "forward", launch.why_not),
        Backend("cpu", "cpu", _cpu.forward, _cpu.why_not, _cpu.VERIFIED),
        Backend("torch", "any", _torch.forward, None, _torch.VERIFIED),
    ],
    prepare=_prepare,
    backward=_backward,
    setup_context=_save,
)
