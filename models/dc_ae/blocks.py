"""The parts of the Video DC-AE.

Axes: B batch, C channels, T frames, H rows, W columns. Layers hold parameters and shapes; the
functions of `opensora_fast.kernels` hold the arithmetic.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from opensora_fast.kernels import conv3d, glu_mb_conv, linear_attention, rms_norm3d

from .config import EVIT_BLOCK, HEAD_DIM, Scale, VideoDCAEConfig

_NORM_EPS = 1e-5
_ATTENTION_EPS = 1e-15
_SCALES = 5  # edge of the depthwise convolution that makes the second scale of the attention
_EXPANSION = 4  # gated channels of a GLUMBConv per channel of the block


class ConvLayer(nn.Module):
    """Convolution between zeros, with a norm behind it or not; the keys are `conv` and `norm`."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, bias: bool = True,
        norm: bool = False, groups: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, bias=bias, groups=groups)
        self.norm = RMSNorm3d(out_channels) if norm else None

    def forward(
        self, x: Tensor, stride: Scale = (1, 1, 1), scale: Scale = (1, 1, 1), silu: bool = False,
        shortcut: bool = False, pad_rows: bool = True,
    ) -> Tensor:  # fmt: skip
        """Convolve x `[B, C, T, H, W]`; see `conv3d`. Then comes `normed`, if there is a norm."""
        conv = self.conv
        return conv3d(x, conv.weight, conv.bias, stride, scale, silu, shortcut, pad_rows)

    def normed(self, h: Tensor, residual: Tensor) -> Tensor:
        """Normalise what the convolution made, and add the residual."""
        assert self.norm is not None
        y: Tensor = self.norm(h, residual=residual)
        return y


class RMSNorm3d(nn.Module):
    """RMS norm over the channels of every position, with scale and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(
        self, x: Tensor, activation: str = "none", residual: Tensor | None = None
    ) -> Tensor:
        """Normalise x `[B, C, T, H, W]`, and add what is given."""
        return rms_norm3d(x, self.weight, self.bias, _NORM_EPS, activation, residual)


class ConvPair(nn.Module):
    """The two convolutions of a residual block, under their keys."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(channels, channels)
        self.conv2 = ConvLayer(channels, channels, bias=False, norm=True)


class ResBlock(nn.Module):
    """Convolution, SiLU, convolution, norm; added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = ConvPair(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x `[B, C, T, H, W]` to the same shape."""
        conv1, conv2 = self.main.conv1, self.main.conv2
        return conv2.normed(conv2(conv1(x), silu=True), residual=x)


class LiteMLA(nn.Module):
    """Linear attention over all positions, at two scales; added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        total = 3 * channels
        self.qkv = ConvLayer(channels, total, kernel_size=1, bias=False)
        self.aggreg = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv3d(total, total, _SCALES, bias=False, groups=total),
                    nn.Conv3d(total, total, 1, bias=False, groups=total // HEAD_DIM),
                )
            ]
        )
        self.proj = ConvLayer(2 * channels, channels, kernel_size=1, bias=False, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within x `[B, C, T, H, W]`."""
        depth_weight, point_weight = self.aggreg[0].parameters()
        mixed = linear_attention(self.qkv(x), depth_weight, point_weight, HEAD_DIM, _ATTENTION_EPS)
        return self.proj.normed(self.proj(mixed), residual=x)


