"""The HunyuanVideo autoencoder as a chain of links, each of which can make its rows in slabs.

A link maps a video, and the moments of its channels, to the next. A norm needs the moments of all
that it normalises before its first row, so a link in slabs is given them: how they are found is the
business of `within.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import prod
from typing import ClassVar, Protocol, TypeAlias

from torch import Tensor, nn

from opensora_fast.kernels.moments import MomentsOfParts, channel_moments

from ..slabs import LAYOUT, Slabs, Window, doubling, neighbours, pieces
from .blocks import CausalConv3d, Downsample, Gathered, GroupNormSiLU, ResnetBlock, Upsample

Shape: TypeAlias = "tuple[int, ...]"


class Link(Protocol):
    """What all links have in common.

    Attributes:
        takes_slabs: whether it can run in slabs.
        norms: how many moments it needs in slabs: of its input, then of what is inside.
    """

    takes_slabs: ClassVar[bool]
    norms: ClassVar[int]

    def whole(self, x: Tensor, moments: Tensor | None) -> Gathered:
        """Map x `[B, C, T, H, W]` and its moments to the next, and its moments."""

    def in_slabs(
        self, slabs: Slabs, known: list[Tensor], rows: int, tally: MomentsOfParts | None
    ) -> Slabs:
        """The rows of the link's output; or, where the last of its moments is missing, of that.

        Args:
            slabs: of the input.
            known: moments.
            rows: of a slab, at most.
            tally: takes in the moments of what is made.
        """

    def shape(self, shape: Shape) -> Shape:
        """Of the output."""

    def inside(self, shape: Shape) -> int:
        """Elements that the whole has at one time beside its input and its result, at least."""

    def work(self, shape: Shape, rows: int) -> list[float]:
        """Multiplications up to each of the moments inside it, and to its end, in slabs."""


class Whole:
    """Layers at the lowest resolution, which run whole.

    Args:
        function: maps a video and its moments.
        channels: of the output.
    """

    takes_slabs: ClassVar[bool] = False
    norms: ClassVar[int] = 0

    def __init__(
        self, function: Callable[[Tensor, Tensor | None], Gathered], channels: int
    ) -> None:
        self._function, self._channels = function, channels

    def whole(self, x: Tensor, moments: Tensor | None) -> Gathered:
        """See `Link`."""
        return self._function(x, moments)

    def in_slabs(
        self, slabs: Slabs, known: list[Tensor], rows: int, tally: MomentsOfParts | None
    ) -> Slabs:
        """See `Link`."""
        raise NotImplementedError("these layers see all rows at once")

    def shape(self, shape: Shape) -> Shape:
        """See `Link`."""
        return (shape[0], self._channels, *shape[2:])

    def inside(self, shape: Shape) -> int:
        """See `Link`."""
        return 0

    def work(self, shape: Shape, rows: int) -> list[float]:
        """See `Link`; it is done once on every way."""
        return [0.0]


class Convolution:
    """A convolution without a norm: the first one, or a downsampling."""

    takes_slabs: ClassVar[bool] = True
    norms: ClassVar[int] = 0

    def __init__(self, conv: CausalConv3d) -> None:
        self._conv = conv

    def whole(self, x: Tensor, moments: Tensor | None) -> Gathered:
        """See `Link`."""
        return self._conv.gathering(x.contiguous(memory_format=LAYOUT))

    def in_slabs(
        self, slabs: Slabs, known: list[Tensor], rows: int, tally: MomentsOfParts | None
    ) -> Slabs:
        """See `Link`."""
        layer = functools.partial(self._conv.gathering, pad_rows=False)
        stride = self._conv.stride[1]
        return neighbours(pieces(slabs, rows), _tallied(layer, tally), "repeated", stride)

    def shape(self, shape: Shape) -> Shape:
        """See `Link`."""
        sizes = zip(shape[2:], self._conv.stride, strict=True)
        return (shape[0], self._conv.conv.out_channels, *((n - 1) // s + 1 for n, s in sizes))

    def inside(self, shape: Shape) -> int:
        """See `Link`."""
        return 0

    def work(self, shape: Shape, rows: int) -> list[float]:
        """See `Link`."""
        return [_work(self._conv, self.shape(shape))]


class Enlargement:
    """Nearest upsampling and its convolution."""

    takes_slabs: ClassVar[bool] = True
    norms: ClassVar[int] = 0

    def __init__(self, upsample: Upsample) -> None:
        self._upsample = upsample

    def whole(self, x: Tensor, moments: Tensor | None) -> Gathered:
        """See `Link`."""
        y: Gathered = self._upsample(x)
        return y

    def in_slabs(
        self, slabs: Slabs, known: list[Tensor], rows: int, tally: MomentsOfParts | None
    ) -> Slabs:
        """See `Link`."""
        factor = self._upsample.scale[1]
        made = doubling(pieces(slabs, rows), lambda x: self._upsample(x)[0], factor)
        for slab, last in made:
            if tally is not None:
                # What the convolution gathers is also of the neighbours, which are dropped.
                tally.add(channel_moments(slab), slab)
            handed = [slab]
            del slab
            yield handed.pop(), last

    def shape(self, shape: Shape) -> Shape:
        """See `Link`."""
        times, *factors = self._upsample.scale
        batch, _, frames, *size = shape
        channels = self._upsample.conv.conv.out_channels
        large = (n * f for n, f in zip(size, factors, strict=True))
        return (batch, channels, 1 + times * (frames - 1), *large)

    def inside(self, shape: Shape) -> int:
        """See `Link`."""
        return 0

    def work(self, shape: Shape, rows: int) -> list[float]:
        """See `Link`: a slab's neighbours are enlarged with it."""
        twice = min(1.0 + 2.0 / rows, 3.0) if rows < shape[3] else 1.0
        return [twice * _work(self._upsample.conv, self.shape(shape))]


