"""The parts of the MMDiT: embedders, modulation, the two kinds of block, the head.

Axes: B batch, L tokens, N heads, D head dim, M model dim. Layers hold parameters and shapes; the
functions of `opensora_fast.kernels` hold the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opensora_fast.kernels import (
    concat_gelu,
    gate_residual,
    gelu,
    joint_qk_norm_rope,
    layer_norm_modulate,
    qk_norm_rope,
)

from .config import MMDiTConfig
from .quantized import QuantizedRows, modulated_rows

AttentionFn = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Attention over `[B, L, N, D]`: `attention_fn(q, k, v) -> out`, all heads, no mask."""


class Rope(NamedTuple):
    """Rotary tables of a run of tokens: `[L, D/2]` or `[B, L, D/2]`, fp32, and the pairing."""

    cos: Tensor
    sin: Tensor
    layout: str


class MLPEmbedder(nn.Module):
    """Linear, SiLU, Linear: a vector `[B, in_dim]` to `[B, M]`."""

    def __init__(self, in_dim: int, hidden_size: int) -> None:
        super().__init__()
        self.in_layer = nn.Linear(in_dim, hidden_size)
        self.out_layer = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Embed x."""
        y: Tensor = self.out_layer(F.silu(self.in_layer(x)))
        return y


class GELU(nn.Module):
    """The tanh form, as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        y: Tensor = gelu(x)
        return y


