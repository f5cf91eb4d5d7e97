"""The HunyuanVideo autoencoder within a bound on memory: exact, at the price of some recomputation.

A group norm needs the moments of all frames and rows of its input before it makes its first row, so
rows cannot flow from one norm through the next as they do between convolutions. Instead the chain
of links is cut into steps, and between two steps a video is held whole:

  whole  a link at once, as without a bound
  over   a residual block that holds x and what its first convolution made; the result is written
         over the shortcut, slab by slab
  slabs  a run of links of which nothing is held: for every norm inside, a pass through the links
         before it, of whose result only the moments are kept, and at last a pass that writes the
         result, over x where it has its shape

`Search` finds the steps that compute least among those that keep within the bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from opensora_fast.kernels.contract import wide
from opensora_fast.kernels.footprint import peak_bytes
from opensora_fast.kernels.moments import MomentsOfParts

from ..memory import Edge, cheapest_path, least_bound
from ..slabs import LAYOUT, Slabs, write
from .blocks import Gathered
from .links import Link, Residual, Shape

# Slabs are somewhat slower than the whole, single rows more so: of equal work the larger ones.
_OVERHEAD = 1.02
_OVERHEAD_OF_A_ROW = 0.25
# After so many slabs a chain of links holds all that it ever does.
_ENOUGH_SLABS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Step(Edge):
    """Links run between two videos that are held whole.

    Args:
        mode: how, see above.
        rows: of a slab of the input; 0 if there are none.
    """

    mode: Literal["whole", "over", "slabs"]
    rows: int


def run(links: Sequence[Link], steps: Sequence[Step], x: Tensor, into: Tensor) -> None:
    """Map one video as planned.

    Args:
        links: from first to last.
        steps: of a `Search` for the same links and sizes.
        x: `[1, C, T, H, W]`, not written to.
        into: `[1, O, T', H', W']`, where the result goes.
    """
    held, moments = [x], None
    del x
    for step in steps:
        target = into if step.end == len(links) else None
        y, moments = _run_step(links[step.start : step.end], step, held, moments, target)
        held = [y]
        del y


class Search:
    """Looks for the steps that compute least within a bound, and remembers what steps hold.

    Args:
        links: from first to last, on the meta device.
        shape: of a single video.
        dtype: of all videos.
    """

    def __init__(self, links: Sequence[Link], shape: Shape, dtype: torch.dtype) -> None:
        self._links, self._dtype = links, dtype
        self._shapes = [shape]
        for link in links:
            self._shapes.append(link.shape(self._shapes[-1]))
        self._steps = list(all_steps(links, self._shapes, dtype.itemsize))
        self._estimated: dict[Step, int] = {}
        self._measured: dict[Step, int] = {}

    def within(self, budget: int) -> list[Step] | None:
        """Find the steps that compute least.

        Args:
            budget: bytes that tensors may hold at one time, the first video and the result not
                among them.

        Returns:
            Steps from the first link to the last; None: none keep within the bound.
        """
        end = len(self._links)
        return cheapest_path(self._steps, end, budget, self._estimate, self._measure)

    def least(self) -> int:
        """The least budget that some steps keep within."""
        smallest = [step for step in self._steps if step.rows <= 1]
        return least_bound(smallest, len(self._links), self._estimate, self._measure)

    def _estimate(self, step: Step) -> int:
        if step not in self._estimated:
            self._estimated[step] = _peak(
                self._links, step, self._shapes, self._dtype, at_most=_ENOUGH_SLABS
            )
        return self._estimated[step]

    def _measure(self, step: Step) -> int:
        if step not in self._measured:
            self._measured[step] = _peak(self._links, step, self._shapes, self._dtype)
        return self._measured[step]


def all_steps(links: Sequence[Link], shapes: Sequence[Shape], itemsize: int) -> Iterator[Step]:
    """All that are worth trying, with what they cost and what they hold at least."""

    def bytes_at(place: int) -> int:
        """Of a video that is held; neither the first one nor the last one is counted."""
        return 0 if place in (0, len(links)) else itemsize * prod(shapes[place])

    for start, first in enumerate(links):
        height, held = shapes[start][3], bytes_at(start)
        cost = first.work(shapes[start], height)[-1]
        inside, after = itemsize * first.inside(shapes[start]), bytes_at(start + 1)
        yield Step(
            start=start, end=start + 1, cost=cost, least=held + inside + after, mode="whole", rows=0
        )
        if not first.takes_slabs:
            continue
        for rows in sorted({max(height >> k, 1) for k in range(1, height.bit_length() + 1)}):
            overhead = _OVERHEAD + _OVERHEAD_OF_A_ROW / rows
            if isinstance(first, Residual):
                yield Step(
                    start=start,
                    end=start + 1,
                    cost=cost * overhead,
                    least=held + inside,
                    mode="over",
                    rows=rows,
                )
            for end in range(start + 1, len(links) + 1):
                if not links[end - 1].takes_slabs:
                    break
                in_place = _is_in_place(links[start:end], shapes[start], shapes[end])
                slabs = itemsize * _elements(links[start:end], shapes[start : end + 1], rows)
                yield Step(
                    start=start,
                    end=end,
                    cost=overhead * _work(links[start:end], shapes[start : end + 1], rows),
                    least=held + slabs + (0 if in_place else bytes_at(end)),
                    mode="slabs",
                    rows=rows,
                )


def _work(links: Sequence[Link], shapes: Sequence[Shape], rows: int) -> float:
    """Multiplications of all passes of a step in slabs."""
    total = before = 0.0
    for i, link in enumerate(links):
        work = link.work(shapes[i], _rows_at(rows, shapes, i))
        if link.norms and i > 0:
            total += before
        total += sum(before + part for part in work[:-1])
        before += work[-1]
    return total + before


def _elements(links: Sequence[Link], shapes: Sequence[Shape], rows: int) -> int:
    """That slabs have at one time, nearly: all windows, and what the largest link has in hand."""
    windows = in_hand = 0
    for i, link in enumerate(links):
        at, made = _rows_at(rows, shapes, i), _rows_at(rows, shapes, i + 1)
        of_row, of_made = (prod(shape) // shape[3] for shape in shapes[i : i + 2])
        if 4 * at > shapes[i][3]:
            # Few slabs, of which none may be a whole one with its neighbours.
            in_hand = max(in_hand, max(at - 2, 0) * of_row + max(made - 4, 0) * of_made)
        elif isinstance(link, Residual):
            windows += 2 * (of_row + of_made)
            in_hand = max(in_hand, at * of_row + (2 * made + 2) * of_made)
        else:
            windows += 2 * of_row
            in_hand = max(in_hand, at * of_row + made * of_made)
    return windows + in_hand


def _rows_at(rows: int, shapes: Sequence[Shape], place: int) -> int:
    """Rows of a slab at a place, where the first one has `rows`."""
    return max(min(rows, shapes[0][3]) * shapes[place][3] // shapes[0][3], 1)


def _is_in_place(links: Sequence[Link], shape: Shape, made: Shape) -> bool:
    return shape == made and all(isinstance(link, Residual) for link in links)


def _peak(
    links: Sequence[Link],
    step: Step,
    shapes: Sequence[Shape],
    dtype: torch.dtype,
    at_most: int | None = None,
) -> int:
    """The most bytes that a step holds, its input included unless it is the first one's.

    With `at_most` an estimate from so many slabs: what they hold beside the videos is the same for
    any number of them.
    """
    batch, channels, frames, height, width = shapes[step.start]
    made_height = shapes[step.end][3]
    if at_most is not None and step.mode == "slabs":
        height = min(height, at_most * step.rows + height % step.rows)
    shape: Shape = (batch, channels, frames, height, width)
    run = links[step.start : step.end]
    result = shape
    for link in run:
        result = link.shape(result)
    # The first one comes as users have it: with frames side by side.
    given = [torch.empty(shape, dtype=dtype, device="meta")] if step.start == 0 else None
    into = _empty(result, dtype) if step.end == len(links) else None

    def compute() -> Gathered:
        held, moments = given, None
        if held is None:
            held = [_empty(shape, dtype)]
            moments = torch.empty((1, 2, channels), dtype=wide(dtype), device="meta")
        return _run_step(run, step, held, moments, into)

    left_out = 0
    if given is None:
        left_out += (shapes[step.start][3] - height) * (prod(shape) // height)
    if into is None and not _is_in_place(run, shape, result):
        left_out += (made_height - result[3]) * (prod(result) // result[3])
    return peak_bytes(compute) + left_out * dtype.itemsize


def _empty(shape: Shape, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta", memory_format=LAYOUT)


def _run_step(
    links: Sequence[Link],
    step: Step,
    held: list[Tensor],
    moments: Tensor | None,
    into: Tensor | None,
) -> Gathered:
    """Run the links of a step on the video that is taken out of `held`."""
    if step.mode == "slabs":
        return _in_slabs(links, held, moments, step.rows, into)
    (link,) = links
    if step.mode == "over":
        assert isinstance(link, Residual)
        return link.over_shortcut(held, moments, step.rows)
    y, moments = link.whole(held.pop(), moments)
    return (y if into is None else into.copy_(y)), moments


def _in_slabs(
    links: Sequence[Link],
    held: list[Tensor],
    moments: Tensor | None,
    rows: int,
    into: Tensor | None,
) -> Gathered:
    x = held.pop()
    shapes: list[Shape] = [tuple(x.shape)]
    ready: list[tuple[Link, list[Tensor], int]] = []

    def made(tally: MomentsOfParts | None) -> Slabs:
        slabs: Slabs = iter([(x, True)])
        for link, known, limit in ready[:-1]:
            slabs = link.in_slabs(slabs, known, limit, None)
        link, known, limit = ready[-1]
        return link.in_slabs(slabs, known, limit, tally)

    def gathered() -> Tensor:
        tally = MomentsOfParts()
        for slab, _ in made(tally):
            del slab
        return tally.merged()

    for i, link in enumerate(links):
        known: list[Tensor] = []
        if link.norms:
            if i > 0:
                moments = gathered()
            assert moments is not None, "a video that is held comes with its moments"
            known.append(moments)
        ready.append((link, known, _rows_at(rows, shapes, i)))
        for _ in range(1, link.norms):
            known.append(gathered())
        shapes.append(link.shape(shapes[-1]))
    if into is not None:
        write(made(None), into)
        return into, None
    if _is_in_place(links, shapes[0], shapes[-1]):
        y = x
    else:
        y = torch.empty(shapes[-1], dtype=x.dtype, device=x.device, memory_format=LAYOUT)
    tally = MomentsOfParts()
    write(made(tally), y)
    return y, tally.merged()
