"""What the Triton kernel of frame_causal_attention can run, and how it is launched."""

from __future__ import annotations
from dataclasses import dataclass
import torch
from ..common.launch import next_power_of_two


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    head_dim: int
    element_size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    block_d: int
    block_q: int
    block_n: int
    num_warps: int
    num_stages: int


def capability(device):
    return 90


def pick(problem, capability):
    return Config(
        block_d=max(16, next_power_of_two(problem.head_dim)),
        block_q=16,
        block_n=16,
        num_warps=4,
        num_stages=2,
    )
