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

Form = Literal["plane", "gather", "joint"]
Plane = Literal["given", "copied", "none"]

# Pixels of all frames and elements of one frame are counted in 32 bits. The margin is for tiles
# that run past the end.
MAX_POSITIONS: Final = 2**31 - 2**20
MAX_FRAME_ELEMENTS: Final = 2**31 - 2**20
MAX_WEIGHTS: Final = 2**30

# Multiplications per input element from which on a copy with a border pays (see `pick`).
_COPY_PAYS: Final = 1024
# Fewer channels than the shortest product: taps and channels are one index then.
_JOINT_CHANNELS: Final = 16


def why_not(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], pad_mode: str
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
        form: "plane" walks over bordered frames as flat rows, "gather" looks every pixel up,
            "joint" does so with taps and channels in one index.
        descriptors: loads through tensor descriptors.
        block_m: positions, a power of two.
        block_n: output channels, likewise.
        block_k: input channels (of one tap), or of "joint" pairs of tap and channel, likewise.
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
    and only a given plane is used. Statistics leave room for smaller tiles only.
    """
    descriptors = _has_descriptors(problem, capability)
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


def _has_descriptors(problem: Problem, capability: int) -> bool:
    return problem.aligned and problem.half_precision and 90 <= capability < 120


def _tile(problem: Problem, form: Form, descriptors: bool, capability: int) -> Config:
    """The largest tile that spills no registers and fits the shared memory."""
    block_n = min(max(16, next_power_of_two(problem.out_channels)), 256)
    if not problem.half_precision:
        # Single precision does not run on matrix units here: sums live in registers alone.
        block_m, block_n = 64, min(block_n, 64 if form == "plane" else 32)
        block_k, num_warps, num_stages = 16, 4, 2
    elif descriptors and not problem.statistics:
        block_m, block_k = 256 if block_n <= 128 else 128, 64
        num_warps, num_stages = 8, 4
    else:
        large = 90 <= capability < 120
        block_m, block_n, block_k = 128, min(block_n, 128), 64 if large else 32
        num_warps, num_stages = 8, 4
    total = problem.channels * (prod(problem.kernel) if form == "joint" else 1)
    return Config(
        form=form,
        descriptors=descriptors,
        block_m=block_m,
        block_n=block_n,
        block_k=_least_padding(total, block_k),
        split=block_m * block_n > 128 * 128,
        frames_together=4,
        num_warps=num_warps,
        num_stages=num_stages,
    )


def _least_padding(size: int, most: int) -> int:
    """The power of two from 16 to ``most`` that pads ``size`` least; of equals the largest."""
    blocks = [most >> i for i in range(most.bit_length()) if most >> i >= 16]
    return min(blocks, key=lambda block: cdiv(size, block) * block)
