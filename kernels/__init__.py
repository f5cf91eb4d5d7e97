"""The kernels room: one function per op. Imported as ``opensora_fast.kernels``."""

if __name__ != "opensora_fast.kernels":
    raise ImportError(
        "import this room as opensora_fast.kernels: "
        "a second copy of its classes would not match the first"
    )

from .attention import attention
from .causal_conv3d import causal_conv3d
from .channel_duplicate_shuffle3d import channel_duplicate_shuffle3d
from .concat_gelu import concat_gelu
from .conv3d import conv3d
from .frame_causal_attention import frame_causal_attention
from .gate_residual import gate_residual
from .gelu import gelu
from .glu_mb_conv import glu_mb_conv
from .group_norm_silu import group_norm_silu
from .group_norm_silu_conv3d import group_norm_silu_conv3d
from .joint_qk_norm_rope import joint_qk_norm_rope
from .layer_norm_modulate import layer_norm_modulate
from .layer_norm_modulate_quantized import layer_norm_modulate_quantized
from .linear_attention import linear_attention
from .nearest_upsample3d import nearest_upsample3d
from .pixel_unshuffle_average3d import pixel_unshuffle_average3d
from .qk_norm_rope import qk_norm_rope
from .quantize_rows import quantize_rows
from .quantized_linear import quantized_linear
from .rms_norm3d import rms_norm3d
from .upsample_conv3d import upsample_conv3d

__all__ = [
    "attention",
    "causal_conv3d",
    "channel_duplicate_shuffle3d",
    "concat_gelu",
    "conv3d",
    "frame_causal_attention",
    "gate_residual",
    "gelu",
    "glu_mb_conv",
    "group_norm_silu",
    "group_norm_silu_conv3d",
    "joint_qk_norm_rope",
    "layer_norm_modulate",
    "layer_norm_modulate_quantized",
    "linear_attention",
    "nearest_upsample3d",
    "pixel_unshuffle_average3d",
    "qk_norm_rope",
    "quantize_rows",
    "quantized_linear",
    "rms_norm3d",
    "upsample_conv3d",
]
