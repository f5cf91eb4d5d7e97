"""Running a video network tile by tile and blending the tiles, once for all autoencoders.

Tensors are `[B, C, T, H, W]`. A network maps a window of its input to a window of its output at a
fixed ratio; windows overlap, and the overlap is blended with a linear ramp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_TIME, _ROWS, _COLUMNS = 2, 3, 4

Network = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class TileSizes:
    """Sizes of the tiles along one axis.

    Attributes:
        window: input elements of a tile.
        step: input elements from one tile to the next.
        blend: output elements over which a tile is blended with the one before.
        keep: output elements that are kept of a tile; the rest is in the next one.
    """

    window: int
    step: int
    blend: int
    keep: int

    @classmethod
    def from_windows(cls, window: int, output_window: int, overlap_factor: float) -> TileSizes:
        """Sizes for a window, what the network makes of it, and the overlap as a fraction.

        `step = int(window * (1 - overlap))`, `blend = int(output_window * overlap)`. Where the
        truncations do not fit each other, tiles do not add up to the exact output size; the
        original does the same.

        Args:
            window: input elements of a tile.
            output_window: output elements of a tile.
            overlap_factor: 0 up to, not including, 1.

        Returns:
            The sizes.

        Raises:
            ValueError: a step of no element.
        """
        step = int(window * (1 - overlap_factor))
        blend = int(output_window * overlap_factor)
        if step < 1 or output_window - blend < 1:
            raise ValueError(
                f"tiling: window {window} with overlap {overlap_factor} leaves a step of {step} "
                f"and keeps {output_window - blend}"
            )
        return cls(window=window, step=step, blend=blend, keep=output_window - blend)


def blend_into(previous: Tensor, tile: Tensor, extent: int, dim: int) -> Tensor:
    """Ramp from the end of one tile to the start of the next.

    `out[y] = previous[len - n + y] * (1 - y/n) + tile[y] * (y/n)` for y < n, n the smallest of
    `extent` and the two lengths; the rest of the tile is unchanged.

    Args:
        previous: the tile before, along `dim`.
        tile: the tile to blend into.
        extent: elements of the ramp.
        dim: the axis.

    Returns:
        The blended tile, of tile's shape and dtype.

    Numerics:
        Weights and sum in fp32 (fp64 for fp64), one rounding at the end.
    """
    n = min(previous.shape[dim], tile.shape[dim], extent)
    if n == 0:
        return tile
    wide = torch.promote_types(tile.dtype, torch.float32)
    ramp = torch.arange(n, dtype=wide, device=tile.device) / n
    ramp = ramp.view([-1 if axis == dim else 1 for axis in range(tile.dim())])
    end = previous.narrow(dim, previous.shape[dim] - n, n).to(wide)
    start = tile.narrow(dim, 0, n).to(wide)
    mixed = (end * (1 - ramp) + start * ramp).to(tile.dtype)
    return torch.cat([mixed, tile.narrow(dim, n, tile.shape[dim] - n)], dim=dim)


def tile_in_space(x: Tensor, network: Network, sizes: TileSizes) -> Tensor:
    """Run a network on overlapping squares and blend what it returns.

    Tiles go in raster order; each is blended first with the one above, then with the one to its
    left, both already blended themselves.

    Args:
        x: `[B, C, T, H, W]`.
        network: maps a tile to its output.
        sizes: of the tiles, along both axes.

    Returns:
        The output for all of x.
    """
    rows: list[Tensor] = []
    above: list[Tensor] = []
    for top in range(0, x.shape[_ROWS], sizes.step):
        strip = x[:, :, :, top : top + sizes.window]
        blended: list[Tensor] = []
        for column, left in enumerate(range(0, x.shape[_COLUMNS], sizes.step)):
            tile = network(strip[..., left : left + sizes.window])
            if above:
                tile = blend_into(above[column], tile, sizes.blend, _ROWS)
            if blended:
                tile = blend_into(blended[-1], tile, sizes.blend, _COLUMNS)
            blended.append(tile)
        kept = [tile[:, :, :, : sizes.keep, : sizes.keep] for tile in blended]
        rows.append(torch.cat(kept, dim=_COLUMNS))
        above = blended
    return torch.cat(rows, dim=_ROWS)


def tile_in_time(x: Tensor, network: Network, sizes: TileSizes, causal: bool) -> Tensor:
    """Run a network on overlapping runs of frames and blend what it returns.

    Args:
        x: `[B, C, T, H, W]`.
        network: maps a tile to its output.
        sizes: of the tiles, along time.
        causal: the network gives the first frame an output frame of its own; windows are then one
            frame longer, and every tile but the first drops the first frame of its output.

    Returns:
        The output for all of x.
    """
    extra = int(causal)
    kept: list[Tensor] = []
    previous: Tensor | None = None
    for start in range(0, x.shape[_TIME], sizes.step):
        window = x[:, :, start : start + sizes.window + extra]
        if previous is None:
            previous = network(window)
            kept.append(previous[:, :, : sizes.keep + extra])
            continue
        if window.shape[_TIME] <= extra:
            # One frame of a causal network: its only output frame would be dropped.
            break
        tile = blend_into(previous, network(window)[:, :, extra:], sizes.blend, _TIME)
        kept.append(tile[:, :, : sizes.keep])
        previous = tile
    return torch.cat(kept, dim=_TIME)