class Modulation(nn.Module):
    """`count` vectors `[B, M]` (shift, scale, gate, ...) from the activated conditioning vector.

    The SiLU in front of the linear is the model's: it is the same for all blocks.
    """

    def __init__(self, hidden_size: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.lin = nn.Linear(hidden_size, count * hidden_size)

    def forward(self, activated: Tensor) -> tuple[Tensor, ...]:
        """Return the vectors in the order shift, scale, gate (twice in a double block)."""
        vectors: Tensor = self.lin(activated)
        return vectors.chunk(self.count, dim=-1)


class RMSScale(nn.Module):
    """The learned scale of an RMS norm over one head."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(head_dim))


class QKNorm(nn.Module):
    """The scales of the RMS norms on queries and keys."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.query_norm = RMSScale(head_dim)
        self.key_norm = RMSScale(head_dim)

    @property
    def scales(self) -> tuple[Tensor, Tensor]:
        """Of queries and of keys."""
        return self.query_norm.scale, self.key_norm.scale

    def forward(self, q: Tensor, k: Tensor, rope: Rope) -> tuple[Tensor, Tensor]:
        """Normalise and rotate q and k `[B, L, N, D]`."""
        rotated: tuple[Tensor, Tensor] = qk_norm_rope(
            q, k, *self.scales, rope.cos, rope.sin, layout=rope.layout
        )
        return rotated


class StreamAttention(nn.Module):
    """Projections and norms of one stream; norms, rotation and attention run over both streams."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.head_dim = config.head_dim
        self.fused_qkv = config.fused_qkv
        if config.fused_qkv:
            self.qkv = nn.Linear(size, 3 * size, bias=config.qkv_bias)
        else:
            self.q_proj = nn.Linear(size, size, bias=config.qkv_bias)
            self.k_proj = nn.Linear(size, size, bias=config.qkv_bias)
            self.v_proj = nn.Linear(size, size, bias=config.qkv_bias)
        self.norm = QKNorm(config.head_dim)
        self.proj = nn.Linear(size, size)

    @property
    def readers(self) -> tuple[nn.Module, ...]:
        """The layers that read the tokens."""
        return (self.qkv,) if self.fused_qkv else (self.q_proj, self.k_proj, self.v_proj)

    def forward(self, x: Tensor | QuantizedRows) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k and v, `[B, L, N, D]` each, before norm and rotation."""
        if self.fused_qkv:
            q, k, v = self.qkv(x).unflatten(-1, (3, -1, self.head_dim)).unbind(2)
        else:
            q, k, v = (
                proj(x).unflatten(-1, (-1, self.head_dim))
                for proj in (self.q_proj, self.k_proj, self.v_proj)
            )
        return q, k, v


class DoubleStreamBlock(nn.Module):
    """Image and text tokens with weights of their own, mixed by one attention over both."""

    def __init__(self, config: MMDiTConfig, attention_fn: AttentionFn) -> None:
        super().__init__()
        self.attention_fn = attention_fn
        self.img_mod = Modulation(config.hidden_size, 6)
        self.img_attn = StreamAttention(config)
        self.img_mlp = _mlp(config)
        self.txt_mod = Modulation(config.hidden_size, 6)
        self.txt_attn = StreamAttention(config)
        self.txt_mlp = _mlp(config)

    def forward(
        self, img: Tensor, txt: Tensor, activated: Tensor, rope: Rope
    ) -> tuple[Tensor, Tensor]:
        """Update both streams.

        Args:
            img: image tokens `[B, L_img, M]`.
            txt: text tokens `[B, L_txt, M]`.
            activated: SiLU of the conditioning vector, `[B, M]`.
            rope: tables of all tokens, text first.

        Returns:
            The new image and text tokens.
        """
        num_txt = txt.shape[1]
        img_mod = self.img_mod(activated)
        txt_mod = self.txt_mod(activated)
        txt_rows = _modulate(txt, txt_mod[:2], *self.txt_attn.readers)
        img_rows = _modulate(img, img_mod[:2], *self.img_attn.readers)
        txt_q, txt_k, txt_v = self.txt_attn(txt_rows)
        img_q, img_k, img_v = self.img_attn(img_rows)
        q, k, v = joint_qk_norm_rope(
            txt_q,
            txt_k,
            txt_v,
            img_q,
            img_k,
            img_v,
            *self.txt_attn.norm.scales,
            *self.img_attn.norm.scales,
            rope.cos,
            rope.sin,
            layout=rope.layout,
        )
        mixed = self.attention_fn(q, k, v).flatten(2)
        txt = gate_residual(txt, txt_mod[2], self.txt_attn.proj(mixed[:, :num_txt]))
        txt_rows = _modulate(txt, txt_mod[3:5], self.txt_mlp[0])
        txt = gate_residual(txt, txt_mod[5], self.txt_mlp(txt_rows))
        img = gate_residual(img, img_mod[2], self.img_attn.proj(mixed[:, num_txt:]))
        img_rows = _modulate(img, img_mod[3:5], self.img_mlp[0])
        img = gate_residual(img, img_mod[5], self.img_mlp(img_rows))
        return img, txt


class SingleStreamBlock(nn.Module):
    """All tokens together; attention and MLP side by side on one residual."""

    def __init__(self, config: MMDiTConfig, attention_fn: AttentionFn) -> None:
        super().__init__()
        size, mlp_size = config.hidden_size, config.mlp_hidden_size
        self.attention_fn = attention_fn
        self.head_dim = config.head_dim
        self.fused_qkv = config.fused_qkv
        # Widths of attention and MLP on this process; a tensor-parallel plan divides them.
        self.attention_size, self.mlp_size = size, mlp_size
        if config.fused_qkv:
            self.linear1 = nn.Linear(size, 3 * size + mlp_size)
        else:
            self.q_proj = nn.Linear(size, size)
            self.k_proj = nn.Linear(size, size)
            self.v_mlp = nn.Linear(size, size + mlp_size)
        self.linear2 = nn.Linear(size + mlp_size, size)
        self.norm = QKNorm(config.head_dim)
        self.modulation = Modulation(size, 3)

    def forward(self, x: Tensor, activated: Tensor, rope: Rope) -> Tensor:
        """Update the tokens.

        Args:
            x: tokens `[B, L, M]`, text first.
            activated: SiLU of the conditioning vector, `[B, M]`.
            rope: tables of all tokens.

        Returns:
            The new tokens.
        """
        shift, scale, gate = self.modulation(activated)
        q, k, v, mlp = self._project(_modulate(x, (shift, scale), *self.readers))
        q, k = self.norm(q, k, rope)
        mixed = self.attention_fn(q, k, v).flatten(2)
        branch = self.linear2(concat_gelu(mixed, mlp))
        y: Tensor = gate_residual(x, gate, branch)
        return y

    @property
    def readers(self) -> tuple[nn.Module, ...]:
        """The layers that read the tokens."""
        return (self.linear1,) if self.fused_qkv else (self.q_proj, self.k_proj, self.v_mlp)

    def _project(self, x: Tensor | QuantizedRows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q, k, v `[B, L, N, D]` and the MLP's input `[B, L, mlp]`."""
        if self.fused_qkv:
            qkv, mlp = self.linear1(x).split([3 * self.attention_size, self.mlp_size], dim=-1)
            q, k, v = qkv.unflatten(-1, (3, -1, self.head_dim)).unbind(2)
            return q, k, v, mlp
        v, mlp = self.v_mlp(x).split([self.attention_size, self.mlp_size], dim=-1)
        heads = (-1, self.head_dim)
        q, k = self.q_proj(x).unflatten(-1, heads), self.k_proj(x).unflatten(-1, heads)
        return q, k, v.unflatten(-1, heads), mlp


class FinalLayer(nn.Module):
    """Modulated norm and projection to the packed latent channels."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.linear = nn.Linear(size, config.in_channels)
        # The SiLU only keeps the key "adaLN_modulation.1"; the model has applied it already.
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(size, 2 * size))

    def forward(self, x: Tensor, activated: Tensor) -> Tensor:
        """Project tokens `[B, L, M]` to `[B, L, in_channels]`."""
        shift, scale = self.adaLN_modulation[1](activated).chunk(2, dim=-1)
        y: Tensor = self.linear(_modulate(x, (shift, scale), self.linear))
        return y


def _mlp(config: MMDiTConfig) -> nn.Sequential:
    """Linear, GELU (tanh form), Linear."""
    return nn.Sequential(
        nn.Linear(config.hidden_size, config.mlp_hidden_size),
        GELU(),
        nn.Linear(config.mlp_hidden_size, config.hidden_size),
    )


def _modulate(
    x: Tensor, shift_scale: tuple[Tensor, ...], *readers: nn.Module
) -> Tensor | QuantizedRows:
    """Non-affine layer norm of x, scaled and shifted per sample; 8-bit where all readers are."""
    shift, scale = shift_scale
    rows = modulated_rows(x, shift, scale, readers)
    if rows is not None:
        return rows
    y: Tensor = layer_norm_modulate(x, shift, scale)
    return y
