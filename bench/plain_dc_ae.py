"""The Video DC-AE in plain torch, from the same parameters: the peer of our autoencoder.

Nothing is fused: its ops are those of `eager.py`. Parameters come as a dictionary under the
original's names.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from opensora_fast.models import VideoDCAEConfig
from opensora_fast.models.dc_ae.config import EVIT_BLOCK, HEAD_DIM

from .eager import conv3d, glu_mb_conv, linear_attention, rms_norm3d

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
                stride = self._factors(i, x)
                x = self._conv(f"{name}.{depth}.main.conv", x, stride=stride, shortcut=True)
        return self._conv("encoder.project_out.main.op_list.0.conv", x, shortcut=True)

    def decode(self, z: Tensor) -> Tensor:
        """Map an unscaled latent `[B, c, t, h, w]` to a video."""
        config = self.config
        x = self._conv("decoder.project_in.main.conv", z, shortcut=True)
        for i in reversed(range(config.num_stages)):
            name, first = f"decoder.stages.{i}.op_list", 0
            if i + 1 < config.num_stages:
                scale, first = self._factors(i, x), 1
                x = self._conv(f"{name}.0.main.conv.conv", x, scale=scale, shortcut=True)
            for block in range(config.decoder_depths[i]):
                x = self._block(i, f"{name}.{block + first}", x)
        x = self._norm("decoder.project_out.op_list.0", x, activation="relu")
        return self._conv("decoder.project_out.op_list.2.conv", x)

    def _factors(self, stage: int, x: Tensor) -> Factors:
        temporal = self.config.temporal_downsample[stage] and x.shape[2] != 1
        return (2 if temporal else 1, 2, 2)

    def _block(self, stage: int, name: str, x: Tensor) -> Tensor:
        if self.config.block_types[stage] == EVIT_BLOCK:
            x = self._attention(f"{name}.context_module.main", x)
            return self._mix(f"{name}.local_module.main", x)
        h = self._conv(f"{name}.main.conv1.conv", x)
        h = self._conv(f"{name}.main.conv2.conv", h, silu=True)
        return self._norm(f"{name}.main.conv2.norm", h, residual=x)

    def _attention(self, name: str, x: Tensor) -> Tensor:
        depthwise, pointwise = (self._weights[f"{name}.aggreg.0.{i}.weight"] for i in range(2))
        qkv = self._conv(f"{name}.qkv.conv", x)
        h = linear_attention(qkv, depthwise, pointwise, HEAD_DIM, _ATTENTION_EPS)
        return self._norm(f"{name}.proj.norm", self._conv(f"{name}.proj.conv", h), residual=x)

    def _mix(self, name: str, x: Tensor) -> Tensor:
        parts = ("inverted_conv.conv.weight", "inverted_conv.conv.bias", "depth_conv.conv.weight",
                 "depth_conv.conv.bias", "point_conv.conv.weight")  # fmt: skip
        h = glu_mb_conv(x, *(self._weights[f"{name}.{part}"] for part in parts))
        return self._norm(f"{name}.point_conv.norm", h, residual=x)

    def _conv(
        self,
        name: str,
        x: Tensor,
        *,
        stride: Factors = (1, 1, 1),
        scale: Factors = (1, 1, 1),
        silu: bool = False,
        shortcut: bool = False,
    ) -> Tensor:
        weight, bias = self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias")
        return conv3d(x, weight, bias, stride, scale, silu, shortcut, True)

    def _norm(
        self, name: str, x: Tensor, activation: str = "none", residual: Tensor | None = None
    ) -> Tensor:
        scale, shift = (self._weights[f"{name}.{part}"] for part in ("weight", "bias"))
        return rms_norm3d(x, scale, shift, _NORM_EPS, activation, residual)
