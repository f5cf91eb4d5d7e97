"""Configuration of the MMDiT; the defaults are the released Open-Sora v2 (11.89 B parameters)."""

from __future__ import annotations

from dataclasses import dataclass

from ..configuration import as_int_tuple, require_positive


@dataclass(frozen=True, kw_only=True, slots=True)
class MMDiTConfig:
    """Sizes and variants of an MMDiT.

    Args:
        in_channels: packed channels of a token, `latent channels * patch_size**2`.
        vec_in_dim: width of the pooled text vector.
        context_in_dim: width of a text token.
        hidden_size: model width M; a multiple of `num_heads`.
        mlp_ratio: MLP width over model width.
        num_heads: attention heads N.
        depth: double-stream blocks.
        depth_single_blocks: single-stream blocks.
        axes_dim: rotary dimensions of the axes (frame, row, column); they add up to the head size.
        theta: base of the rotary frequencies.
        qkv_bias: bias of q, k and v in double-stream blocks; single-stream blocks always have it.
        guidance_embed: the model takes its guidance scale as an input (distilled models).
        cond_embed: the model takes condition tokens (mask and reference latent).
        fused_qkv: q, k and v come from one projection; only key names and layout change.
        use_liger_rope: rotate the pairs (j, j + D/2) in fp32; else (2j, 2j + 1), angles in fp64.
        patch_size: edge of the latent square that makes one token.

    Raises:
        ValueError: sizes that contradict each other.

    Source:
        Esser et al. 2024 (arXiv 2403.03206) for the double-stream block; Open-Sora v2 and FLUX.1
        for the sizes.
    """

    in_channels: int = 64
    vec_in_dim: int = 768
    context_in_dim: int = 4096
    hidden_size: int = 3072
    mlp_ratio: float = 4.0
    num_heads: int = 24
    depth: int = 19
    depth_single_blocks: int = 38
    axes_dim: tuple[int, ...] = (16, 56, 56)
    theta: int = 10000
    qkv_bias: bool = True
    guidance_embed: bool = False
    cond_embed: bool = True
    fused_qkv: bool = False
    use_liger_rope: bool = True
    patch_size: int = 2

    def __post_init__(self) -> None:
        """Check that the sizes fit each other."""
        as_int_tuple(self, "axes_dim")
        require_positive(
            self, "in_channels", "vec_in_dim", "context_in_dim", "hidden_size", "mlp_ratio",
            "num_heads", "axes_dim", "theta", "patch_size",
        )  # fmt: skip
        if self.depth < 0 or self.depth_single_blocks < 0:
            raise ValueError(
                f"MMDiTConfig: depth and depth_single_blocks must not be negative, "
                f"got {self.depth} and {self.depth_single_blocks}"
            )
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"MMDiTConfig: hidden_size {self.hidden_size} is not a multiple of "
                f"num_heads {self.num_heads}"
            )
        if len(self.axes_dim) != 3 or any(dim % 2 for dim in self.axes_dim):
            raise ValueError(
                f"MMDiTConfig: axes_dim must be three even numbers (frame, row, column), "
                f"got {self.axes_dim}"
            )
        if sum(self.axes_dim) != self.head_dim:
            raise ValueError(
                f"MMDiTConfig: axes_dim {self.axes_dim} add up to {sum(self.axes_dim)}, "
                f"the head size is {self.head_dim}"
            )
        if self.in_channels % self.patch_size**2:
            raise ValueError(
                f"MMDiTConfig: in_channels {self.in_channels} is not a multiple of "
                f"patch_size squared {self.patch_size**2}"
            )

    @property
    def head_dim(self) -> int:
        """Channels D of one head."""
        return self.hidden_size // self.num_heads

    @property
    def mlp_hidden_size(self) -> int:
        """Width of the MLPs."""
        return int(self.hidden_size * self.mlp_ratio)

    @property
    def latent_channels(self) -> int:
        """Channels of the latent before packing."""
        return self.in_channels // self.patch_size**2

    @property
    def cond_channels(self) -> int:
        """Packed channels of a condition token: the reference latent's and one mask channel's."""
        return self.in_channels + self.patch_size**2