class Residual:
    """A residual block: one window of x serves the first convolution and the shortcut."""

    takes_slabs: ClassVar[bool] = True
    norms: ClassVar[int] = 2

    def __init__(self, block: ResnetBlock) -> None:
        self._block = block

    def whole(self, x: Tensor, moments: Tensor | None) -> Gathered:
        """See `Link`."""
        y: Gathered = self._block(x, moments)
        return y

    def over_shortcut(self, held: list[Tensor], moments: Tensor | None, rows: int) -> Gathered:
        """As `whole`, but the result is written over the shortcut, slab by slab.

        Args:
            held: x alone, which is taken out of it, and overwritten where it is the shortcut.
            moments: of x.
            rows: of a slab.
        """
        x = held.pop()
        y = self._block.shortcut(x)
        h, of_h = self._block.head(x, moments)
        del x
        window, tally, done = Window("repeated"), MomentsOfParts(), 0
        for slab, last in pieces(iter([(h, True)]), rows):
            around = window.joined(slab, last)
            if around is None:
                continue
            target = y[:, :, :, done : done + around.shape[3] - 2]
            shortcut = target.contiguous(memory_format=LAYOUT)
            made, of_made = self._block.tail(around, of_h, shortcut, pad_rows=False)
            assert of_made is not None
            del around, shortcut
            tally.add(of_made, made)
            target.copy_(made)
            done += made.shape[3]
            del made
        return y, tally.merged()

    def in_slabs(
        self, slabs: Slabs, known: list[Tensor], rows: int, tally: MomentsOfParts | None
    ) -> Slabs:
        """See `Link`."""
        head = functools.partial(self._block.head, moments=known[0], pad_rows=False)
        slabs = pieces(slabs, rows)
        if len(known) == 1:
            return neighbours(slabs, _tallied(head, tally), "repeated")
        return self._rows(slabs, head, known[1], tally)

    def _rows(
        self,
        slabs: Slabs,
        head: Callable[[Tensor], Gathered],
        of_h: Tensor,
        tally: MomentsOfParts | None,
    ) -> Slabs:
        window_x, window_h = Window("repeated"), Window("repeated")
        done = 0
        for slab, last in slabs:
            x = window_x.joined(slab, last)
            del slab
            if x is None:
                continue
            h = window_h.joined(head(x)[0], last)
            if h is None:
                continue
            start, count = done - window_x.first, h.shape[3] - 2
            done += count
            rows = x[:, :, :, start : start + count].contiguous(memory_format=LAYOUT)
            del x
            shortcut = self._block.shortcut(rows)
            del rows
            y, of_y = self._block.tail(h, of_h, shortcut, pad_rows=False)
            del h, shortcut
            if tally is not None:
                assert of_y is not None
                tally.add(of_y, y)
            handed = [y]
            del y
            yield handed.pop(), last

    def shape(self, shape: Shape) -> Shape:
        """See `Link`."""
        return (shape[0], self._block.conv2.conv.out_channels, *shape[2:])

    def inside(self, shape: Shape) -> int:
        """See `Link`."""
        return (1 if self._block.conv_shortcut is None else 2) * prod(self.shape(shape))

    def work(self, shape: Shape, rows: int) -> list[float]:
        """See `Link`."""
        made = self.shape(shape)
        head = _work(self._block.conv1, made)
        end = head + _work(self._block.conv2, made)
        if self._block.conv_shortcut is not None:
            end += _work(self._block.conv_shortcut, made)
        return [head, end]


