"""Convolutional networks in slabs of rows: exact, with hardly anything computed twice.

A video `[B, C, T, H, W]` goes through a chain of steps as slabs of consecutive rows, from generator
to generator. A step that looks at neighbouring rows keeps the few that its next slab needs, so its
output lags behind by a row or two, and the last slab brings the rest. Every step sees all frames
and columns at once. A slab is handed over, never kept: the one who yields it forgets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

_ROWS = 3

# Of the slabs, and of all that is between the first and the last layer of an autoencoder: the
# channels of a position side by side.
LAYOUT = torch.channels_last_3d

# What a layer meets above the first row and below the last.
Border: TypeAlias = Literal["zeros", "repeated"]

# Rows, and whether they are the last.
Slab: TypeAlias = "tuple[Tensor, bool]"
Slabs: TypeAlias = "Iterator[Slab]"
Step: TypeAlias = "Callable[[Slabs], Slabs]"


def in_slabs(x: Tensor, rows: int, steps: Sequence[Step]) -> Slabs:
    """Run a video through a chain of steps, so many rows of its input at a time.

    Args:
        x: `[B, C, T, H, W]`.
        rows: of a slab, at least 1.
        steps: from first to last.

    Returns:
        The rows of the result, in order.
    """
    slabs = pieces(iter([(x, True)]), rows)
    for step in steps:
        slabs = step(slabs)
    return slabs


def collected(
    slabs: Slabs, shape: Sequence[int], like: Tensor, layout: torch.memory_format
) -> Tensor:
    """Put slabs together without holding them twice.

    Args:
        slabs: of rows, in order.
        shape: of the whole.
        like: gives device and dtype.
        layout: of the whole.

    Returns:
        The whole.
    """
    whole = torch.empty(tuple(shape), dtype=like.dtype, device=like.device, memory_format=layout)
    write(slabs, whole)
    return whole


def write(slabs: Slabs, whole: Tensor) -> None:
    """Write slabs, one after the other, into a tensor.

    It may be the one that they are made of: a step has read the rows it needs, and one more, before
    it makes a row.
    """
    row = 0
    for slab, _ in slabs:
        whole[:, :, :, row : row + slab.shape[_ROWS]] = slab
        row += slab.shape[_ROWS]
        del slab
    assert row == whole.shape[_ROWS], f"{row} rows of {whole.shape[_ROWS]}"


def pieces(slabs: Slabs, limit: int) -> Slabs:
    """Cut slabs of more than `limit` rows: what a chain brings at its end can be long."""
    for slab, last in slabs:
        count = slab.shape[_ROWS]
        if count <= limit:
            handed = [slab]
            del slab
            yield handed.pop(), last
            continue
        for start in range(0, count, limit):
            yield slab[:, :, :, start : start + limit], last and start + limit >= count
        del slab


def pointwise(slabs: Slabs, function: Callable[[Tensor], Tensor]) -> Slabs:
    """Map rows that do not look at each other."""
    for slab, last in slabs:
        handed = [function(slab)]
        del slab
        yield handed.pop(), last


def neighbours(
    slabs: Slabs, layer: Callable[[Tensor], Tensor], border: Border = "zeros", stride: int = 1
) -> Slabs:
    """Run a layer that looks one row up and one row down.

    Args:
        slabs: of the layer's input.
        layer: makes n rows of stride (n - 1) + 3.
        border: what it meets above the first row and below the last.
        stride: rows from one that it looks at to the next.

    Yields:
        The rows whose neighbours are all there.
    """
    window = Window(border, stride)
    for slab, last in slabs:
        rows = window.joined(slab, last)
        del slab
        if rows is not None:
            handed = [layer(rows)]
            del rows
            yield handed.pop(), last


def doubling(slabs: Slabs, layer: Callable[[Tensor], Tensor], factor: int = 2) -> Slabs:
    """Run a layer that makes two rows of each, looking one row up and one down.

    Args:
        slabs: of the layer's input.
        layer: makes 2 n rows of n, as if there were nothing around them; what it makes of the
            neighbours is dropped, the only work done twice.
        factor: rows made of each, if not two.

    Yields:
        The rows whose neighbours are all there.
    """
    held: Tensor | None = None
    above = 0
    for slab, last in slabs:
        rows = slab if held is None else torch.cat((held, slab), dim=_ROWS)
        del slab
        if rows.shape[_ROWS] <= above + (not last):
            held = _alone(rows)
            continue
        held = None if last else _alone(rows[:, :, :, -2:])
        y = layer(rows.contiguous(memory_format=LAYOUT))
        del rows
        end = y.shape[_ROWS] - (0 if last else factor)
        handed = [y[:, :, :, factor * above : end].contiguous(memory_format=LAYOUT)]
        # After a slab of one row only that row is held: nothing is above it yet.
        above = 1 if held is not None and held.shape[_ROWS] == 2 else 0
        del y
        yield handed.pop(), last


class Window:
    """The rows that a layer of three rows looks at: kept ones, new ones, and the border.

    Args:
        border: rows of zeros, or the first and the last row once more.
        stride: rows from one that the layer looks at to the next.

    Attributes:
        first: index of the first row that `joined` returned; -1 is the border.
    """

    def __init__(self, border: Border = "zeros", stride: int = 1) -> None:
        self._repeats = border == "repeated"
        self._stride = stride
        self.first = self._next = -1
        self._held: Tensor | None = None

    def joined(self, slab: Tensor, last: bool) -> Tensor | None:
        """Take the next rows; return all that can be looked at, or None if they are too few."""
        held = self._outside(slab[:, :, :, :1]) if self._held is None else self._held
        parts = (held, slab, self._outside(slab[:, :, :, -1:])) if last else (held, slab)
        rows = _stacked(parts)
        if rows.shape[_ROWS] < 3:
            self._held = rows
            return None
        made = (rows.shape[_ROWS] - 3) // self._stride + 1
        self._held = None if last else _alone(rows[:, :, :, made * self._stride :])
        self.first, self._next = self._next, self._next + made * self._stride
        return rows

    def _outside(self, row: Tensor) -> Tensor:
        return row if self._repeats else torch.zeros_like(row)


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Rows one below the other, written once whatever their layout."""
    batch, channels, frames, _, width = parts[0].shape
    shape = (batch, channels, frames, sum(part.shape[_ROWS] for part in parts), width)
    rows = torch.empty(shape, dtype=parts[0].dtype, device=parts[0].device, memory_format=LAYOUT)
    return torch.cat(tuple(parts), dim=_ROWS, out=rows)


def _alone(rows: Tensor) -> Tensor:
    """A copy: a view would keep the whole slab alive."""
    return rows.clone(memory_format=LAYOUT)
