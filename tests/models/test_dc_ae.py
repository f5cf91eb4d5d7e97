"""Properties of the Video DC-AE beyond the golden cases."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opensora_fast.kernels.footprint import peak_bytes
from opensora_fast.models import VideoDCAE, VideoDCAEConfig
from opensora_fast.models.dc_ae.slabs import (
    Cut,
    decode_in_slabs,
    encode_in_slabs,
    extra_work,
    num_slab_stages,
)
from opensora_fast.models.frame_grid import FrameGrid

RES, EVIT = "ResBlock", "EViTS5_GLU"
CONFIG = VideoDCAEConfig(
    latent_channels=8,
    encoder_widths=(8, 16, 32),
    encoder_depths=(1, 2, 1),
    decoder_widths=(8, 16, 32),
    decoder_depths=(2, 1, 1),
    block_types=(RES, RES, EVIT),
    temporal_downsample=(False, True, False),
    spatial_tile_size=32,
    temporal_tile_size=8,
)


def video(frames: int, height: int = 32, width: int = 16, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randn(batch, 3, frames, height, width, generator=generator).clamp(-1, 1)


@pytest.fixture(scope="module")
def ae() -> VideoDCAE:
    torch.manual_seed(0)
    return VideoDCAE(CONFIG).eval()


@torch.no_grad()
@pytest.mark.parametrize(("frames", "latent", "decoded"), [(1, 1, 1), (2, 1, 1), (4, 2, 4)])
def test_frames_that_come_back(ae, frames, latent, decoded) -> None:
    z = ae.encode(video(frames))
    assert z.shape == (1, 8, latent, 8, 4)
    assert tuple(z.shape[2:]) == ae.latent_size(frames, 32, 16)
    assert ae.decode(z).shape == (1, 3, decoded, 32, 16)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (video(3), "3 frames cannot be halved 1 times: use 1 frame or a multiple of 2"),
        (video(2, 30), "30x16 pixels are no multiples of 4: use 28x16 or 32x16"),
        (torch.zeros(1, 4, 2, 4, 4), r"expected \[B, 3, T, H, W\]"),
    ],
)
def test_sizes_that_the_encoder_does_not_take(ae, x, message) -> None:
    with pytest.raises(ValueError, match=message):
        ae.encode(x)


def test_a_latent_of_other_channels(ae) -> None:
    with pytest.raises(ValueError, match=r"expected \[B, 8, t, h, w\]"):
        ae.decode(torch.zeros(1, 7, 1, 1, 1))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("block_types", (RES, RES, "Mamba"), "unknown block type 'Mamba'"),
        ("encoder_widths", (8, 16, 40), "40 in a stage of EViTS5_GLU"),
        ("decoder_widths", (8, 16, 96), "4 x 16 to be a multiple of 96"),
        ("latent_channels", 5, "ends with 32, no multiple of latent_channels 5"),
        ("encoder_depths", (1, 1), "encoder_depths has 2 stages, encoder_widths has 3"),
        ("temporal_downsample", (False, False, True), "no step behind the last stage"),
        ("spatial_tile_size", 30, "no multiples of 4 and 2"),
        ("scaling_factor", 0.0, "scaling_factor must be positive"),
    ],
)
def test_configurations_that_contradict_themselves(field, value, message) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **{field: value})


@torch.no_grad()
def test_the_latent_is_divided_by_the_scaling_factor(ae) -> None:
    scaled = VideoDCAE(dataclasses.replace(CONFIG, scaling_factor=0.5)).eval()
    scaled.load_state_dict(ae.state_dict())
    assert scaled.scale_factor == 2.0
    z = scaled.encode(video(4))
    assert torch.equal(z, ae.encode(video(4)) * 2)
    assert torch.equal(scaled.decode(z), ae.decode(z / 2))


@torch.no_grad()
def test_original_tiles_lose_the_frames_of_a_last_tile_of_one_latent_frame(ae) -> None:
    # Tiles of 4 latent frames begin every 3: the third would hold frame 6 alone, an image.
    z = torch.randn(1, 8, 7, 2, 2)
    assert ae.decode(z, tiling="original").shape[2] == 13
    assert ae.decode(z).shape[2] == 14
    with pytest.raises(ValueError, match="unknown tiling 'best', accepted are"):
        ae.decode(z, tiling="best")


@torch.no_grad()
@settings(deadline=None, max_examples=16, derandomize=True)
@given(
    st.integers(1, num_slab_stages(CONFIG)),
    st.integers(1, 40),
    st.integers(1, 9),
    st.sampled_from([1, 4]),
    st.integers(1, 2),
)
def test_slabs_of_any_height_change_nothing(stages, rows, quarter_rows, frames, batch) -> None:
    torch.manual_seed(0)
    model = VideoDCAE(CONFIG).eval()
    x = video(frames, 4 * quarter_rows, 8, batch)
    z = model.encode(x)
    cut = Cut(stages, rows)
    in_slabs = encode_in_slabs(model.encoder, CONFIG, x, cut)
    torch.testing.assert_close(in_slabs, z, rtol=1e-4, atol=1e-5)
    y = decode_in_slabs(model.decoder, CONFIG, z, cut)
    torch.testing.assert_close(y, model.decode(z), rtol=1e-4, atol=1e-5)


def test_higher_slabs_of_fewer_stages_are_less_work() -> None:
    config = VideoDCAEConfig()
    for task in ("encode", "decode"):
        work = [[extra_work(config, task, Cut(n, rows)) for rows in (4, 8, 64)] for n in (1, 2, 3)]
        assert all(row == sorted(row, reverse=True) for row in work)
        assert [row[0] for row in work] == sorted(row[0] for row in work)


@torch.no_grad()
def test_a_budget_is_kept_and_changes_nothing(ae) -> None:
    x = video(4, 128, 64, batch=2)
    with torch.device("meta"):
        twin = VideoDCAE(CONFIG)
    for task, given_tensor in (("encode", x), ("decode", ae.encode(x))):
        empty = torch.empty_like(given_tensor, device="meta")
        whole = peak_bytes(lambda task=task, empty=empty: getattr(twin, task)(empty))
        expected = getattr(ae, task)(given_tensor)
        for share in (1.0, 0.5, 0.25):
            budget = int(share * whole)
            found = getattr(ae, task)(given_tensor, memory_budget=budget)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            held = peak_bytes(
                lambda task=task, empty=empty, budget=budget: getattr(twin, task)(
                    empty, memory_budget=budget
                )
            )
            assert held <= budget
        with pytest.raises(ValueError, match="memory_budget is 1,000 bytes, the least that this"):
            getattr(ae, task)(given_tensor, memory_budget=1000)
        with pytest.raises(ValueError, match="either memory_budget or a tiling"):
            getattr(ae, task)(given_tensor, memory_budget=whole, tiling="original")


def test_training_reaches_every_parameter(ae) -> None:
    decoded, z = ae(video(4))
    (decoded.square().mean() + z.square().mean()).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in ae.parameters())
    assert ae.last_layer.shape == (3, 8, 3, 3, 3)


@torch.no_grad()
def test_samples_do_not_meet(ae) -> None:
    x = torch.cat([video(4), video(4).flip(3)])
    z = ae.encode(x)
    torch.testing.assert_close(ae.encode(x[1:]), z[1:])
    torch.testing.assert_close(ae.decode(z)[1:], ae.decode(z[1:]))


@pytest.mark.parametrize("grid", [FrameGrid(4, True), FrameGrid(4, False), FrameGrid(1, False)])
def test_frames_between_those_of_the_grid(grid) -> None:
    numbers = [n for n in range(1, 40) if n in grid]
    expected = {
        (4, True): [*range(1, 40, 4)],
        (4, False): [1, *range(8, 40, 4)],
        (1, False): [*range(1, 40)],
    }[grid.ratio, grid.causal]
    assert numbers == expected
    for n in range(1, 36):
        assert grid.at_most(n) == max(m for m in numbers if m <= n)
        assert grid.at_least(n) == min(m for m in numbers if m >= n)


def test_the_grid_is_that_of_the_model(ae) -> None:
    assert str(ae.frame_grid) == "1 or a multiple of 2 from 4 on"
    assert 4 in ae.frame_grid
    assert 2 not in ae.frame_grid