class Output:
    """The last norm and convolution."""

    takes_slabs: ClassVar[bool] = True
    norms: ClassVar[int] = 1

    def __init__(self, norm: GroupNormSiLU, conv: CausalConv3d) -> None:
        self._norm, self._conv = norm, conv

    def whole(self, x: Tensor, moments: Tensor | None) -> Gathered:
        """See `Link`."""
        return self._norm.last(self._conv, x, moments), None

    def in_slabs(
        self, slabs: Slabs, known: list[Tensor], rows: int, tally: MomentsOfParts | None
    ) -> Slabs:
        """See `Link`; nothing asks for its moments."""

        def layer(x: Tensor) -> Tensor:
            return self._norm.last(self._conv, x, known[0], pad_rows=False)

        return neighbours(pieces(slabs, rows), layer, "repeated")

    def shape(self, shape: Shape) -> Shape:
        """See `Link`."""
        return (shape[0], self._conv.conv.out_channels, *shape[2:])

    def inside(self, shape: Shape) -> int:
        """See `Link`."""
        return 0

    def work(self, shape: Shape, rows: int) -> list[float]:
        """See `Link`."""
        return [_work(self._conv, self.shape(shape))]


def links_of(level: nn.Module) -> list[Link]:
    """Those of a level's residual blocks, then that of its resampling if it has one."""
    links: list[Link] = []
    for layers in level.children():
        for layer in layers.children():
            if isinstance(layer, ResnetBlock):
                links.append(Residual(layer))
            elif isinstance(layer, Upsample):
                links.append(Enlargement(layer))
            else:
                assert isinstance(layer, Downsample)
                links.append(Convolution(layer.conv))
    return links


def _tallied(
    layer: Callable[[Tensor], Gathered], tally: MomentsOfParts | None
) -> Callable[[Tensor], Tensor]:
    """The layer's rows, their moments taken in."""

    def rows_of(x: Tensor) -> Tensor:
        y, moments = layer(x)
        if tally is not None:
            assert moments is not None
            tally.add(moments, y)
        return y

    return rows_of


def _work(conv: CausalConv3d, shape: Shape) -> float:
    """Multiplications of a convolution that makes a video of a shape."""
    return float(conv.conv.weight.numel() * shape[0] * prod(shape[2:]))
