"""The Triton kernels of pixel_unshuffle_average3d and channel_duplicate_shuffle3d, interpreted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from opensora_fast.kernels import channel_duplicate_shuffle3d, pixel_unshuffle_average3d
from opensora_fast.kernels.agreement import assert_agrees, noise, outputs_and_gradients

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}
# Channels of the large and of the small video, and the scale.
FORMS = {
    "two-a-channel": (6, 12, (1, 2, 2)),
    "one-a-channel": (5, 5, (2, 1, 2)),
    "runs-of-channels": (24, 6, (1, 1, 1)),
    "runs-of-blocks": (20, 5, (1, 2, 2)),
    "all-pixels": (3, 24, (2, 2, 2)),
    "uneven": (4, 12, (3, 1, 5)),
    "no-box": (3, 2, (1, 2, 2)),
}


def large_and_small(
    form: str, layout: str, size: tuple[int, int, int] = (2, 2, 3)
) -> tuple[Tensor, Tensor, tuple[int, int, int]]:
    large, small, scale = FORMS[form]
    frames, height, width = (n * s for n, s in zip(size, scale, strict=True))
    x = noise(2, large, frames, height, width).contiguous(memory_format=LAYOUTS[layout])
    return x, noise(2, small, *size, seed=1).contiguous(memory_format=LAYOUTS[layout]), scale


@pytest.mark.parametrize(
    ("form", "layout"),
    # Contiguous, one kernel serves all forms.
    [(form, "channels_last") for form in FORMS]
    + [(form, "contiguous") for form in ("two-a-channel", "runs-of-channels", "uneven")],
)
def test_both_directions(form: str, layout: str) -> None:
    large, small, scale = large_and_small(form, layout)
    rest = (small.shape[1], scale)
    assert_agrees(lambda x, added: pixel_unshuffle_average3d(x, *rest, added), (large, small))
    rest = (large.shape[1], scale)
    assert_agrees(lambda x, added: channel_duplicate_shuffle3d(x, *rest, added), (small, large))


@pytest.mark.parametrize("form", ["two-a-channel", "runs-of-channels"])
def test_half_precision_and_nothing_added(form: str) -> None:
    large, small, scale = large_and_small(form, "channels_last", (1, 3, 5))
    assert_agrees(pixel_unshuffle_average3d, (large.half(),), (small.shape[1], scale))
    given = (small.half(),)
    (copies, _), (want, _) = (
        outputs_and_gradients(channel_duplicate_shuffle3d, backend, given, (large.shape[1], scale))
        for backend in ("triton", "reference")
    )
    assert torch.equal(copies, want)


@pytest.mark.parametrize("form", ["two-a-channel", "one-a-channel"])
def test_other_strides_and_dtypes(form: str) -> None:
    large, small, scale = large_and_small(form, "contiguous")
    added = small.half().transpose(3, 4).contiguous().transpose(3, 4)
    strided = torch.cat([large, large], dim=1)[:, ::2]
    rest = (small.shape[1], scale)
    assert_agrees(lambda x, a: pixel_unshuffle_average3d(x, *rest, a), (strided, added))


def test_several_tiles() -> None:
    """More than one tile of pixels and of channels: 2048 elements fit one."""
    x = noise(1, 3000, 1, 2, 4).contiguous(memory_format=torch.channels_last_3d)
    assert_agrees(pixel_unshuffle_average3d, (x,), (6000, (1, 2, 2)))
    x = noise(1, 96, 1, 2, 66).contiguous(memory_format=torch.channels_last_3d)
    assert_agrees(pixel_unshuffle_average3d, (x,), (96, (1, 2, 2)))