class GLUMBConv(nn.Module):
    """Expansion, depthwise convolution, gate, projection; added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        gated = _EXPANSION * channels
        self.inverted_conv = ConvLayer(channels, 2 * gated, kernel_size=1)
        self.depth_conv = ConvLayer(2 * gated, 2 * gated, groups=2 * gated)
        self.point_conv = ConvLayer(gated, channels, kernel_size=1, bias=False, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        """Mix x `[B, C, T, H, W]` locally."""
        inverted, depth, point = self.inverted_conv.conv, self.depth_conv.conv, self.point_conv
        assert inverted.bias is not None and depth.bias is not None
        h = glu_mb_conv(
            x, inverted.weight, inverted.bias, depth.weight, depth.bias, point.conv.weight
        )
        return point.normed(h, residual=x)


class Branch(nn.Module):
    """A module under the key `main`, which adds its own input."""

    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        """Run the module."""
        y: Tensor = self.main(x)
        return y


class EViTBlock(nn.Module):
    """Global context by linear attention, then local detail by a gated convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.context_module = Branch(LiteMLA(channels))
        self.local_module = Branch(GLUMBConv(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map x `[B, C, T, H, W]` to the same shape."""
        y: Tensor = self.local_module(self.context_module(x))
        return y


class Downsample(nn.Module):
    """Strided convolution beside means of unshuffled pixels."""

    def __init__(self, in_channels: int, out_channels: int, temporal: bool) -> None:
        super().__init__()
        self.main = ConvLayer(in_channels, out_channels)
        self.temporal = temporal

    def forward(self, x: Tensor) -> Tensor:
        """Halve x `[B, C, T, H, W]` in space and, if it is no image, in time where asked for."""
        y: Tensor = self.main(x, stride=self.factors(x), shortcut=True)
        return y

    def factors(self, x: Tensor) -> Scale:
        """How much smaller x becomes in T, H and W."""
        return _factors(x, self.temporal)


class Upsample(nn.Module):
    """Convolution of the nearest-upsampled video beside channels spread over pixels."""

    def __init__(self, in_channels: int, out_channels: int, temporal: bool) -> None:
        super().__init__()
        self.main = nn.ModuleDict({"conv": ConvLayer(in_channels, out_channels)})
        self.temporal = temporal

    def forward(self, x: Tensor) -> Tensor:
        """Double x `[B, C, T, H, W]` in space and, if it is no image, in time where asked for."""
        y: Tensor = self.main["conv"](x, scale=_factors(x, self.temporal), shortcut=True)
        return y


def _factors(x: Tensor, temporal: bool) -> Scale:
    return (2 if temporal and x.shape[2] != 1 else 1, 2, 2)


class Stage(nn.Module):
    """Modules of one resolution, under the key `op_list`."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.op_list = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Run the modules one after the other."""
        for module in self.op_list:
            x = module(x)
        return x


def layers_of(stage: nn.Module) -> list[nn.Module]:
    """The modules of a stage."""
    assert isinstance(stage, Stage)
    return list(stage.op_list)


def _blocks(kind: str, channels: int, depth: int) -> list[nn.Module]:
    return [(EViTBlock if kind == EVIT_BLOCK else ResBlock)(channels) for _ in range(depth)]


class Encoder(nn.Module):
    """Video to latent."""

    def __init__(self, config: VideoDCAEConfig) -> None:
        super().__init__()
        widths = config.encoder_widths
        self.project_in = ConvLayer(config.in_channels, widths[0])
        self.stages = nn.ModuleList()
        for i, width in enumerate(widths):
            modules = _blocks(config.block_types[i], width, config.encoder_depths[i])
            if i + 1 < len(widths):
                modules.append(Downsample(width, widths[i + 1], config.temporal_downsample[i]))
            self.stages.append(Stage(*modules))
        self.project_out = Branch(Stage(ConvLayer(widths[-1], config.latent_channels)))

    def forward(self, x: Tensor) -> Tensor:
        """Map x `[B, in_channels, T, H, W]` to `[B, latent_channels, t, h, w]`."""
        return self.from_stage(self.project_in(x), 0)

    def from_stage(self, x: Tensor, first: int) -> Tensor:
        """Run the stages from the given one on x `[B, C, T, H, W]`, and the last layer."""
        for stage in self.stages[first:]:
            x = stage(x)
        (conv,) = layers_of(self.project_out.main)
        z: Tensor = conv(x, shortcut=True)
        return z


class Decoder(nn.Module):
    """Latent to video; stages are counted from the pixels, and run from the last to the first."""

    def __init__(self, config: VideoDCAEConfig) -> None:
        super().__init__()
        widths = config.decoder_widths
        self.project_in = nn.ModuleDict({"main": ConvLayer(config.latent_channels, widths[-1])})
        self.stages = nn.ModuleList()
        for i, width in enumerate(widths):
            modules = _blocks(config.block_types[i], width, config.decoder_depths[i])
            if i + 1 < len(widths):
                modules.insert(0, Upsample(widths[i + 1], width, config.temporal_downsample[i]))
            self.stages.append(Stage(*modules))
        # The activation between the two has no parameters, and keeps its place in the keys.
        self.project_out = Stage(
            RMSNorm3d(widths[0]), nn.Identity(), ConvLayer(widths[0], config.in_channels)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Map z `[B, latent_channels, t, h, w]` to a video `[B, in_channels, T, H, W]`."""
        x = self.until_stage(z, 0)
        norm, _, conv = self.project_out.op_list
        video: Tensor = conv(norm(x, activation="relu"))
        return video

    def until_stage(self, z: Tensor, last: int) -> Tensor:
        """Map z `[B, latent_channels, t, h, w]` to what stage `last` makes of it."""
        x: Tensor = self.project_in["main"](z, shortcut=True)
        for stage in reversed(self.stages[last:]):
            x = stage(x)
        return x
