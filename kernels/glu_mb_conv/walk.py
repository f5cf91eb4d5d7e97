"""How the rows with a kernel of their own go through a clip: slabs of frames, chunks of channels.

A slab is multiplied with a chunk of `inverted_weight`; a kernel activates the products, into a ring
that keeps the frames before them, which the depthwise convolution still needs, and makes the gated
channels of all frames whose neighbours are there; a second product narrows them, with all its terms
in one sum. So the 2·M channels exist for a few frames of a strip of rows at a time: h in fp32,
which spares a rounding. Rows at a strip's edge are computed for both of their strips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..contract import layout_of, wide


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Frames of a slab, rows of a strip (without its two neighbours), channels of a chunk."""

    frames: int
    rows: int
    channels: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What a kernel does for one chunk of one slab.

    Args:
        products: [2, frames, rows, W, m]: those of the new frames, value and gate.
        ring: [2, places, rows, W, m], fp32: h, which the kernel puts there; frame t is in place
            t % places.
        first_channel: where the chunk's m channels begin in M.
        num_frames: of the clip; around it are zeros.
        new_frames: first and number of those that come in as products.
        out_frames: first and number of those to give out; their neighbours are in the ring.
        out_rows: first and number of the ring's rows to give out; around the ring are zeros.
    """

    products: Tensor
    ring: Tensor
    first_channel: int
    num_frames: int
    new_frames: tuple[int, int]
    out_frames: tuple[int, int]
    out_rows: tuple[int, int]


class Gate(Protocol):
    """Writes value · silu(gate) into the step's channels of `gated`, [frames, rows, W, M]."""

    def __call__(self, step: Step, gated: Tensor) -> None:
        """Run the step."""


def choose(size: tuple[int, int, int], width: int, slab: int, strip: int, channels: int) -> Plan:
    """Choose a plan.

    Args:
        size: T, H and W.
        width: M.
        slab: positions that make a product worth its start.
        strip: most positions of one frame at a time.
        channels: of a chunk.
    """
    num_frames, num_rows, columns = size
    # Strips of eight rows compute a quarter more than they need: no fewer.
    rows = min(num_rows, max(strip // columns, 8))
    frames = min(num_frames, -(-slab // (rows * columns)))
    return Plan(frames=frames, rows=rows, channels=min(channels, width))


def run(x: Tensor, inverted_weight: Tensor, point_weight: Tensor, plan: Plan, gate: Gate) -> Tensor:
    """Return y; a video that is not channels-last is copied, and so is its result."""
    clips = x.permute(0, 2, 3, 4, 1).contiguous()
    batch, frames, rows, columns, _ = clips.shape
    y = torch.empty(
        (batch, point_weight.shape[0], frames, rows, columns),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last_3d,
    )
    walk = _Walk(clips, inverted_weight.flatten(1), point_weight.flatten(1), plan, gate)
    for clip, out in zip(clips, y.permute(0, 2, 3, 4, 1), strict=True):
        for top in range(0, rows, plan.rows):
            walk.strip(clip, out, top, min(top + plan.rows, rows))
    return y.contiguous(memory_format=layout_of(x))


class _Walk:
    """The buffers of a call, and what is done with them."""

    def __init__(
        self, clips: Tensor, inverted: Tensor, point: Tensor, plan: Plan, gate: Gate
    ) -> None:
        _, frames, rows, columns, _ = clips.shape
        self.width = point.shape[1]
        self.inverted, self.narrow, self.plan, self.gate = inverted, point.t(), plan, gate
        # Slabs of two frames and more never wrap around, and find the two frames before them.
        whole = plan.frames == frames
        self.places = frames if whole else max(2 * plan.frames, plan.frames + 2)
        frame = min(plan.rows + 2, rows) * columns
        self.ring = clips.new_empty(2 * self.width * self.places * frame, dtype=wide(clips.dtype))
        self.products = clips.new_empty(2 * plan.channels * plan.frames * frame)
        self.gated = clips.new_empty(
            self.width * min(plan.frames + 1, frames) * plan.rows * columns
        )

    def strip(self, clip: Tensor, out: Tensor, top: int, bottom: int) -> None:
        """Go through one strip of rows of one clip, [T, H, W, channels]."""
        first, end = max(top - 1, 0), min(bottom + 1, clip.shape[1])
        for new, given in _slabs(clip.shape[0], self.plan.frames):
            slab = clip[new[0] : sum(new), first:end]
            target = out[given[0] : sum(given), top:bottom]
            gated = self.gated[: self.width * target[..., 0].numel()]
            gated = gated.view(*target.shape[:3], self.width)
            for start in range(0, self.width, self.plan.channels):
                products, ring = self._products(slab, start)
                step = Step(
                    products=products,
                    ring=ring,
                    first_channel=start,
                    num_frames=clip.shape[0],
                    new_frames=new,
                    out_frames=given,
                    out_rows=(top - first, bottom - top),
                )
                self.gate(step, gated)
            product = gated.view(-1, self.width)
            if target.is_contiguous():
                torch.mm(product, self.narrow, out=target.view(-1, target.shape[-1]))
            else:
                target.copy_((product @ self.narrow).view(target.shape))

    def _products(self, slab: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """The products of a slab with the chunk from `start` on, and that chunk's ring."""
        frames, rows, columns, channels = slab.shape
        chunk = min(self.plan.channels, self.width - start)
        positions = slab.reshape(-1, channels)
        products = self.products[: 2 * chunk * positions.shape[0]].view(2, -1, chunk)
        for half in range(2):
            weight = self.inverted[half * self.width + start :][:chunk]
            torch.mm(positions, weight.t(), out=products[half])
        size = self.places * rows * columns
        ring = self.ring[2 * start * size : 2 * (start + chunk) * size]
        return (
            products.view(2, frames, rows, columns, chunk),
            ring.view(2, self.places, rows, columns, chunk),
        )


def _slabs(num_frames: int, frames: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """First and number of the frames that come in, and of those that go out for them."""
    done = 0
    for first in range(0, num_frames, frames):
        end = min(first + frames, num_frames)
        ready = end if end == num_frames else end - 1
        yield (first, end - first), (done, ready - done)
        done = ready
