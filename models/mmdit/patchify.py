"""Latents to tokens and back, and the positions of the tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def pack(z: Tensor, patch_size: int = 2) -> Tensor:
    """Cut a latent into tokens: `b c t (h ph) (w pw) -> b (t h w) (c ph pw)`.

    Args:
        z: latent `[B, C, T, H, W]`; H and W multiples of `patch_size`.
        patch_size: edge p of a token's square.

    Returns:
        Tokens `[B, T * H/p * W/p, C * p * p]` of z's dtype, frame-major, columns fastest.

    Raises:
        ValueError: z is not five-dimensional, or H or W is not a multiple of `patch_size`.
    """
    if z.dim() != 5:
        raise ValueError(f"pack: z must be [B, C, T, H, W], got shape {list(z.shape)}")
    b, c, t, height, width = z.shape
    p = patch_size
    if height % p or width % p:
        raise ValueError(f"pack: latent {height} x {width} is not a multiple of the patch size {p}")
    patches = z.reshape(b, c, t, height // p, p, width // p, p)
    return patches.permute(0, 2, 3, 5, 1, 4, 6).reshape(b, -1, c * p * p)


def unpack(tokens: Tensor, size: tuple[int, int, int], patch_size: int = 2) -> Tensor:
    """Put tokens together to a latent; the inverse of `pack`.

    Args:
        tokens: `[B, T * H/p * W/p, C * p * p]`.
        size: latent frames T, rows H and columns W.
        patch_size: edge p of a token's square.

    Returns:
        Latent `[B, C, T, H, W]` of the tokens' dtype.

    Raises:
        ValueError: the number or width of the tokens does not fit `size`.
    """
    t, height, width = size
    p = patch_size
    rows, columns = height // p, width // p
    fits = tokens.dim() == 3 and height % p == 0 and width % p == 0
    if not fits or tokens.shape[1] != t * rows * columns or tokens.shape[2] % (p * p):
        raise ValueError(
            f"unpack: tokens of shape {list(tokens.shape)} do not make a latent of "
            f"{t} x {height} x {width} with patch size {p}"
        )
    b, _, width_of_token = tokens.shape
    c = width_of_token // (p * p)
    patches = tokens.reshape(b, t, rows, columns, c, p, p)
    return patches.permute(0, 4, 1, 2, 5, 3, 6).reshape(b, c, t, height, width)


def latent_position_ids(
    batch_size: int,
    size: tuple[int, int, int],
    patch_size: int = 2,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Positions (frame, row, column) of the tokens of a latent, in patches, from zero.

    Args:
        batch_size: samples B; all have the same positions and share the memory.
        size: latent frames T, rows H and columns W.
        patch_size: edge p of a token's square.
        device: of the result.
        dtype: of the result; bf16 holds whole numbers up to 256 only.

    Returns:
        `[B, T * H/p * W/p, 3]`, expanded over the batch.
    """
    t, rows, columns = size[0], size[1] // patch_size, size[2] // patch_size
    axes = [torch.arange(n, device=device, dtype=dtype) for n in (t, rows, columns)]
    ids = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(1, -1, 3)
    return ids.expand(batch_size, -1, -1)


def text_position_ids(
    batch_size: int,
    num_tokens: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Positions of the text tokens: zero on all three axes, so text is not rotated.

    Args:
        batch_size: samples B.
        num_tokens: text tokens L.
        device: of the result.
        dtype: of the result.

    Returns:
        Zeros `[B, L, 3]`, expanded over the batch.
    """
    return torch.zeros(1, num_tokens, 3, device=device, dtype=dtype).expand(batch_size, -1, -1)
