"""attention through other projects' CUDA kernels, where they are installed. Nothing requires them.

They serve forwards only: what they save is the log-sum-exp that every row of the backward takes.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
from typing import Any

import torch
from torch import Tensor

from ..common.availability import capability
from ..registry import current_backend

_MAX_HEAD_DIM = 256
_SAGE_HEAD_DIMS = (64, 128)
_SAGE_MIN_VERSION = 2
_HALF = (torch.float16, torch.bfloat16)


def flash3_why_not(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """FlashAttention-3 was written for Hopper."""
    if not _installed("flash_attn_interface"):
        return "FlashAttention-3 (the module flash_attn_interface) is not installed"
    if capability(q.device) != 90:
        return f"runs on compute capability 9.0, this device has {capability(q.device) / 10}"
    return _flash_why_not(q)


def flash2_why_not(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """FlashAttention-2 takes what tensor cores with asynchronous copies take."""
    if not _installed("flash_attn"):
        return "FlashAttention-2 (the package flash-attn) is not installed"
    if capability(q.device) < 80:
        return f"needs compute capability 8.0, this device has {capability(q.device) / 10}"
    return _flash_why_not(q)


def sage_why_not(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """SageAttention multiplies in 8 bits: it is never chosen, only forced."""
    if current_backend() != "sage":
        return "multiplies in 8 bits, which is not lossless: it runs only where 'sage' is forced"
    if not _installed("sageattention"):
        return "SageAttention (the package sageattention) is not installed"
    if _major_version("sageattention") < _SAGE_MIN_VERSION:
        return f"needs sageattention {_SAGE_MIN_VERSION} or later"
    if capability(q.device) < 80:
        return f"needs compute capability 8.0, this device has {capability(q.device) / 10}"
    if q.shape[3] not in _SAGE_HEAD_DIMS:
        return f"takes heads of 64 or 128 channels, these have {q.shape[3]}"
    return _half_why_not(q)


def flash3_forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output and the log-sum-exp of FlashAttention-3."""
    function = importlib.import_module("flash_attn_interface").flash_attn_func
    # Its first releases always return the log-sum-exp and know no argument for it.
    wanted = "return_attn_probs" in inspect.signature(function).parameters
    return _contiguous(q, function(q, k, v, **({"return_attn_probs": True} if wanted else {})))


def flash2_forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output and the log-sum-exp of FlashAttention-2."""
    function = importlib.import_module("flash_attn").flash_attn_func
    return _contiguous(q, function(q, k, v, return_attn_probs=True))


def sage_forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output and the log-sum-exp of SageAttention."""
    function = importlib.import_module("sageattention").sageattn
    q, k, v = (x if x.stride(3) == 1 else x.contiguous() for x in (q, k, v))
    return _contiguous(q, function(q, k, v, tensor_layout="NHD", is_causal=False, return_lse=True))


def _contiguous(q: Tensor, outputs: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    # FlashAttention before 2.6 pads the log-sum-exp to whole blocks of queries.
    out, lse = outputs[:2]
    return out.to(q.dtype).contiguous(), lse[:, :, : q.shape[1]].float().contiguous()


def _flash_why_not(q: Tensor) -> str | None:
    head_dim = q.shape[3]
    if head_dim > _MAX_HEAD_DIM or head_dim % 8 != 0:
        return f"takes heads of a multiple of 8, up to {_MAX_HEAD_DIM} channels, not {head_dim}"
    return _half_why_not(q)


def _half_why_not(q: Tensor) -> str | None:
    if q.dtype not in _HALF:
        return f"takes fp16 and bf16 tensors, not {q.dtype}"
    return "the tensor is empty" if q.numel() == 0 else None


@functools.cache
def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@functools.cache
def _major_version(distribution: str) -> int:
    return int(importlib.metadata.version(distribution).split(".")[0])
