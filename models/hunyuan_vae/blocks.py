"""The parts of the HunyuanVideo autoencoder.

Axes: B batch, C channels, T frames, H rows, W columns. Layers hold parameters and shapes; the
functions of `opensora_fast.kernels` hold the arithmetic. With a video goes what the convolution
that made it gathered for the next norm: the moments `[B, 2, C]` of its channels, or None.
"""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor, nn

from opensora_fast.kernels import (
    causal_conv3d,
    frame_causal_attention,
    group_norm_silu,
    group_norm_silu_conv3d,
    upsample_conv3d,
)

from .config import HunyuanVAEConfig

NORM_EPS = 1e-6

Stride = tuple[int, int, int]
Gathered: TypeAlias = "tuple[Tensor, Tensor | None]"


class CausalConv3d(nn.Module):
    """Convolution that sees no later frame; borders repeat their last value.

    The inner module only holds the parameters, under the key `conv`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: Stride = (1, 1, 1)
    ) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x `[B, C, T, H, W]`."""
        y: Tensor = causal_conv3d(x, self.conv.weight, self.conv.bias, stride=self.stride)
        return y

    def gathering(self, x: Tensor, pad_rows: bool = True) -> Gathered:
        """Convolve x `[B, C, T, H, W]`, with the moments of the result.

        Without `pad_rows` x is a slab of rows with those above and below that it looks at.
        """
        y: Gathered = causal_conv3d(
            x, self.conv.weight, self.conv.bias, stride=self.stride,
            pad_mode="replicate" if pad_rows else "replicate_rows", gather_moments=True,
        )  # fmt: skip
        return y


class GroupNormSiLU(nn.GroupNorm):
    """Group norm over channels of the group and all frames, then SiLU unless switched off."""

    def __init__(self, num_groups: int, channels: int, silu: bool = True) -> None:
        super().__init__(num_groups, channels, eps=NORM_EPS)
        self.silu = silu

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x `[B, C, ...]`."""
        y: Tensor = group_norm_silu(
            x, self.weight, self.bias, self.num_groups, eps=self.eps, silu=self.silu
        )
        return y

    def then(
        self,
        conv: CausalConv3d,
        x: Tensor,
        moments: Tensor | None,
        residual: Tensor | None = None,
        pad_rows: bool = True,
    ) -> Gathered:
        """Convolve the normalised and activated x `[B, C, T, H, W]`, add the residual.

        Without `pad_rows` x is a slab of rows with those above and below that it looks at, and the
        moments are those of the whole.
        """
        y: Gathered = group_norm_silu_conv3d(
            x, self.weight, self.bias, self.num_groups, conv.conv.weight, conv.conv.bias, residual,
            eps=self.eps, moments=moments, gather_moments=True, pad_rows=pad_rows,
        )  # fmt: skip
        return y

    def last(
        self, conv: CausalConv3d, x: Tensor, moments: Tensor | None, pad_rows: bool = True
    ) -> Tensor:
        """As `then`, with no norm behind it."""
        y: Tensor = group_norm_silu_conv3d(
            x, self.weight, self.bias, self.num_groups, conv.conv.weight, conv.conv.bias,
            eps=self.eps, moments=moments, pad_rows=pad_rows,
        )  # fmt: skip
        return y


class ResnetBlock(nn.Module):
    """Two times norm, SiLU, convolution, added to the input (projected if the width changes)."""

    def __init__(self, in_channels: int, out_channels: int, num_groups: int) -> None:
        super().__init__()
        self.norm1 = GroupNormSiLU(num_groups, in_channels)
        self.conv1 = CausalConv3d(in_channels, out_channels)
        self.norm2 = GroupNormSiLU(num_groups, out_channels)
        self.conv2 = CausalConv3d(out_channels, out_channels)
        self.conv_shortcut: CausalConv3d | None = None
        if in_channels != out_channels:
            self.conv_shortcut = CausalConv3d(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor, moments: Tensor | None = None) -> Gathered:
        """Map x `[B, C, T, H, W]` to the block's width."""
        shortcut = self.shortcut(x)
        h, moments = self.head(x, moments)
        return self.tail(h, moments, shortcut)

    def shortcut(self, x: Tensor) -> Tensor:
        """X in the block's width."""
        return x if self.conv_shortcut is None else self.conv_shortcut(x)

    def head(self, x: Tensor, moments: Tensor | None, pad_rows: bool = True) -> Gathered:
        """The first norm, SiLU and convolution of x."""
        return self.norm1.then(self.conv1, x, moments, pad_rows=pad_rows)

    def tail(
        self, h: Tensor, moments: Tensor | None, shortcut: Tensor, pad_rows: bool = True
    ) -> Gathered:
        """The second ones, of what `head` made, and the sum with the shortcut."""
        return self.norm2.then(self.conv2, h, moments, shortcut, pad_rows)


class FrameAttention(nn.Module):
    """One head of attention over all positions of a frame and of the frames before it."""

    def __init__(self, channels: int, num_groups: int) -> None:
        super().__init__()
        self.group_norm = GroupNormSiLU(num_groups, channels, silu=False)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """Attend within x `[B, C, T, H, W]` and add the result to it."""
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        mixed = self.to_out[0](frame_causal_attention(q, k, v, num_frames=x.shape[2]))
        y: Tensor = x + mixed.transpose(1, 2).reshape(x.shape)
        return y


