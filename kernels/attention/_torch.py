"""attention through torch's fused kernels: flash on CPU; cuDNN, flash or memory-efficient on CUDA.

On CUDA, torch itself says whether it would take cuDNN's kernel, as it does where it trusts it
(Hopper and later); else FlashAttention-2 serves half precision and the memory-efficient one fp32.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from ..contract import wide

CPU_VERIFIED = "CPU: x86-64 AVX-512 and AMX, torch 2.13, 2026-11"

_FLASH_MAX_HEAD_DIM = 256
_CUDA_HEAD_BYTES = 16  # every fused CUDA kernel reads heads in pieces of this size
# torch's memory-efficient kernel pads the log-sum-exp it returns and expects to this many queries.
_LSE_ALIGNMENT = 32

# Up to 1024 x 1024 scores of a head, the backward keeps them whole.
_SHORT_SCORES = 1024 * 1024

aten = torch.ops.aten


def why_not(q: Tensor, *_: Any) -> str | None:
    """Empty tensors are left to the reference."""
    return "the tensor is empty" if q.numel() == 0 else None


def cuda_why_not(q: Tensor, *_: Any) -> str | None:
    """No fused CUDA kernel of torch takes fp64, or heads that are not read in whole pieces."""
    if q.dtype is torch.float64:
        return "fp64 has no fused kernel on CUDA"
    if q.shape[-1] * q.element_size() % _CUDA_HEAD_BYTES != 0:
        return (
            f"the fused kernels on CUDA take heads of a multiple of {_CUDA_HEAD_BYTES} bytes, "
            f"these have {q.shape[-1]} channels in {q.dtype}"
        )
    return why_not(q)


def forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output and the log-sum-exp, on CPU."""
    q, k, v = (_heads(x) for x in (q, k, v))
    out, lse = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
    return out.transpose(1, 2).contiguous(), lse.contiguous()


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v, on CPU."""
    grad, q, k, v, out = (_heads(x) for x in (grad, q, k, v, out))
    if q.shape[2] * k.shape[2] <= _SHORT_SCORES:
        return _short_backward(grad, q, k, v, out, lse)
    # The kernel reads the log-sum-exp in the layout in which the forward made it.
    lse = lse.transpose(1, 2).contiguous().transpose(1, 2)
    grads = aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad, q, k, v, out, lse, 0.0, False
    )
    dq, dk, dv = (g.transpose(1, 2).contiguous() for g in grads)
    return dq, dk, dv


def _short_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by five batched products on whole score matrices, in fp32.

    The fused kernel walks over small blocks; on 152 tokens it took six times as long.
    """
    scale = q.shape[3] ** -0.5
    grads = tuple(torch.empty_like(x.transpose(1, 2)).transpose(1, 2) for x in (q, k, v))
    step = max(1, _SHORT_SCORES * 4 // (q.shape[1] * q.shape[2] * k.shape[2]))
    for first in range(0, len(q), step):
        part = slice(first, first + step)
        dout, wq, wk, wv, y = (x[part].to(wide(q.dtype)) for x in (grad, q, k, v, out))
        weights = (wq @ wk.mT).mul_(scale).sub_(lse[part].unsqueeze(-1)).exp_()
        dscores = (dout @ wv.mT).sub_((dout * y).sum(-1, keepdim=True)).mul_(weights).mul_(scale)
        grads[0][part], grads[1][part] = dscores @ wk, dscores.mT @ wq
        grads[2][part] = weights.mT @ dout
    dq, dk, dv = (g.transpose(1, 2).contiguous() for g in grads)
    return dq, dk, dv


def cuda_forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output and the log-sum-exp, on CUDA."""
    q, k, v = (_heads(x) for x in (q, k, v))
    if torch._fused_sdp_choice(q, k, v) == SDPBackend.CUDNN_ATTENTION.value:
        out, lse, *_ = aten._scaled_dot_product_cudnn_attention(q, k, v, None, True)
        lse = lse.reshape(*q.shape[:3])  # some versions keep a last axis of one
    elif _flash(q):
        out, lse, *_ = aten._scaled_dot_product_flash_attention(q, k, v)
    else:
        out, lse, *_ = aten._scaled_dot_product_efficient_attention(q, k, v, None, True)
    return out.transpose(1, 2).contiguous(), lse[:, :, : q.shape[2]].float().contiguous()


def cuda_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v, on CUDA; equal inputs give equal bits."""
    grad, q, k, v, out = (_heads(x) for x in (grad, q, k, v, out))
    queries, keys = q.shape[2], k.shape[2]
    unused = torch.empty(0, dtype=torch.int64, device=q.device)  # the state of a dropout of zero
    if _flash(q):
        with _without_atomics():
            grads = aten._scaled_dot_product_flash_attention_backward(
                grad, q, k, v, out, lse, None, None, queries, keys, 0.0, False, unused, unused
            )
    else:
        padded = lse.new_full(
            (*lse.shape[:2], -(-queries // _LSE_ALIGNMENT) * _LSE_ALIGNMENT), torch.inf
        )
        padded[:, :, :queries] = lse
        with _without_atomics():
            grads = aten._scaled_dot_product_efficient_attention_backward(
                grad, q, k, v, None, out, padded, unused, unused, 0.0, [True, True, True, False]
            )[:3]
    dq, dk, dv = (g.transpose(1, 2).contiguous() for g in grads)
    return dq, dk, dv


_determinism = threading.Lock()


@contextlib.contextmanager
def _without_atomics() -> Iterator[None]:
    """Have the gradients of queries summed in a fixed order: a global switch is all torch offers.

    The lock keeps two backward threads from restoring each other's setting.
    """
    with _determinism:
        enabled = torch.are_deterministic_algorithms_enabled()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        # The public setter also imports and configures the compiler.
        torch._C._set_deterministic_algorithms(True, warn_only=warn_only or not enabled)
        try:
            yield
        finally:
            torch._C._set_deterministic_algorithms(enabled, warn_only=warn_only)


def _heads(x: Tensor) -> Tensor:
    # The fused kernels take any strides but those of the head's channels.
    return (x if x.stride(3) == 1 else x.contiguous()).transpose(1, 2)


def _flash(q: Tensor) -> bool:
    return q.dtype in (torch.float16, torch.bfloat16) and q.shape[3] <= _FLASH_MAX_HEAD_DIM
