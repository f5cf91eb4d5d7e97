"""What the Triton convolution can run, which of its two forms, and how it is launched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Final, Literal

from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import cdiv, next_power_of_two
from .reference import padding

Form = Literal["plane", "columns", "gather", "joint"]
Plane = Literal["given", "copied", "none"]

# Pixels of all frames and elements of one frame are counted in 32 bits. The margin is for tiles
# that run past the end.
MAX_POSITIONS: Final = 2**31 - 2**20
MAX_FRAME_ELEMENTS: Final = 2**31 - 2**20
MAX_WEIGHTS: Final = 2**30

# Multiplications per input element from which on a copy with a border pays (see `pick`).
_COPY_PAYS: Final = 1024
# Taps in time and width, and outputs, that are columns of one narrow product (see `pick`).
_MOST_COLUMNS: Final = 32
_LEAST_CHANNELS_OF_COLUMNS: Final = 64
# Fewer channels than the shortest product: taps and channels are one index then.
_JOINT_CHANNELS: Final = 16


def why_not(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    pad_mode: str,
    gather: bool,
) -> str | None:
    """Return why the forward kernels cannot serve a call, or None."""
    tensors = (x, weight) if bias is None else (x, weight, bias)
    return triton_why_not(*tensors) or why_not_sizes(x, weight, pad_mode)


def why_not_sizes(x: Tensor, weight: Tensor, pad_mode: str) -> str | None:
    """Return which size exceeds what the kernels count, or None."""
    if x.numel() == 0 or weight.numel() == 0:
        return "a tensor is empty"
    (_, _), (top, bottom), (left, right) = padding(weight.shape[2:], pad_mode)
    height, width = x.shape[3] + top + bottom, x.shape[4] + left + right
    if x.shape[0] * x.shape[2] * height * width > MAX_POSITIONS:
        return f"x has more than {MAX_POSITIONS} padded pixels: {list(x.shape)}"
    if height * width * x.shape[1] > MAX_FRAME_ELEMENTS:
        return f"a padded frame of {list(x.shape)} has more than {MAX_FRAME_ELEMENTS} elements"
    if weight.numel() > MAX_WEIGHTS:
        return f"weight has {weight.numel()} elements, more than {MAX_WEIGHTS}"
    return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Shortcut:
    """How x reaches y, which has other channels or another size, around a convolution.

    Args:
        pools: a channel of y is the mean of ``group`` channels of x, pixels of one block shuffled
            into channels; else ``group`` channels of y, shuffled likewise, repeat one of x.
        group: how many.
    """

    pools: bool
    group: int

    def constants(self) -> dict[str, object]:
        """As the kernels take it."""
        return {"POOLS": self.pools, "GROUP": self.group}


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What the choice depends on.

    Args:
        channels: of x.
        out_channels: of y.
        kernel: taps in T, H, W.
        half_precision: two bytes per element.
        aligned: pixels begin at multiples of 16 bytes.
        plane: of a stride of 1, whether what the plane form reads is "given" (a producer wrote
            it, or no border is needed) or would be "copied"; "none" for other strides.
        statistics: the end of a tile also sums its results for the norm behind.
    """

    channels: int
    out_channels: int
    kernel: tuple[int, int, int]
    half_precision: bool
    aligned: bool
    plane: Plane
    statistics: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: ``block_m`` positions by ``block_n`` outputs, ``block_k`` products at a time.

    Args:
        form: "plane" walks over bordered frames as flat rows, "columns" does so with most taps as
            outputs that are summed later, "gather" looks every pixel up, "joint" does so with taps
            and channels in one index.
        descriptors: loads through tensor descriptors.
        block_m: positions, a power of two.
        block_n: output channels, likewise.
        block_k: input channels (of one tap), or of "joint" pairs of tap and channel, likewise.
        sums: the end of a tile also writes sums of its results.
        split: finish a tile in two halves, which halves the registers of its end.
        frames_together: frames that neighbouring programs work on at the same place.
        num_warps: per program.
        num_stages: loads in flight.
    """

    form: Form
    descriptors: bool
    block_m: int
    block_n: int
    block_k: int
    sums: bool
    split: bool
    frames_together: int
    num_warps: int
    num_stages: int

    def packed_shape(self, channels: int, out_channels: int, taps: int) -> tuple[int, int, int]:
        """Rows, columns and channels per tap of the packed weight, padded to whole blocks."""
        columns = cdiv(out_channels, self.block_n) * self.block_n
        if self.form == "joint":
            return cdiv(taps * channels, self.block_k) * self.block_k, columns, channels
        per_tap = cdiv(channels, self.block_k) * self.block_k
        return taps * per_tap, columns, per_tap


def pick(problem: Problem, capability: int) -> Config:
    """Choose form and launch.

    Data-centre devices with descriptors take the plane form, whose inner loop is that of a matrix
    product, wherever the plane is given. A copy of x with its border moves 4 C bytes a pixel
    (bf16) against 2 C O taps operations: at 1024 multiplications per element it is some tenth of
    the convolution, about what the looked-up addresses cost. Elsewhere both forms read by pointers,
    and only a given plane is used.

    To few channels a convolution reads x over and over for little work. With taps as columns it
    reads x once per row of the kernel, 2 C kH bytes a pixel through L2 instead of 2 C kT kH kW, and
    moves 8 bytes (fp32, written and read) for each of at most 32 columns: less from 64 channels on.
    """
    descriptors = _has_descriptors(problem, capability)
    if _fits_columns(problem):
        return _tile(problem, "columns", descriptors, capability)
    work = prod(problem.kernel) * problem.out_channels
    if problem.plane == "given" or (
        problem.plane == "copied" and descriptors and work >= _COPY_PAYS
    ):
        return _tile(problem, "plane", descriptors, capability)
    form: Form = "joint" if problem.channels < _JOINT_CHANNELS else "gather"
    return _tile(problem, form, False, capability)


def candidates(problem: Problem, capability: int) -> tuple[Config, ...]:
    """Other launches that can run a problem, for a measurement to choose from."""
    forms: list[tuple[Form, bool]] = []
    if problem.plane != "none":
        forms.append(("plane", _has_descriptors(problem, capability)))
    if _fits_columns(problem):
        forms.append(("columns", _has_descriptors(problem, capability)))
    if problem.plane != "given":
        forms.append(("gather", False))
        if problem.channels < 4 * _JOINT_CHANNELS:
            forms.append(("joint", False))
    found = []
    for form, descriptors in forms:
        tile = _tile(problem, form, descriptors, capability)
        found += [replace(tile, frames_together=n) for n in (1, 4, 16)]
        if tile.num_stages > 3:
            found.append(replace(tile, num_stages=3))
        if tile.split:
            # Less reuse of what is loaded, but more programs to fill the device.
            found.append(replace(tile, block_m=128, block_n=min(tile.block_n, 128), split=False))
    default = pick(problem, capability)
    return tuple(config for config in found if config != default)


def _fits_columns(problem: Problem) -> bool:
    columns = problem.kernel[0] * problem.kernel[2] * problem.out_channels
    return (
        problem.plane != "none"
        and not problem.statistics
        and problem.out_channels < columns <= _MOST_COLUMNS
        and problem.channels >= _LEAST_CHANNELS_OF_COLUMNS
    )


def _has_descriptors(problem: Problem, capability: int) -> bool:
    return problem.aligned and problem.half_precision and 90 <= capability < 120


def _tile(problem: Problem, form: Form, descriptors: bool, capability: int) -> Config:
    """The largest tile that spills no registers and fits the shared memory."""
    outputs = problem.out_channels
    if form == "columns":
        outputs *= problem.kernel[0] * problem.kernel[2]
    block_n = min(max(16, next_power_of_two(outputs)), 256)
    if not problem.half_precision:
        # Single precision does not run on matrix units here: sums live in registers alone.
        block_m, block_n = 64, min(block_n, 32 if form in ("gather", "joint") else 64)
        block_k, num_warps, num_stages = 16, 4, 2
    elif descriptors:
        # On Blackwell the sums of a tile of 256 x 128 and its conversion do not fit the registers.
        tall = block_n <= 128 and not (problem.statistics and capability >= 100)
        block_m, block_k = 256 if tall else 128, 64
        num_warps, num_stages = 8, 4
    else:
        large = 90 <= capability < 120
        block_m, block_n, block_k = 128, min(block_n, 128), 64 if large else 32
        num_warps, num_stages = 8, 4
    # Columns are stored in fp32, which takes more registers than half precision.
    split = block_m * block_n > (128 * 128 if form != "columns" else 256 * 16)
    total = problem.channels * (prod(problem.kernel) if form == "joint" else 1)
    return Config(
        form=form,
        descriptors=descriptors,
        block_m=block_m,
        block_n=block_n,
        block_k=_least_padding(total, block_k),
        sums=problem.statistics,
        split=split,
        frames_together=4,
        num_warps=num_warps,
        num_stages=num_stages,
    )


def _least_padding(size: int, most: int) -> int:
    """The power of two from 16 to ``most`` that pads ``size`` least; of equals the largest."""
    blocks = [most >> i for i in range(most.bit_length()) if most >> i >= 16]
    return min(blocks, key=lambda block: cdiv(size, block) * block)
