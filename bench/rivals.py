"""The ops through other libraries' kernels. Same arguments as the ops' public functions.

What a library lacks is composed with plain torch, as its users do. The gate decides whether the
result is the same function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def flash_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """FlashAttention 2 over `[B, L, N, D]`."""
    from flash_attn import flash_attn_func

    out: Tensor = flash_attn_func(q, k, v)
    return out


def sage_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """SageAttention over `[B, L, N, D]`."""
    from sageattention import sageattn

    out: Tensor = sageattn(q, k, v, tensor_layout="NHD", is_causal=False)
    return out


def liger_group_norm_silu(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float, silu: bool
) -> Tensor:
    """Liger's group norm, torch's SiLU."""
    from liger_kernel.ops.group_norm import LigerGroupNormFunction

    y: Tensor = LigerGroupNormFunction.apply(x, weight, bias, x.shape[1], num_groups, eps)
    return F.silu(y) if silu else y


def liger_qk_norm_rope(
    q: Tensor,
    k: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Liger's RMS norm and rotation, as the original calls them."""
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction
    from liger_kernel.ops.rope import LigerRopeFunction

    if layout != "half":
        raise NotImplementedError("liger-kernel rotates pairs (j, j + D/2) only")
    q, k = (
        LigerRMSNormFunction.apply(x, scale, eps, 0.0, "llama", False)
        for x, scale in ((q, q_scale), (k, k_scale))
    )
    both = [torch.cat([table, table], dim=-1) for table in (cos, sin)]
    both = [table if table.dim() == 3 else table[None] for table in both]
    q, k = LigerRopeFunction.apply(q.transpose(1, 2), k.transpose(1, 2), *both)
    return q.transpose(1, 2), k.transpose(1, 2)


def diffusers_causal_conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], pad_mode: str
) -> Callable[[], Tensor]:
    """The convolution of diffusers' HunyuanVideo autoencoder, with these parameters."""
    from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import HunyuanVideoCausalConv3d

    if pad_mode != "replicate":
        raise NotImplementedError(f"diffusers pads by repeating the border, not {pad_mode!r}")
    with torch.device("meta"):
        build: Any = HunyuanVideoCausalConv3d
        module = build(
            weight.shape[1],
            weight.shape[0],
            tuple(weight.shape[2:]),
            tuple(stride),
            bias=bias is not None,
        )
    parameters = {"conv.weight": weight} | ({} if bias is None else {"conv.bias": bias})
    module.load_state_dict(parameters, assign=True)
    module.requires_grad_(False)
    return lambda: module(x)


def diffusers_upsample_conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None, scale: Sequence[int]
) -> Callable[[], Tensor]:
    """The upsampling layer of diffusers' HunyuanVideo autoencoder, with these parameters."""
    from diffusers.models.autoencoders import autoencoder_kl_hunyuan_video as theirs

    build: Any = theirs.HunyuanVideoUpsampleCausal3D
    with torch.device("meta"):
        module = build(
            weight.shape[1],
            weight.shape[0],
            kernel_size=weight.shape[2],
            bias=bias is not None,
            upsample_factor=tuple(scale),
        )
    parameters = {"conv.conv.weight": weight}
    module.load_state_dict(
        parameters | ({} if bias is None else {"conv.conv.bias": bias}), assign=True
    )
    module.requires_grad_(False)
    return lambda: module(x)


RIVALS: dict[str, dict[str, Callable[..., Any]]] = {
    "attention": {"flash-attn": flash_attention, "sageattention": sage_attention},
    "group_norm_silu": {"liger": liger_group_norm_silu},
    "qk_norm_rope": {"liger": liger_qk_norm_rope},
}
"""By op and contender, a function of the public arguments."""

BINDS: dict[str, dict[str, Callable[..., Callable[[], Any]]]] = {
    "causal_conv3d": {"diffusers": diffusers_causal_conv3d},
    "upsample_conv3d": {"diffusers": diffusers_upsample_conv3d},
}
"""By op and contender, a function of the public arguments that returns what is timed."""
