"""frame_causal_attention: one head of attention in which a frame sees itself and the past."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _cpu, _torch, launch, reference

_NAME = "frame_causal_attention"


def frame_causal_attention(q: Tensor, k: Tensor, v: Tensor, num_frames: int) -> Tensor:
    r"""Let every token attend to the tokens of its own frame and of all earlier ones.

    .. math:: y_i = \sum_{j:\, f(j) \le f(i)} \mathrm{softmax}_j(q_i \cdot k_j / \sqrt{D})\, v_j

    with f(i) = i // (L / num_frames) the frame of token i. No mask is ever built.

    Args:
        q: [B, L, D], one head; any floating dtype; any strides.
        k: [B, L, D], dtype of `q`.
        v: [B, L, D], dtype of `q`.
        num_frames: frames in L; divides L.

    Returns:
        [B, L, D], dtype of `q`, contiguous.

    Numerics:
        As `attention`: scores, softmax and sums in fp32 (fp64 for fp64); fused backends round the
        softmax weights to half-precision inputs' dtype. Tokens of later frames have no influence on
        a single bit.
        Autocast: runs in autocast's dtype.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes, num_frames or devices do not fit.

    Source: the mid block of the HunyuanVideo VAE, without its mask.
    """
    return cast(Tensor, FORWARD(*_prepare(q, k, v, num_frames))[0])


def _prepare(q: Tensor, k: Tensor, v: Tensor, num_frames: int) -> tuple[Any, ...]:
    contract.check_tensors(_NAME, q=q, k=k, v=v)
    if q.dim() != 3:
        raise ValueError(f"{_NAME}: q must be [B, L, D], got shape {list(q.shape)}")
    contract.check_shape(_NAME, "k", k, tuple(q.shape))
    contract.check_shape(_NAME, "v", v, tuple(q.shape))
    if num_frames < 1 or q.shape[1] % num_frames != 0:
        raise ValueError(
            f"{_NAME}: {q.shape[1]} tokens cannot be split into {num_frames} equal frames"
        )
    if not contract.autocast_is_on(q.device):
        contract.check_same_dtype(_NAME, q=q, k=k, v=v)
    return q, k, v, num_frames


def _fake(q: Tensor, k: Tensor, v: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=contract.wide(q.dtype))


def _fake_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, num_frames: int
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, ctx.num_frames = inputs
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(q, k, v, out, lse)


def _backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 4
    return (*BACKWARD(grad, *ctx.saved_tensors, ctx.num_frames), None)


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, SymInt num_frames)"
    " -> (Tensor, Tensor, Tensor)",
    reference=reference.backward,
    fake=_fake_backward,
    backends=[
        triton_backend(__package__, "backward", launch.backward_why_not),
        Backend("torch", "cuda", _torch.cuda_backward, _torch.cuda_why_not),
        Backend("torch", "cpu", _torch.backward, _torch.why_not, _torch.CPU_VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor q, Tensor k, Tensor v, SymInt num_frames) -> (Tensor, Tensor)",
    reference=reference.forward,
    fake=_fake,
    backends=[
        triton_backend(__package__, "forward", launch.why_not),
        Backend("torch", "cuda", _torch.cuda_forward, _torch.cuda_why_not),
        Backend("cpu", "cpu", _cpu.forward, _cpu.why_not, _cpu.VERIFIED),
        Backend("torch", "cpu", _torch.forward, _torch.why_not, _torch.CPU_VERIFIED),
    ],
    prepare=_prepare,
    backward=_backward,
    setup_context=_save,
    autocast=True,
)