class MidBlock(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int, config: HunyuanVAEConfig) -> None:
        super().__init__()
        groups = config.norm_num_groups
        self.attentions = nn.ModuleList()
        if config.mid_block_add_attention:
            self.attentions.append(FrameAttention(channels, groups))
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, groups) for _ in range(2))

    def forward(self, x: Tensor, moments: Tensor | None = None) -> Gathered:
        """Map x `[B, C, T, H, W]` to the same shape."""
        x, moments = self.resnets[0](x, moments)
        for attention in self.attentions:
            x, moments = attention(x), None
        y: Gathered = self.resnets[1](x, moments)
        return y


class Downsample(nn.Module):
    """Strided causal convolution."""

    def __init__(self, channels: int, stride: Stride) -> None:
        super().__init__()
        self.conv = CausalConv3d(channels, channels, stride=stride)

    def forward(self, x: Tensor, moments: Tensor | None = None) -> Gathered:
        """Shrink x `[B, C, T, H, W]` by the stride."""
        return self.conv.gathering(x)


class Upsample(nn.Module):
    """Nearest upsampling that leaves the first frame single, then a causal convolution."""

    def __init__(self, channels: int, scale: Stride) -> None:
        super().__init__()
        self.scale = scale
        self.conv = CausalConv3d(channels, channels)

    def forward(self, x: Tensor, moments: Tensor | None = None) -> Gathered:
        """Enlarge x `[B, C, T, H, W]`; T frames become `1 + scale * (T - 1)`."""
        conv = self.conv.conv
        y: Gathered = upsample_conv3d(x, conv.weight, conv.bias, self.scale, gather_moments=True)
        return y


class DownBlock(nn.Module):
    """Residual blocks of one encoder level, then its downsampling if it has one."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: Stride, config: HunyuanVAEConfig
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(
                in_channels if i == 0 else out_channels, out_channels, config.norm_num_groups
            )
            for i in range(config.layers_per_block)
        )
        self.downsamplers = nn.ModuleList()
        if stride != (1, 1, 1):
            self.downsamplers.append(Downsample(out_channels, stride))

    def forward(self, x: Tensor, moments: Tensor | None = None) -> Gathered:
        """Run the level on x `[B, C, T, H, W]`."""
        for layer in (*self.resnets, *self.downsamplers):
            x, moments = layer(x, moments)
        return x, moments


class UpBlock(nn.Module):
    """Residual blocks of one decoder level, then its upsampling if it has one."""

    def __init__(
        self, in_channels: int, out_channels: int, scale: Stride, config: HunyuanVAEConfig
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(
                in_channels if i == 0 else out_channels, out_channels, config.norm_num_groups
            )
            for i in range(config.layers_per_block + 1)
        )
        self.upsamplers = nn.ModuleList()
        if scale != (1, 1, 1):
            self.upsamplers.append(Upsample(out_channels, scale))

    def forward(self, x: Tensor, moments: Tensor | None = None) -> Gathered:
        """Run the level on x `[B, C, T, H, W]`."""
        for layer in (*self.resnets, *self.upsamplers):
            x, moments = layer(x, moments)
        return x, moments


class Encoder(nn.Module):
    """Video to the moments of the latent."""

    def __init__(self, config: HunyuanVAEConfig) -> None:
        super().__init__()
        widths = config.block_out_channels
        self.conv_in = CausalConv3d(config.in_channels, widths[0])
        self.down_blocks = nn.ModuleList(
            DownBlock(in_width, width, stride, config)
            for in_width, width, stride in zip(
                (widths[0], *widths), widths, config.strides(), strict=False
            )
        )
        self.mid_block = MidBlock(widths[-1], config)
        self.conv_norm_out = GroupNormSiLU(config.norm_num_groups, widths[-1])
        self.conv_out = CausalConv3d(widths[-1], 2 * config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x `[B, in_channels, T, H, W]` to moments `[B, 2 latent_channels, t, h, w]`."""
        x, moments = self.conv_in.gathering(x)
        for block in self.down_blocks:
            x, moments = block(x, moments)
        return self.from_levels(x, moments)

    def from_levels(self, x: Tensor, moments: Tensor | None) -> Tensor:
        """What `forward` does with what leaves the levels."""
        x, moments = self.mid_block(x, moments)
        return self.conv_norm_out.last(self.conv_out, x, moments)


class Decoder(nn.Module):
    """Latent to video."""

    def __init__(self, config: HunyuanVAEConfig) -> None:
        super().__init__()
        widths = config.block_out_channels[::-1]
        self.conv_in = CausalConv3d(config.latent_channels, widths[0])
        self.mid_block = MidBlock(widths[0], config)
        self.up_blocks = nn.ModuleList(
            UpBlock(in_width, width, scale, config)
            for in_width, width, scale in zip(
                (widths[0], *widths), widths, config.strides(), strict=False
            )
        )
        self.conv_norm_out = GroupNormSiLU(config.norm_num_groups, widths[-1])
        self.conv_out = CausalConv3d(widths[-1], config.out_channels)

    def forward(self, z: Tensor) -> Tensor:
        """Map z `[B, latent_channels, t, h, w]` to a video `[B, out_channels, T, H, W]`."""
        x, moments = self.until_levels(z)
        for block in self.up_blocks:
            x, moments = block(x, moments)
        return self.conv_norm_out.last(self.conv_out, x, moments)

    def until_levels(self, z: Tensor) -> Gathered:
        """What `forward` does before the levels."""
        y: Gathered = self.mid_block(*self.conv_in.gathering(z))
        return y
