"""The Video DC-AE in plain torch, from the same parameters: the peer of our autoencoder.

Nothing is fused: convolutions pad by themselves, norms, shortcuts and the linear attention are
written as in the original. Parameters come as a dictionary under the original's names.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from opensora_fast.models import VideoDCAEConfig
from opensora_fast.models.dc_ae.config import EVIT_BLOCK, HEAD_DIM

_NORM_EPS = 1e-5
_ATTENTION_EPS = 1e-15

Factors = tuple[int, int, int]


class PlainDCAE:
    """Encodes and decodes like `VideoDCAE`, untiled.

    Args:
        config: sizes.
        weights: parameters by name, all of one dtype.
    """

    def __init__(self, config: VideoDCAEConfig, weights: Mapping[str, Tensor]) -> None:
        self.config = config
        self._weights = weights

    def encode(self, x: Tensor) -> Tensor:
        """Map a video `[B, C, T, H, W]` to its unscaled latent."""
        config = self.config
        x = self._conv("encoder.project_in.conv", x)
        for i, depth in enumerate(config.encoder_depths):
            name = f"encoder.stages.{i}.op_list"
            for block in range(depth):
                x = self._block(i, f"{name}.{block}", x)
            if i + 1 < config.num_stages:
                factors = self._factors(i, x)
                main = self._conv(f"{name}.{depth}.main.conv", x, stride=factors)
                x = main + unshuffled_average(x, main.shape[1], factors)
        main = self._conv("encoder.project_out.main.op_list.0.conv", x)
        return main + unshuffled_average(x, main.shape[1], (1, 1, 1))

    def decode(self, z: Tensor) -> Tensor:
        """Map an unscaled latent `[B, c, t, h, w]` to a video."""
        config = self.config
        x = self._conv("decoder.project_in.main.conv", z)
        x = x + duplicated_shuffle(z, x.shape[1], (1, 1, 1))
        for i in reversed(range(config.num_stages)):
            name, first = f"decoder.stages.{i}.op_list", 0
            if i + 1 < config.num_stages:
                factors = self._factors(i, x)
                large = F.interpolate(x, scale_factor=factors, mode="nearest")
                main = self._conv(f"{name}.0.main.conv.conv", large)
                x, first = main + duplicated_shuffle(x, main.shape[1], factors), 1
            for block in range(config.decoder_depths[i]):
                x = self._block(i, f"{name}.{block + first}", x)
        x = F.relu(self._norm("decoder.project_out.op_list.0", x))
        return self._conv("decoder.project_out.op_list.2.conv", x)

    def _factors(self, stage: int, x: Tensor) -> Factors:
        temporal = self.config.temporal_downsample[stage] and x.shape[2] != 1
        return (2 if temporal else 1, 2, 2)

    def _block(self, stage: int, name: str, x: Tensor) -> Tensor:
        if self.config.block_types[stage] == EVIT_BLOCK:
            x = x + self._attention(f"{name}.context_module.main", x)
            return x + self._mix(f"{name}.local_module.main", x)
        h = F.silu(self._conv(f"{name}.main.conv1.conv", x))
        h = self._conv(f"{name}.main.conv2.conv", h)
        return x + self._norm(f"{name}.main.conv2.norm", h)

    def _attention(self, name: str, x: Tensor) -> Tensor:
        base = self._conv(f"{name}.qkv.conv", x)
        second = self._conv(f"{name}.aggreg.0.0", base, groups=base.shape[1])
        second = self._conv(f"{name}.aggreg.0.1", second, groups=base.shape[1] // HEAD_DIM)
        heads = torch.cat([base, second], dim=1).flatten(2).unflatten(1, (-1, 3 * HEAD_DIM))
        q, k, v = heads.split(HEAD_DIM, dim=2)
        q, k, v = F.relu(q), F.relu(k), F.pad(v, (0, 0, 0, 1), value=1.0)
        mixed = (v @ k.transpose(-1, -2)) @ q
        mixed = mixed.float() if mixed.dtype is torch.bfloat16 else mixed
        mixed = mixed[:, :, :-1] / (mixed[:, :, -1:] + _ATTENTION_EPS)
        mixed = mixed.to(x.dtype).flatten(1, 2).unflatten(2, x.shape[2:])
        return self._norm(f"{name}.proj.norm", self._conv(f"{name}.proj.conv", mixed))

    def _mix(self, name: str, x: Tensor) -> Tensor:
        h = F.silu(self._conv(f"{name}.inverted_conv.conv", x))
        h = self._conv(f"{name}.depth_conv.conv", h, groups=h.shape[1])
        value, gate = h.chunk(2, dim=1)
        h = self._conv(f"{name}.point_conv.conv", value * F.silu(gate))
        return self._norm(f"{name}.point_conv.norm", h)

    def _conv(self, name: str, x: Tensor, stride: Factors = (1, 1, 1), groups: int = 1) -> Tensor:
        weight = self._weights[f"{name}.weight"]
        bias = self._weights.get(f"{name}.bias")
        return F.conv3d(x, weight, bias, stride, weight.shape[-1] // 2, groups=groups)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        wide: Tensor = x if x.dtype is torch.float64 else x.float()
        rms = (wide.square().mean(dim=1, keepdim=True) + _NORM_EPS).sqrt()
        scale, shift = (self._weights[f"{name}.{part}"] for part in ("weight", "bias"))
        normed = (wide / rms).to(x.dtype)
        return normed * scale.view(-1, 1, 1, 1) + shift.view(-1, 1, 1, 1)


def unshuffled_average(x: Tensor, out_channels: int, factors: Factors) -> Tensor:
    """Blocks of pixels to channels, then the mean of as many as come to an output channel."""
    for axis, factor in zip((2, 4, 6), factors, strict=True):
        x = x.unflatten(axis, (-1, factor))
    x = x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)
    mean: Tensor = x.unflatten(1, (out_channels, -1)).mean(2)
    return mean


def duplicated_shuffle(x: Tensor, out_channels: int, factors: Factors) -> Tensor:
    """Channels repeated, then spread over blocks of pixels."""
    times, rows, columns = factors
    x = x.repeat_interleave(out_channels * times * rows * columns // x.shape[1], dim=1)
    x = x.unflatten(1, (out_channels, times, rows, columns)).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.flatten(2, 3).flatten(3, 4).flatten(4, 5)
