"""The image autoencoder: images, or the frames of a video as a batch, to latents and back."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opensora_fast.kernels import frame_causal_attention, group_norm_silu

from ..checkpoint import CheckpointMixin
from ..latent_space import LatentSpaceMixin
from ..posterior import DiagonalGaussian
from .config import NUM_GROUPS, AutoEncoder2DConfig

_EPS = 1e-6


class _Norm(nn.GroupNorm):
    """Group norm over 32 groups, then SiLU unless switched off."""

    def __init__(self, channels: int, silu: bool = True) -> None:
        super().__init__(NUM_GROUPS, channels, eps=_EPS)
        self.silu = silu

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = group_norm_silu(
            x, self.weight, self.bias, self.num_groups, eps=self.eps, silu=self.silu
        )
        return y


class _ResnetBlock(nn.Module):
    """Two times norm, SiLU, convolution, added to the input (projected if the width changes)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = _Norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = _Norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.nin_shortcut: nn.Conv2d | None = None
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(self.norm2(self.conv1(self.norm1(x))))
        y: Tensor = (x if self.nin_shortcut is None else self.nin_shortcut(x)) + h
        return y


class _Attention(nn.Module):
    """One head of attention over the positions of an image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _Norm(channels, silu=False)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2).transpose(1, 2) for conv in (self.q, self.k, self.v))
        # An image is a video of one frame: every position sees every position.
        mixed = frame_causal_attention(q, k, v, num_frames=1)
        y: Tensor = x + self.proj_out(mixed.transpose(1, 2).reshape(x.shape))
        return y


class _Mid(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = _ResnetBlock(channels, channels)
        self.attn_1 = _Attention(channels)
        self.block_2 = _ResnetBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return y


class _Downsample(nn.Module):
    """Stride-2 convolution; one row and one column of zeros at the lower right."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return y


