"""What the Triton kernels of attention can run, and how they are launched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from torch import Tensor

from ..common.availability import triton_why_not
from ..common.launch import cdiv, next_power_of_two

Kernel = Literal["forward", "query_gradient", "key_gradient"]
KERNELS: Final[tuple[Kernel, ...]] = ("forward", "query_gradient", "key_gradient")

# A program's tile of queries (of keys, in their gradient) and its fp32 sums stay on the chip.
MAX_HEAD_DIM = 256
MAX_FP32_HEAD_DIM = 128
MAX_TOKENS = 2**30  # tokens are counted in 32 bits
MAX_PROGRAMS = 2**31 - 1  # of a grid
MAX_BLOCK_SPAN = 2**31  # elements from the first to the last of a block, counted in 32 bits
MAX_BLOCK_TOKENS = 128
MIN_OWN_TOKENS = 16  # of the tile that a program owns


def why_not(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Return why the forward kernel cannot serve a call, or None."""
    return heads_why_not(MAX_HEAD_DIM, q=q, k=k, v=v)


def backward_why_not(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
) -> str | None:
    """Return why the backward kernels cannot serve a call, or None."""
    return heads_why_not(MAX_HEAD_DIM, q=q, k=k, v=v, out=out, grad=grad)


def heads_why_not(max_head_dim: int, **tensors: Tensor) -> str | None:
    """Return why the kernels cannot take tensors [B, L, N, D], the first of them q; or None."""
    q, *_ = tensors.values()
    batch, _, num_heads, head_dim = q.shape
    dense_step = num_heads * head_dim  # from a token to the next in the results
    limit = max_head_dim if q.element_size() == 2 else MAX_FP32_HEAD_DIM
    if not 0 < head_dim <= limit:
        return f"heads have {head_dim} channels, 1 to {limit} fit in {q.dtype}"
    for name, x in tensors.items():
        if x.shape[1] > MAX_TOKENS:
            return f"{name} has {x.shape[1]} tokens, at most {MAX_TOKENS} are counted"
        if batch * num_heads * cdiv(x.shape[1], MIN_OWN_TOKENS) > MAX_PROGRAMS:
            return f"{name} has shape {list(x.shape)}: more programs than a grid holds"
        span = MAX_BLOCK_TOKENS * max(x.stride(1), dense_step) + head_dim * x.stride(3)
        if span >= MAX_BLOCK_SPAN:
            return f"{name} has strides {x.stride()}: a block would span 2^31 elements"
    return triton_why_not(*tensors.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What the choice depends on; ``describable`` if all inputs fit tensor descriptors."""

    kernel: Kernel
    head_dim: int
    half_precision: bool
    describable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One program: ``block_q`` queries against ``block_k`` keys at a time.

    ``stride_unit``: elements that the strides are counted in, all but that of channels.
    ``peel``: the last block of keys, the only one that needs a mask, has code of its own; else all
    are masked, which takes fewer registers. ``hoist``: what does not change in the loop is computed
    before it; of wide heads, the operands' addresses alone would fill half of the registers.
    ``tall``: the gradients of keys and values are summed as [block_k, block_d], so that the weights
    enter their products from registers; else as [block_d, block_k], for few keys of many channels.
    """

    descriptors: bool
    stride_unit: int
    block_d: int
    block_q: int
    block_k: int
    num_warps: int
    num_stages: int
    peel: bool = True
    hoist: bool = True
    tall: bool = True


def describable(x: Tensor) -> bool:
    """Return whether tensor descriptors can hold ``x`` [B, L, N, D]: 16-byte bounds throughout."""
    size = x.element_size()
    steps = [s * size for n, s in zip(x.shape[:3], x.stride()[:3], strict=True) if n > 1]
    aligned = all(step > 0 and step % 16 == 0 for step in steps)
    return x.stride(3) == 1 and aligned and x.data_ptr() % 16 == 0


class _Tile(NamedTuple):
    """Fields of `Config`."""

    block_q: int
    block_k: int
    num_warps: int
    num_stages: int
    peel: bool = True
    hoist: bool = True
    tall: bool = True


# By the widest head that a tile is for: the largest that spill no registers and fit shared memory.
# Compiled with Triton 3.6 and 3.9 (see compiled.py); nothing here has been timed.
_Tiles = dict[Kernel, dict[int, _Tile]]

# Data-centre devices from sm_90 on: operands by bulk copies, read by the matrix units themselves.
_BY_DESCRIPTORS: _Tiles = {
    "forward": {
        64: _Tile(128, 128, 8, 3),
        128: _Tile(128, 128, 8, 2),
        256: _Tile(128, 32, 8, 2, peel=False),
        512: _Tile(64, 32, 8, 2, peel=False, hoist=False),
    },
    "query_gradient": {
        128: _Tile(128, 64, 8, 2),
        256: _Tile(64, 32, 4, 2),
        512: _Tile(64, 32, 8, 1, peel=False, hoist=False),
    },
    "key_gradient": {
        128: _Tile(64, 128, 8, 2),
        512: _Tile(64, 32, 8, 1, hoist=False, tall=False),
    },
}
# Loads by pointers hold addresses in registers, and a peeled block would come through them. A head
# of 65 to 127 channels also holds its masks.
_BY_POINTERS: _Tiles = {
    "forward": {
        64: _Tile(64, 64, 4, 2, peel=False),
        127: _Tile(64, 64, 8, 2, peel=False),
        128: _Tile(64, 64, 4, 2, peel=False),
        256: _Tile(64, 32, 8, 2, peel=False),
        512: _Tile(64, 16, 8, 2, peel=False),
    },
    "query_gradient": {
        128: _Tile(64, 64, 8, 2, peel=False),
        256: _Tile(64, 32, 8, 2, peel=False),
        512: _Tile(64, 16, 8, 2, peel=False),
    },
    "key_gradient": {
        128: _Tile(64, 64, 8, 2),
        256: _Tile(16, 64, 8, 2),
        512: _Tile(16, 32, 8, 2, tall=False),
    },
}
# Devices with 99 KB of shared memory for a block.
_BY_POINTERS_SMALL: _Tiles = {
    "forward": _BY_POINTERS["forward"],
    "query_gradient": {
        128: _Tile(64, 64, 8, 2, peel=False),
        512: _Tile(32, 16, 8, 2, peel=False),
    },
    "key_gradient": {
        128: _Tile(64, 64, 8, 2),
        256: _Tile(16, 64, 8, 2),
        512: _Tile(16, 16, 8, 2, tall=False),
    },
}
# Devices that have descriptors, for layouts that these cannot hold.
_BY_ODD_POINTERS: _Tiles = {
    "forward": {
        127: _Tile(64, 32, 4, 2, peel=False),
        128: _Tile(64, 64, 4, 2, peel=False),
        256: _Tile(64, 32, 8, 2, peel=False),
        512: _Tile(64, 16, 8, 2, peel=False),
    },
    "query_gradient": {
        128: _Tile(64, 64, 8, 2, peel=False, hoist=False),
        512: _Tile(32, 16, 8, 2, peel=False),
    },
    "key_gradient": {
        128: _Tile(64, 64, 8, 2, hoist=False),
        256: _Tile(16, 64, 8, 2),
        512: _Tile(16, 16, 8, 2, tall=False),
    },
}
_IN_FP32: _Tiles = {
    "forward": {
        32: _Tile(64, 64, 8, 2, peel=False),
        128: _Tile(32, 16, 4, 2, peel=False),
    },
    "query_gradient": {
        32: _Tile(64, 64, 8, 2, peel=False),
        128: _Tile(32, 16, 4, 2, peel=False),
    },
    "key_gradient": {
        32: _Tile(64, 64, 8, 1),
        128: _Tile(16, 32, 4, 1),
    },
}


def stride_unit(*tensors: Tensor) -> int:
    """Elements that the strides between heads are whole multiples of: 16 bytes, or one."""
    return _unit(tensors[0].element_size() == 2, all(map(describable, tensors)))


def _unit(half_precision: bool, aligned: bool) -> int:
    return (8 if half_precision else 4) if aligned else 1


def pick(problem: Problem, capability: int) -> Config:
    """Choose the launch on a device of this compute capability (times ten)."""
    descriptors = problem.describable and problem.half_precision and 90 <= capability < 120
    if not problem.half_precision:
        tiles = _IN_FP32
    elif descriptors:
        tiles = _BY_DESCRIPTORS
    elif 90 <= capability < 120:
        tiles = _BY_ODD_POINTERS
    else:
        tiles = _BY_POINTERS if capability in (80, 87) else _BY_POINTERS_SMALL
    by_width = tiles[problem.kernel]
    tile = next(tile for width, tile in by_width.items() if problem.head_dim <= width)
    return Config(
        descriptors=descriptors,
        stride_unit=_unit(problem.half_precision, problem.describable),
        block_d=max(16, next_power_of_two(problem.head_dim)),
        **tile._asdict(),
    )


def candidates(problem: Problem, capability: int) -> tuple[Config, ...]:
    """Other launches for a measurement to choose from: one step from the default in each direction.

    Some of them spill registers or ask for more shared memory than there is; the measurement drops
    those that do not run, and the slow ones lose.
    """
    default = pick(problem, capability)
    found = [
        replace(default, num_warps=12 - default.num_warps),  # 4 for 8, 8 for 4
        replace(default, num_stages=default.num_stages + 1),
        replace(default, peel=not default.peel),
        replace(default, hoist=not default.hoist),
    ]
    if default.num_stages > 1:
        found.append(replace(default, num_stages=default.num_stages - 1))
    tokens = range(MIN_OWN_TOKENS, MAX_BLOCK_TOKENS + 1)
    found += [replace(default, block_q=n) for n in _around(default.block_q) if n in tokens]
    found += [replace(default, block_k=n) for n in _around(default.block_k) if n in tokens]
    return tuple(found)


def _around(size: int) -> tuple[int, int]:
    return size // 2, size * 2
