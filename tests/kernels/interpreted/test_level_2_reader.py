"""The kernel behind the rate of the level-2 cache reads what it says: other chunks each time."""

from __future__ import annotations

import torch

from opensora_fast.bench import _triton


def test_every_program_walks_over_the_chunks_from_its_own() -> None:
    num_chunks, repeats = 9, 4
    chunk = _triton.CHUNK_BYTES // 4
    source = torch.arange(num_chunks).repeat_interleave(chunk).float()
    sums = torch.empty(num_chunks)
    _triton.plan_read(source, sums, repeats).run()
    walks = [[(p + 7 * r) % num_chunks for r in range(repeats)] for p in range(num_chunks)]
    assert sums.tolist() == [float(chunk * sum(walk)) for walk in walks]
