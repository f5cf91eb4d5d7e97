"""joint_qk_norm_rope: qk_norm_rope of two streams of tokens, written side by side."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..qk_norm_rope import op as of_one
from ..registry import Backend, Op
from . import _cpu, _cuda, _torch, launch, reference
from .streams import new_result, streams_of

_NAME = "joint_qk_norm_rope"


def joint_qk_norm_rope(
    txt_q: Tensor,
    txt_k: Tensor,
    txt_v: Tensor,
    img_q: Tensor,
    img_k: Tensor,
    img_v: Tensor,
    txt_q_scale: Tensor,
    txt_k_scale: Tensor,
    img_q_scale: Tensor,
    img_k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str = "half",
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Make the queries, keys and values of an attention over text and image tokens.

    .. math:: q = [f(q_{txt}), f(q_{img})],\quad k = [f(k_{txt}), f(k_{img})],\quad
              v = [v_{txt}, v_{img}]

    where f is `qk_norm_rope` with the stream's own scales and the angles of its tokens. Queries and
    keys are written to their places among all tokens at once, so that only values are copied.

    Args:
        txt_q: [B, L1, N, D], any floating dtype; any strides.
        txt_k: [B, L1, N, D], dtype of `txt_q`.
        txt_v: [B, L1, N, D], dtype of `txt_q`.
        img_q: [B, L2, N, D], dtype of `txt_q`.
        img_k: [B, L2, N, D], dtype of `txt_q`.
        img_v: [B, L2, N, D], dtype of `txt_q`.
        txt_q_scale: [D], any floating dtype.
        txt_k_scale: [D], any floating dtype.
        img_q_scale: [D], any floating dtype.
        img_k_scale: [D], any floating dtype.
        cos: [L1 + L2, D/2] or [B, L1 + L2, D/2], fp32 (fp64 allowed), text first; no gradient.
        sin: shape and dtype of `cos`; gets no gradient.
        layout: ``"half"`` or ``"interleaved"``.
        eps: added to the mean square.

    Returns:
        q, k and v, [B, L1 + L2, N, D] each, dtype of `txt_q`, contiguous, text first.

    Numerics:
        As `qk_norm_rope`; values are copies.

    Raises:
        TypeError: not floating-point tensors, or streams differ in dtype.
        ValueError: shapes, layout, eps or devices do not fit.

    Source: the double-stream block of FLUX.1 and Open-Sora v2.
    """
    streams = (txt_q, txt_k, txt_v, img_q, img_k, img_v)
    scales = (txt_q_scale, txt_k_scale, img_q_scale, img_k_scale)
    args = _prepare(*streams, *scales, cos, sin, layout, eps)
    return cast("tuple[Tensor, Tensor, Tensor]", FORWARD(*args))


def _prepare(*args: Any) -> tuple[Any, ...]:
    names = ("txt_q", "txt_k", "txt_v", "img_q", "img_k", "img_v")
    tensors = dict(zip(names, args[:6], strict=True))
    contract.check_tensors(_NAME, **tensors, cos=args[10], sin=args[11])
    contract.check_same_dtype(_NAME, **tensors)
    txt_q, img_q, cos = args[0], args[3], args[10]
    for name, x in (("txt_q", txt_q), ("img_q", img_q)):
        if x.dim() != 4:
            raise ValueError(f"{_NAME}: {name} must be [B, L, N, D], got shape {list(x.shape)}")
    batch, heads = txt_q.shape[0], txt_q.shape[2:]
    contract.check_shape(_NAME, "img_q", img_q, (batch, img_q.shape[1], *heads))
    contract.check_shape(_NAME, "txt_v", args[2], tuple(txt_q.shape))
    contract.check_shape(_NAME, "img_v", args[5], tuple(img_q.shape))
    per_sample = (batch,) if cos.dim() == 3 else ()
    length = txt_q.shape[1] + img_q.shape[1]
    contract.check_shape(_NAME, "cos", cos, (*per_sample, length, heads[1] // 2))
    contract.check_shape(_NAME, "sin", args[11], tuple(cos.shape))
    for name, stream in zip(("text", "image"), streams_of(*args), strict=True):
        of_one.check(f"{_NAME}, {name}", *stream.arguments(*args[12:]))
    return (*args[:13], float(args[13]))


def _fake(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    length = args[0].shape[1] + args[3].shape[1]
    q, k, v = (new_result(x, length) for x in args[:3])
    return q, k, v


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.layout, ctx.eps = inputs
    # The values' own numbers are not needed: only how many are of the text.
    ctx.save_for_backward(*tensors[:2], *tensors[3:5], *tensors[6:])


def _backward(ctx: Any, dq: Tensor, dk: Tensor, dv: Tensor) -> tuple[Tensor | None, ...]:
    txt_q, txt_k, img_q, img_k, *rest = ctx.saved_tensors
    streams = streams_of(txt_q, txt_k, txt_q, img_q, img_k, img_q, *rest)
    videos: list[Tensor] = []
    scales: list[Tensor] = []
    for stream in streams:
        place = slice(stream.start, stream.stop)
        of_queries, of_keys, *of_scales = of_one.BACKWARD(
            dq[:, place], dk[:, place], *stream.arguments(ctx.layout, ctx.eps)
        )
        videos += (of_queries, of_keys, dv[:, place])
        scales += of_scales
    return (*videos, *scales, None, None, None, None)


FORWARD = Op(
    name=_NAME,
    schema="(Tensor txt_q, Tensor txt_k, Tensor txt_v, Tensor img_q, Tensor img_k, Tensor img_v,"
    " Tensor txt_q_scale, Tensor txt_k_scale, Tensor img_q_scale, Tensor img_k_scale,"
    " Tensor cos, Tensor sin, str layout, float eps) -> (Tensor, Tensor, Tensor)",
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