class _Upsample(nn.Module):
    """Nearest upsampling by 2, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return y


class _Level(nn.Module):
    """Residual blocks of one resolution, then its resampling if it has one."""

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            _ResnetBlock(in_channels if i == 0 else out_channels, out_channels)
            for i in range(num_blocks)
        )
        self.downsample: _Downsample | None = None
        self.upsample: _Upsample | None = None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        for resample in (self.downsample, self.upsample):
            x = x if resample is None else resample(x)
        return x


class _Encoder(nn.Module):
    def __init__(self, config: AutoEncoder2DConfig) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in config.ch_mult]
        self.conv_in = nn.Conv2d(config.in_channels, config.ch, 3, padding=1)
        self.down = nn.ModuleList()
        for index, width in enumerate(widths):
            level = _Level(widths[index - 1] if index else config.ch, width, config.num_res_blocks)
            if index < len(widths) - 1:
                level.downsample = _Downsample(width)
            self.down.append(level)
        self.mid = _Mid(widths[-1])
        self.norm_out = _Norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * config.z_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        y: Tensor = self.conv_out(self.norm_out(self.mid(x)))
        return y


class _Decoder(nn.Module):
    def __init__(self, config: AutoEncoder2DConfig) -> None:
        super().__init__()
        widths = [config.ch * mult for mult in config.ch_mult]
        self.conv_in = nn.Conv2d(config.z_channels, widths[-1], 3, padding=1)
        self.mid = _Mid(widths[-1])
        self.up = nn.ModuleList()
        for index, width in enumerate(widths):
            level = _Level(
                widths[min(index + 1, len(widths) - 1)], width, config.num_res_blocks + 1
            )
            if index > 0:
                level.upsample = _Upsample(width)
            self.up.append(level)
        self.norm_out = _Norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid(self.conv_in(z))
        # Levels are numbered by resolution: the last is the lowest and comes first.
        for level in reversed(self.up):
            x = level(x)
        y: Tensor = self.conv_out(self.norm_out(x))
        return y


class AutoEncoder2D(
    CheckpointMixin[AutoEncoder2DConfig], LatentSpaceMixin[AutoEncoder2DConfig], nn.Module
):
    """Variational image autoencoder: 8 x 8 pixels to one latent element; frames are a batch.

    Args:
        config: sizes and latent scale; the default is the released model.

    Numerics:
        Each norm, convolution and residual rounds to the parameters' dtype.

    Source:
        Rombach et al. 2022 (latent diffusion); the weights of FLUX.1.
    """

    config_class: ClassVar[type[AutoEncoder2DConfig]] = AutoEncoder2DConfig

    def __init__(self, config: AutoEncoder2DConfig | None = None) -> None:
        super().__init__()
        self.config = config or AutoEncoder2DConfig()
        self.encoder = _Encoder(self.config)
        self.decoder = _Decoder(self.config)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight that makes the pixels; adversarial training balances its losses on it."""
        weight: nn.Parameter = self.decoder.conv_out.weight  # type: ignore[assignment]
        return weight

    def latent_size(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Size of the latent of a video.

        Args:
            num_frames: frames T.
            height: rows in pixels.
            width: columns in pixels.

        Returns:
            Latent frames, rows and columns.
        """
        for _ in self.config.ch_mult[1:]:
            height, width = height // 2, width // 2
        return num_frames, height, width

    def encode_posterior(self, x: Tensor) -> DiagonalGaussian:
        """Encode frames to the distribution of their (unscaled) latents.

        Args:
            x: images `[B, in_channels, H, W]` or video `[B, in_channels, T, H, W]` in [-1, 1].

        Returns:
            The posterior over `[B, z_channels, h, w]`, with B T images for a video.

        Raises:
            ValueError: x has other dimensions or channels.
        """
        return DiagonalGaussian(self.encoder(_fold(x, self.config.in_channels, "encode")))

    def encode(
        self, x: Tensor, sample_posterior: bool = True, generator: torch.Generator | None = None
    ) -> Tensor:
        """Encode frames to scaled latents: `z = scale * (mean + std * n - shift)`.

        Args:
            x: images `[B, in_channels, H, W]` or video `[B, in_channels, T, H, W]` in [-1, 1].
            sample_posterior: draw n from the standard normal; else n is zero.
            generator: source of the noise; the global CPU generator by default, as the original.

        Returns:
            Latents, four- or five-dimensional as x.

        Raises:
            ValueError: x has other dimensions or channels.
        """
        posterior = self.encode_posterior(x)
        z = posterior.sample(generator, "cpu") if sample_posterior else posterior.mode()
        return _unfold(self._scaled(z), like=x)

    def decode(self, z: Tensor) -> Tensor:
        """Decode scaled latents to frames.

        Args:
            z: latents `[B, z_channels, h, w]` or `[B, z_channels, T, h, w]`.

        Returns:
            Frames, about [-1, 1], not clamped; four- or five-dimensional as z.

        Raises:
            ValueError: z has other dimensions or channels.
        """
        folded = _fold(z, self.config.z_channels, "decode")
        return _unfold(self.decoder(self._unscaled(folded)), like=z)

    def forward(
        self, x: Tensor, sample_posterior: bool = True, generator: torch.Generator | None = None
    ) -> tuple[Tensor, DiagonalGaussian, Tensor]:
        """Encode and decode, as training needs it.

        Args:
            x: images or video, as for `encode`.
            sample_posterior: draw the latent; else take the mean.
            generator: source of the noise.

        Returns:
            The decoded frames, the posterior (frames as a batch), the scaled latent.

        Raises:
            ValueError: x has other dimensions or channels.
        """
        posterior = self.encode_posterior(x)
        z = posterior.sample(generator, "cpu") if sample_posterior else posterior.mode()
        z = _unfold(self._scaled(z), like=x)
        return self.decode(z), posterior, z


def _fold(x: Tensor, channels: int, name: str) -> Tensor:
    """Frames as a batch: `[B, C, T, H, W]` to `[B T, C, H, W]`."""
    if x.dim() not in (4, 5) or x.shape[1] != channels:
        raise ValueError(
            f"AutoEncoder2D.{name}: expected [B, {channels}, H, W] or [B, {channels}, T, H, W], "
            f"got {list(x.shape)}"
        )
    return x if x.dim() == 4 else x.transpose(1, 2).flatten(0, 1)


def _unfold(frames: Tensor, like: Tensor) -> Tensor:
    """Undo `_fold` for the batch and frame count of another tensor."""
    if like.dim() == 4:
        return frames
    video = frames.reshape(like.shape[0], like.shape[2], *frames.shape[1:])
    return video.transpose(1, 2)
