"""Convolutional networks in slabs of rows: exact, with nothing computed twice.

A video `[B, C, T, H, W]` goes through a chain of steps as slabs of consecutive rows. A step that
looks at neighbouring rows keeps the few rows that its next slab needs, so its output lags behind by
a row or two, and the last slab brings the rest. Every step sees all frames and columns at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

_ROWS = 3

# Of the slabs: the channels of a position side by side.
LAYOUT = torch.channels_last_3d


class Step(Protocol):
    """One step of a chain."""

    def __call__(self, slab: Tensor | None, last: bool) -> Tensor | None:
        """Take the next rows, or None if there are none yet; return the rows that are finished."""


# Rows of a layer for a slab of its input rows. The two flags say whether the slab begins and ends
# at the video's border, where the layer continues it as it continues the whole; elsewhere the first
# and the last row are there to be looked at, and get no output.
Layer = Callable[[Tensor, bool, bool], Tensor]


class Pointwise:
    """A step whose rows do not look at each other."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function

    def __call__(self, slab: Tensor | None, last: bool) -> Tensor | None:
        """Map the rows."""
        return None if slab is None else self._function(slab)


class Neighbours:
    """A step that looks one row up and one row down.

    Args:
        layer: see `Layer`.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._held: Tensor | None = None
        self._begun = False

    def __call__(self, slab: Tensor | None, last: bool) -> Tensor | None:
        """Return the rows whose neighbours are all there."""
        rows = _joined(self._held, slab)
        top = not self._begun
        if rows is None or rows.shape[_ROWS] <= (not top) + (not last):
            self._held = rows
            return None
        self._held = None if last else _copy(rows[:, :, :, -2:])
        self._begun = True
        return self._layer(rows, top, last)


class Strided:
    """A step that makes one row of every two, looking one row up.

    Args:
        layer: as `Layer`, but for an even number of rows behind the one that is looked at.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._held: Tensor | None = None
        self._begun = False

    def __call__(self, slab: Tensor | None, last: bool) -> Tensor | None:
        """Return the rows whose pairs are complete."""
        rows = _joined(self._held, slab)
        above = int(self._begun)
        if rows is None or rows.shape[_ROWS] < above + 2:
            self._held = rows
            return None
        pairs = (rows.shape[_ROWS] - above) // 2
        end = above + 2 * pairs
        self._held = None if last else _copy(rows[:, :, :, end - 1 :])
        self._begun = True
        pairs_alone = rows[:, :, :, :end].contiguous(memory_format=LAYOUT)
        return self._layer(pairs_alone, above == 0, last)


class Added:
    """A chain of steps, with its input added to its output by `join(output, input)`."""

    def __init__(self, steps: Sequence[Step], join: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._steps, self._join = steps, join
        self._waiting: Tensor | None = None

    def __call__(self, slab: Tensor | None, last: bool) -> Tensor | None:
        """Run the chain on the rows; return those that are finished."""
        self._waiting = _joined(self._waiting, slab)
        y = through(self._steps, slab, last)
        if y is None:
            return None
        assert self._waiting is not None
        count = y.shape[_ROWS]
        given = self._waiting[:, :, :, :count]
        joined = self._join(y, given)
        self._waiting = None if last else _copy(self._waiting[:, :, :, count:])
        return joined


def through(steps: Sequence[Step], slab: Tensor | None, last: bool) -> Tensor | None:
    """Run rows through a chain of steps."""
    for step in steps:
        slab = step(slab, last)
    return slab


def in_slabs(x: Tensor, rows: int, steps: Sequence[Step]) -> Iterator[Tensor]:
    """Run a video through a chain of steps, so many rows of its input at a time.

    Args:
        x: `[B, C, T, H, W]`.
        rows: of a slab, at least 1.
        steps: fresh ones: a chain serves one video.

    Yields:
        The rows of the result, in order.
    """
    height = x.shape[_ROWS]
    for start in range(0, height, rows):
        end = min(start + rows, height)
        slab = x[:, :, :, start:end].contiguous(memory_format=LAYOUT)
        finished = through(steps, slab, last=end == height)
        del slab
        if finished is not None:
            yield finished


def collected(
    slabs: Iterator[Tensor], shape: Sequence[int], like: Tensor, layout: torch.memory_format
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
    row = 0
    for slab in slabs:
        whole[:, :, :, row : row + slab.shape[_ROWS]] = slab
        row += slab.shape[_ROWS]
        del slab
    assert row == shape[_ROWS]
    return whole


def _joined(held: Tensor | None, slab: Tensor | None) -> Tensor | None:
    if held is None or slab is None:
        return held if slab is None else slab
    return torch.cat((held, slab), dim=_ROWS)


def _copy(rows: Tensor) -> Tensor | None:
    """The rows alone: a view would keep the whole slab alive."""
    return rows.clone(memory_format=LAYOUT) if rows.shape[_ROWS] else None
