"""Properties of joint_qk_norm_rope."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels import joint_qk_norm_rope, qk_norm_rope
from opensora_fast.kernels.joint_qk_norm_rope.cases import Case, make_inputs

streams = st.builds(
    Case,
    name=st.just("drawn"),
    batch=st.integers(1, 3),
    text=st.integers(0, 4),
    image=st.integers(1, 5),
    num_heads=st.integers(1, 3),
    head_dim=st.sampled_from([2, 6, 16]),
    layout=st.sampled_from(["half", "interleaved"]),
    table_per_sample=st.booleans(),
)


@given(streams, st.integers(0, 2**16), st.sampled_from([torch.float32, torch.bfloat16]))
def test_it_is_two_calls_and_a_concatenation(case: Case, seed: int, dtype: torch.dtype) -> None:
    args = make_inputs(case, "cpu", dtype, seed)
    txt, img, cos, sin = args[:3], args[3:6], *args[10:12]
    cut = case.text
    parts = [
        (*qk_norm_rope(q, k, *scales, cos[..., s, :], sin[..., s, :], case.layout), v)
        for (q, k, v), scales, s in (
            (txt, args[6:8], slice(cut)),
            (img, args[8:10], slice(cut, None)),
        )
    ]
    for got, *want in zip(joint_qk_norm_rope(*args), *parts, strict=True):
        assert got.is_contiguous()
        assert torch.equal(got, torch.cat(want, dim=1))


def test_it_reads_parts_of_fused_projections() -> None:
    """As a block cuts them, for a batch: samples of the results do not follow each other."""
    args = make_inputs(Case(name="", batch=2, text=3, image=5, num_heads=2, head_dim=8), "cpu",
                       torch.float32)  # fmt: skip
    fused = [torch.stack(args[i : i + 3], dim=2) for i in (0, 3)]
    parts = [part for stream in fused for part in stream.unbind(2)]
    for got, want in zip(
        joint_qk_norm_rope(*parts, *args[6:]), joint_qk_norm_rope(*args), strict=True
    ):
        assert torch.equal(got, want)


@pytest.mark.parametrize(
    ("place", "value", "error", "message"),
    [
        (0, torch.ones(3, 2, 4), ValueError, r"txt_q must be \[B, L, N, D\]"),
        (1, torch.ones(1, 3, 2, 4), ValueError, r"text: k has shape \[1, 3, 2, 4\]"),
        (3, torch.ones(1, 5, 3, 4), ValueError, r"img_q has shape \[1, 5, 3, 4\]"),
        (4, torch.ones(1, 4, 2, 4), ValueError, r"image: k has shape \[1, 4, 2, 4\]"),
        (5, torch.ones(1, 4, 2, 4), ValueError, r"img_v has shape \[1, 4, 2, 4\]"),
        (5, torch.ones(1, 5, 2, 4).half(), TypeError, "img_v is torch.float16"),
        (9, torch.ones(3), ValueError, "image: k_scale has shape"),
        (10, torch.ones(5, 2), ValueError, r"cos has shape \[5, 2\], expected \[7, 2\]"),
        (11, torch.ones(7, 1), ValueError, r"sin has shape \[7, 1\]"),
        (12, "pairs", ValueError, "'pairs', accepted are half, interleaved"),
        (13, -1.0, ValueError, "eps must not be negative"),
    ],
)
def test_bad_input(place: int, value: Any, error: type[Exception], message: str) -> None:
    case = Case(name="", text=2, image=5, num_heads=2, head_dim=4)
    args = list(make_inputs(case, "cpu", torch.float32))
    args[place] = value
    with pytest.raises(error, match=message):
        joint_qk_norm_rope(*args)
