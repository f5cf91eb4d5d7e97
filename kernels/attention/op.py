"""attention: full softmax attention over all tokens of a video and its text."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from .. import contract
from ..common.availability import triton_backend
from ..registry import Backend, Op
from . import _rivals, _torch, launch, reference

_NAME = "attention"


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    r"""Let every query attend to every key of its head.

    .. math:: y_{i} = \sum_j \mathrm{softmax}_j(q_i \cdot k_j / \sqrt{D})\, v_j

    Args:
        q: [B, Lq, N, D], any floating dtype; any strides.
        k: [B, Lk, N, D], dtype of `q`.
        v: [B, Lk, N, D], dtype of `q`.

    Returns:
        [B, Lq, N, D], dtype of `q`, contiguous.

    Numerics:
        Scores, softmax and sums in fp32 (fp64 for fp64). In half precision fused backends round the
        softmax weights (and in the backward the scores' gradients) to the input dtype before the
        second product. The backend "sage" multiplies in 8 bits; it runs only where it is forced.
        Autocast: runs in autocast's dtype.

    Raises:
        TypeError: not floating-point tensors of one dtype.
        ValueError: shapes or devices do not fit, or there is no key.

    Source: Vaswani et al., Attention Is All You Need (2017), eq. 1.
    """
    return cast(Tensor, FORWARD(*_prepare(q, k, v))[0])


def _prepare(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    contract.check_tensors(_NAME, q=q, k=k, v=v)
    if q.dim() != 4:
        raise ValueError(f"{_NAME}: q must be [B, L, N, D], got shape {list(q.shape)}")
    if k.dim() != 4 or k.shape[1] < 1:
        raise ValueError(
            f"{_NAME}: k must be [B, L, N, D] with at least one token, got shape {list(k.shape)}"
        )
    contract.check_shape(_NAME, "k", k, (q.shape[0], k.shape[1], q.shape[2], q.shape[3]))
    contract.check_shape(_NAME, "v", v, tuple(k.shape))
    if not contract.autocast_is_on(q.device):
        contract.check_same_dtype(_NAME, q=q, k=k, v=v)
    return q, k, v


def _fake(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    batch, length, num_heads, _ = q.shape
    lse = q.new_empty((batch, num_heads, length), dtype=contract.wide(q.dtype))
    return q.new_empty(q.shape), lse


def _fake_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs, out, lse)


def _backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return None, None, None
    return cast("tuple[Tensor, ...]", BACKWARD(grad, *ctx.saved_tensors))


BACKWARD = Op(
    name=_NAME + "_backward",
    schema="(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse)"
    " -> (Tensor, Tensor, Tensor)",
    reference=reference.backward,
    fake=_fake_backward,
    # Triton first: torch's kernels spend time and memory on giving equal bits twice, it needs not.
    backends=[
        triton_backend(__package__, "backward", launch.backward_why_not),
        Backend("torch", "cuda", _torch.cuda_backward, _torch.cuda_why_not),
        Backend("torch", "cpu", _torch.backward, _torch.why_not, _torch.CPU_VERIFIED),
    ],
)

FORWARD = Op(
    name=_NAME,
    schema="(Tensor q, Tensor k, Tensor v) -> (Tensor, Tensor)",
    reference=reference.forward,
    fake=_fake,
    # Fastest first by what the authors of FlashAttention-3 publish for an H100 (16384 tokens, heads
    # of 128, no mask; TFLOP/s): theirs 648, cuDNN (torch's choice there) 595, Triton 395,
    # FlashAttention-2 370.
    backends=[
        Backend("flash3", "cuda", _rivals.flash3_forward, _rivals.flash3_why_not),
        Backend("torch", "cuda", _torch.cuda_forward, _torch.cuda_why_not),
        triton_backend(__package__, "forward", launch.why_not),
        Backend("flash2", "cuda", _rivals.flash2_forward, _rivals.flash2_why_not),
        Backend("sage", "cuda", _rivals.sage_forward, _rivals.sage_why_not),
        Backend("torch", "cpu", _torch.forward, _torch.why_not, _torch.CPU_VERIFIED),
    ],
    prepare=_prepare,
    backward=_backward,
    setup_context=_save,
    autocast=True,
)
