"""Properties of group_norm_silu_conv3d: slabs of rows with the moments of their whole."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels import group_norm_silu_conv3d
from opensora_fast.kernels.agreement import noise
from opensora_fast.kernels.moments import MomentsOfParts, channel_moments
from opensora_fast.kernels.registry import BackendError, use_backend


@pytest.mark.parametrize("backend", ["reference", "torch", "cpu", "triton"])
def test_slabs_of_rows_are_the_whole(backend: str) -> None:
    x = noise(2, 8, 3, 7, 5).contiguous(memory_format=torch.channels_last_3d)
    x = x + torch.arange(7.0)[:, None]  # no slab has the moments of the whole
    gain, shift = 1 + noise(8, seed=1) / 5, noise(8, seed=2) / 5
    weight, residual = noise(9, 8, 3, 3, 3, seed=3) / 15, noise(2, 9, 3, 7, 5, seed=4)
    moments = channel_moments(x)
    whole = group_norm_silu_conv3d(x, gain, shift, 4, weight, None, residual, moments=moments)
    around = torch.cat([x[:, :, :, :1], x, x[:, :, :, -1:]], dim=3)
    gathered = MomentsOfParts()
    for first, last in ((0, 3), (3, 4), (4, 7)):
        try:
            with use_backend(backend):
                slab, of_slab = group_norm_silu_conv3d(
                    around[:, :, :, first : last + 2],
                    gain,
                    shift,
                    4,
                    weight,
                    None,
                    residual[:, :, :, first:last],
                    moments=moments,
                    gather_moments=True,
                    pad_rows=False,
                )
        except BackendError as error:
            pytest.skip(str(error))
        torch.testing.assert_close(slab, whole[:, :, :, first:last], rtol=1e-4, atol=1e-5)
        gathered.add(of_slab, slab)
    torch.testing.assert_close(gathered.merged(), channel_moments(whole), rtol=1e-5, atol=1e-6)


def test_moments_of_parts_keep_small_variances_beside_large_means() -> None:
    x = (1000 + noise(2, 3, 2, 6, 5)).double()
    parts = MomentsOfParts()
    for part in x.split([1, 4, 1], dim=3):
        parts.add(channel_moments(part.float()), part)
    # A difference of squares, of a million each, would be off by several hundredths.
    torch.testing.assert_close(parts.merged().double(), channel_moments(x), rtol=1e-4, atol=1e-4)


def test_a_slab_needs_the_rows_of_the_kernel_and_no_autocast() -> None:
    x, gain, weight = torch.zeros(1, 4, 1, 2, 3), torch.zeros(4), torch.zeros(2, 4, 1, 3, 3)
    with pytest.raises(ValueError, match="a slab of 2 rows is too small for a kernel of"):
        group_norm_silu_conv3d(x, gain, gain, 2, weight, pad_rows=False)
    x = torch.zeros(1, 4, 1, 3, 3)
    moments = channel_moments(x)
    with torch.autocast("cpu"), pytest.raises(ValueError, match="autocast would round the moments"):
        group_norm_silu_conv3d(x, gain, gain, 2, weight, moments=moments, pad_rows=False)
