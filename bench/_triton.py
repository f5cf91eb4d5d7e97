"""Reading a buffer again and again out of the level-2 cache.

Every program walks over all chunks of the buffer, each starting at its own, past the level-1 cache:
at any moment the programs together read the whole buffer. Bytes: repeats times the buffer.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from opensora_fast.kernels.common.launch import Launch

BLOCK, TILES = 2048, 4
CHUNK_BYTES = 4 * BLOCK * TILES
_STRIDE = 7  # chunks from one repeat to the next: another multiprocessor read that one last


@triton.jit
def read_kernel(
    source_ptr, sum_ptr, repeats, num_chunks,
    STRIDE: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """sum[p] = sum of the chunks that program p has read."""
    pid = tl.program_id(0).to(tl.int64)
    offs = tl.arange(0, BLOCK)
    b_sum = tl.zeros([BLOCK], dtype=tl.float32)
    chunk = pid
    for _ in range(repeats):
        base = source_ptr + chunk * (BLOCK * TILES)
        for tile in tl.static_range(TILES):
            b_sum += tl.load(base + tile * BLOCK + offs, cache_modifier=".cg")
        chunk += STRIDE
        chunk = tl.where(chunk >= num_chunks, chunk - num_chunks, chunk)
    tl.store(sum_ptr + pid, tl.sum(b_sum, axis=0))


def plan_read(source: torch.Tensor, sums: torch.Tensor, repeats: int) -> Launch:
    """Plan one launch of one program per chunk.

    source: fp32, a whole number of chunks (`CHUNK_BYTES`), more than a few; sums: fp32, one each.
    """
    num_chunks = source.numel() * 4 // CHUNK_BYTES
    return Launch(
        kernel=read_kernel,
        grid=(num_chunks,),
        arguments={
            "source_ptr": source,
            "sum_ptr": sums,
            "repeats": repeats,
            "num_chunks": num_chunks,
        },
        constants={"STRIDE": _STRIDE, "BLOCK": BLOCK, "TILES": TILES},
        num_warps=4,
    )
