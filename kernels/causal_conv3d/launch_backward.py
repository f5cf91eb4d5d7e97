"""What the Triton kernels of causal_conv3d's backward can run, and how they are launched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import cdiv, next_power_of_two, share_tiles
from .reference import padding, repeats

MAX_FRAME = 2**31 - 2**20  # elements of a frame and its padding, counted in 32 bits
MAX_ROWS = 2**31 - 2**20  # blocks of positions, and elements of a weight, likewise


def why_not(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    pad_mode: str,
    needs: Sequence[bool],
) -> str | None:
    """Return why the backward kernels cannot serve a call, or None."""
    geometry = of_convolution(weight.shape[2:], stride, pad_mode)
    return not_served(grad, x, weight, geometry) or triton_why_not(grad, x, weight)


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """Which position p of the padded input meets which position y of the output at which tap k.

    Along an axis, p = stride·y + k; where an upsampling is folded in, y = scale·p - k.

    Args:
        kernel: taps in T, H, W.
        stride: of the convolution.
        scale: of the upsampling folded into it; 1 wherever the stride is not.
        front: padding in front in T, on either side in H and W. What zeros lie behind in T follows
            from the size of the output.
        repeats: whether the padding repeats the border; else it is zeros.
    """

    kernel: tuple[int, int, int]
    stride: tuple[int, int, int]
    scale: tuple[int, int, int]
    front: tuple[int, int, int]
    repeats: bool

    def padded(self, size: Sequence[int]) -> tuple[int, int, int]:
        """T, H, W with the padding."""
        front = self.front
        return size[0] + front[0], size[1] + 2 * front[1], size[2] + 2 * front[2]

    def ring_rows(self, size: Sequence[int]) -> int:
        """Positions of a padded frame that repeat its border; none where nothing is repeated."""
        _, height, width = self.padded(size)
        return height * width - size[1] * size[2] if self.repeats else 0

    def walked(self, size: Sequence[int], out_size: Sequence[int]) -> tuple[int, ...]:
        """Positions per axis over which a weight's gradient sums: of y, or of p if scaled."""
        sizes = zip(self.padded(size), out_size, self.scale, strict=True)
        return tuple(outer if scale == 1 else inner for inner, outer, scale in sizes)

    def constants(self) -> dict[str, object]:
        """The geometry as the kernels take it: K, S, U and F of T, H and W, and REPEATS."""
        named: dict[str, object] = {"REPEATS": self.repeats}
        for name, values in (
            ("K", self.kernel),
            ("S", self.stride),
            ("U", self.scale),
            ("F", self.front),
        ):
            named |= {name + axis: value for axis, value in zip("THW", values, strict=True)}
        return named


def of_convolution(kernel: Sequence[int], stride: Sequence[int], pad_mode: str) -> Geometry:
    """The geometry of causal_conv3d."""
    (depth, height, width), (along_t, along_h, along_w) = kernel, stride
    (t, _), (h, _), (w, _) = padding(kernel, pad_mode)
    return Geometry(
        kernel=(depth, height, width),
        stride=(along_t, along_h, along_w),
        scale=(1, 1, 1),
        front=(t, h, w),
        repeats=repeats(pad_mode),
    )


def not_served(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> str | None:
    """Return which size the kernels do not serve, or None."""
    if 0 in (grad.numel(), x.numel(), weight.numel()):
        return "a tensor is empty"
    frames, height, width = geometry.padded(x.shape[2:])
    frame = max(height * width * x.shape[1], prod(grad.shape[3:]) * grad.shape[1])
    if frame > MAX_FRAME:
        return f"a frame has {frame} elements, at most {MAX_FRAME} are counted"
    positions = max(x.shape[0] * frames * height * width, grad.numel() // grad.shape[1])
    if positions > MAX_ROWS:
        return f"a video has {positions} positions, at most {MAX_ROWS} are counted"
    if prod(weight.shape[:2]) * prod(geometry.kernel) > MAX_ROWS:
        return f"the weight has {weight.numel()} elements, at most {MAX_ROWS} are counted"
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What the choice depends on."""

    channels: int
    out_channels: int
    taps: int
    half_precision: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class InputConfig:
    """One program of the input's gradient: positions by channels, so many products at a time."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightConfig:
    """One program of the weight's gradient: channels by outputs, so many positions at a time."""

    block_c: int
    block_o: int
    block_p: int
    num_warps: int
    num_stages: int
    max_programs: int

    def splits(self, problem: Problem, num_blocks: int) -> tuple[int, int]:
        """Programs that share the blocks of positions, and blocks of each."""
        tiles = cdiv(problem.channels, self.block_c) * cdiv(problem.out_channels, self.block_o)
        walk = share_tiles(num_blocks, tiles * problem.taps, self.max_programs)
        return walk.programs, walk.tiles


def pick_input(problem: Problem, capability: int) -> InputConfig:
    """Choose the launch of the input's gradient: the largest tile that spills no registers."""
    # Few outputs make a loop so short that the compiler unrolls it, with an address for each load.
    few = problem.out_channels < 32
    block_n = _block(problem.channels, 128 if problem.half_precision and not few else 64)
    if not problem.half_precision:
        return InputConfig(block_m=64, block_n=block_n, block_k=16, num_warps=8, num_stages=3)
    return InputConfig(
        block_m=128,
        block_n=block_n,
        block_k=_block(problem.out_channels, 64 if 90 <= capability < 120 else 32),
        num_warps=8,
        num_stages=4,
    )


def pick_weight(problem: Problem, capability: int, num_sms: int) -> WeightConfig:
    """Choose the launch of the weight's gradient.

    Every program leaves a partial sum of its tile: four waves of programs balance the device, and
    more would only write more.
    """
    limit = 128 if problem.half_precision else 64
    large = problem.half_precision and 90 <= capability < 120
    return WeightConfig(
        block_c=_block(problem.channels, limit),
        block_o=_block(problem.out_channels, limit),
        block_p=64 if large else 32,
        num_warps=8,
        num_stages=4 if problem.half_precision else 3,
        max_programs=4 * num_sms,
    )


def _block(channels: int, limit: int) -> int:
    return min(limit, max(16, next_power_of_two(channels)))
