"""The ops in plain torch, as the original and its users write them: the baseline to beat.

Each function takes the arguments of the op's public function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Torch's fused attention over `[B, L, N, D]`."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def causal_conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], pad_mode: str
) -> Tensor:
    """Pad, then convolve."""
    if pad_mode != "valid":
        frames, rows, columns = weight.shape[2:]
        padding = (columns // 2, columns // 2, rows // 2, rows // 2, frames - 1, 0)
        x = F.pad(x, padding, mode="replicate" if pad_mode == "replicate" else "constant")
    return F.conv3d(x, weight, bias, stride=tuple(stride))


def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    scale: Sequence[int],
    silu: bool,
    shortcut: bool,
    pad_rows: bool,
) -> Tensor:
    """Activate, enlarge, convolve, add the shortcut: every step a pass."""
    h = F.silu(x) if silu else x
    if tuple(scale) != (1, 1, 1):
        h = F.interpolate(h, scale_factor=tuple(map(float, scale)), mode="nearest")
    depth, height, width = (size // 2 for size in weight.shape[2:])
    padding = (depth, height if pad_rows else 0, width)
    y = F.conv3d(h, weight, bias, tuple(stride), padding)
    if not shortcut:
        return y
    outputs = weight.shape[0]
    repeats = tuple(stride) == (1, 1, 1) and (tuple(scale) != (1, 1, 1) or outputs > x.shape[1])
    if repeats:
        return channel_duplicate_shuffle3d(x, outputs, scale, y)
    return pixel_unshuffle_average3d(x, outputs, stride, y)


def channel_duplicate_shuffle3d(
    x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None
) -> Tensor:
    """Repeat channels, shuffle them to pixels, add: every step a pass."""
    times, rows, columns = scale
    batch, channels, frames, height, width = x.shape
    y = x.repeat_interleave(out_channels * times * rows * columns // channels, dim=1)
    y = y.view(batch, out_channels, times, rows, columns, frames, height, width)
    y = y.permute(0, 1, 5, 2, 6, 3, 7, 4)
    y = y.reshape(batch, out_channels, times * frames, rows * height, columns * width)
    return y if added is None else added + y


def concat_gelu(a: Tensor, x: Tensor) -> Tensor:
    """GELU, then side by side."""
    return torch.cat([a, F.gelu(x, approximate="tanh")], dim=-1)


def frame_causal_attention(q: Tensor, k: Tensor, v: Tensor, num_frames: int) -> Tensor:
    """Torch's fused attention with a dense mask over `[B, L, D]`."""
    frame = torch.arange(num_frames, device=q.device)
    frame = frame.repeat_interleave(q.shape[1] // num_frames)
    mask = torch.where(frame[:, None] >= frame, 0.0, float("-inf")).to(q.dtype)
    q, k, v = (x.unsqueeze(1) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).squeeze(1)


def gate_residual(x: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
    """Multiply, add."""
    return x + gate[:, None] * branch


def gelu(x: Tensor) -> Tensor:
    """Torch's tanh form."""
    return F.gelu(x, approximate="tanh")


def glu_mb_conv(
    x: Tensor,
    inverted_weight: Tensor,
    inverted_bias: Tensor,
    depth_weight: Tensor,
    depth_bias: Tensor,
    point_weight: Tensor,
) -> Tensor:
    """Three convolutions with SiLU between them, every one a pass over all channels."""
    hidden = F.silu(F.conv3d(x, inverted_weight, inverted_bias))
    hidden = F.conv3d(hidden, depth_weight, depth_bias, padding=1, groups=hidden.shape[1])
    value, gate = hidden.chunk(2, dim=1)
    return F.conv3d(value * F.silu(gate), point_weight)


def group_norm_silu(
    x: Tensor, weight: Tensor, bias: Tensor, num_groups: int, eps: float, silu: bool
) -> Tensor:
    """Norm, then SiLU."""
    y = F.group_norm(x, num_groups, weight, bias, eps)
    return F.silu(y) if silu else y


def group_norm_silu_conv3d(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    num_groups: int,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    eps: float,
) -> Tensor:
    """Norm, SiLU, pad, convolve, add."""
    h = group_norm_silu(x, norm_weight, norm_bias, num_groups, eps, True)
    y = causal_conv3d(h, weight, bias, (1, 1, 1), "replicate")
    return y if residual is None else residual + y


def layer_norm_modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float) -> Tensor:
    """Norm, multiply, add."""
    return (1 + scale[:, None]) * F.layer_norm(x, x.shape[-1:], eps=eps) + shift[:, None]


def linear_attention(
    qkv: Tensor, depth_weight: Tensor, point_weight: Tensor, head_dim: int, eps: float
) -> Tensor:
    """Both scales side by side, a row of ones below the values, two products in the dtype."""
    reach = [size // 2 for size in depth_weight.shape[2:]]
    aggregated = F.conv3d(qkv, depth_weight, padding=reach, groups=qkv.shape[1])
    aggregated = F.conv3d(aggregated, point_weight, groups=qkv.shape[1] // head_dim)
    scales = torch.cat([qkv, aggregated], dim=1)
    heads = scales.reshape(qkv.shape[0], -1, 3 * head_dim, qkv.shape[2:].numel())
    q, k, v = heads.chunk(3, dim=2)
    v = F.pad(v, (0, 0, 0, 1), value=1.0)
    out = (v @ F.relu(k).transpose(-1, -2)) @ F.relu(q)
    wide = out.float() if out.dtype != torch.float64 else out
    out = (wide[:, :, :-1] / (wide[:, :, -1:] + eps)).to(qkv.dtype)
    return out.reshape(qkv.shape[0], -1, *qkv.shape[2:])


def nearest_upsample3d(x: Tensor, scale: Sequence[int]) -> Tensor:
    """The first frame and the others apart, then side by side."""
    first = F.interpolate(x[:, :, 0], scale_factor=tuple(map(float, scale[1:]))).unsqueeze(2)
    if x.shape[2] == 1:
        return first
    rest = F.interpolate(x[:, :, 1:].contiguous(), scale_factor=tuple(map(float, scale)))
    return torch.cat([first, rest], dim=2)


def pixel_unshuffle_average3d(
    x: Tensor, out_channels: int, scale: Sequence[int], added: Tensor | None
) -> Tensor:
    """Move pixels to channels, average, add: every step a pass."""
    times, rows, columns = scale
    batch, channels, frames, height, width = x.shape
    size = (frames // times, height // rows, width // columns)
    y = x.reshape(batch, channels, size[0], times, size[1], rows, size[2], columns)
    y = y.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(batch, out_channels, -1, *size).mean(dim=2)
    return y if added is None else added + y


def upsample_conv3d(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Sequence[int]) -> Tensor:
    """Enlarge, pad, convolve."""
    return causal_conv3d(nearest_upsample3d(x, scale), weight, bias, (1, 1, 1), "replicate")


def qk_norm_rope(
    q: Tensor,
    k: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: str,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """RMS norm with statistics in fp32, then rotation in fp32."""

    def one(x: Tensor, scale: Tensor) -> Tensor:
        wide = x.float() if x.dtype != torch.float64 else x
        normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
        wide = (normed.to(x.dtype) * scale).to(wide.dtype)
        c, s = cos.unsqueeze(-2), sin.unsqueeze(-2)
        if layout == "half":
            first, second = wide.chunk(2, dim=-1)
            rotated = torch.cat([first * c - second * s, second * c + first * s], dim=-1)
        else:
            first, second = wide[..., 0::2], wide[..., 1::2]
            rotated = torch.stack([first * c - second * s, second * c + first * s], dim=-1)
        return rotated.reshape(x.shape).to(x.dtype)

    return one(q, q_scale), one(k, k_scale)


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
    layout: str,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Each stream by itself, then three concatenations."""
    cut = txt_q.shape[1]
    tables = [(cos[..., part, :], sin[..., part, :]) for part in (slice(cut), slice(cut, None))]
    txt = qk_norm_rope(txt_q, txt_k, txt_q_scale, txt_k_scale, *tables[0], layout, eps)
    img = qk_norm_rope(img_q, img_k, img_q_scale, img_k_scale, *tables[1], layout, eps)
    q, k = (torch.cat(pair, dim=1) for pair in zip(txt, img, strict=True))
    return q, k, torch.cat([txt_v, img_v], dim=1)


def rms_norm3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    eps: float,
    activation: str,
    residual: Tensor | None,
) -> Tensor:
    """The norm in fp32, then its affine part in the dtype of the video: every step a pass."""
    wide = x.float() if x.dtype != torch.float64 else x
    normed = (wide / torch.sqrt(wide.square().mean(dim=1, keepdim=True) + eps)).to(x.dtype)
    per_channel = (1, -1, 1, 1, 1)
    y = normed * weight.view(per_channel)
    if bias is not None:
        y = y + bias.view(per_channel)
    if activation != "none":
        y = F.silu(y) if activation == "silu" else F.relu(y)
    return y if residual is None else residual + y


EAGER: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        attention,
        causal_conv3d,
        channel_duplicate_shuffle3d,
        conv3d,
        concat_gelu,
        frame_causal_attention,
        gate_residual,
        gelu,
        glu_mb_conv,
        group_norm_silu,
        group_norm_silu_conv3d,
        joint_qk_norm_rope,
        layer_norm_modulate,
        linear_attention,
        nearest_upsample3d,
        pixel_unshuffle_average3d,
        qk_norm_rope,
        rms_norm3d,
        upsample_conv3d,
    )
}
