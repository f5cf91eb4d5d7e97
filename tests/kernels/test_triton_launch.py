"""Launch choice and availability of the Triton kernels: pure functions, tested without a GPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora_fast.kernels.attention import launch as attention
from opensora_fast.kernels.common import availability
from opensora_fast.kernels.common.launch import Launch, next_power_of_two, share_tiles
from opensora_fast.kernels.concat_gelu import launch as concat_gelu
from opensora_fast.kernels.frame_causal_attention import launch as frame_causal_attention
from opensora_fast.kernels.gate_residual import launch as gate_residual
from opensora_fast.kernels.gelu import launch as gelu
from opensora_fast.kernels.layer_norm_modulate import launch as layer_norm_modulate
from opensora_fast.kernels.nearest_upsample3d import launch as nearest_upsample3d
from opensora_fast.kernels.qk_norm_rope import launch as qk_norm_rope
from opensora_fast.kernels.quantize_rows import launch as quantize_rows
from opensora_fast.kernels.quantized_linear import launch as quantized_linear
from opensora_fast.kernels.registry import use_backend

SIZES = st.one_of(st.integers(0, 70), st.integers(0, 2**33))


@given(tiles=SIZES, batch=st.integers(0, 9), programs=st.integers(1, 4000))
def test_programs_share_all_tiles_and_none_is_idle(tiles: int, batch: int, programs: int) -> None:
    for max_tiles in (None, 4):
        walk = share_tiles(tiles, batch, programs, max_tiles)
        assert walk.programs * walk.tiles >= tiles
        assert (walk.programs - 1) * walk.tiles < max(tiles, 1)
        assert max_tiles is None or walk.tiles <= max_tiles
    # Without a bound on the walk, at most one more program per batch item than asked for.
    assert share_tiles(tiles, batch, programs).programs * batch <= programs + batch


@given(n=st.integers(0, 2**40))
def test_next_power_of_two(n: int) -> None:
    power = next_power_of_two(n)
    assert power >= n and power & (power - 1) == 0 and (n <= 1 or power < 2 * n)


@given(
    length=SIZES,
    width=st.integers(1, layer_norm_modulate.MAX_WIDTH),
    backward=st.booleans(),
    num_sms=st.integers(1, 200),
)
def test_layer_norm_modulate_covers_every_row_with_a_tile_that_fits(
    length: int, width: int, backward: bool, num_sms: int
) -> None:
    problem = layer_norm_modulate.Problem(batch=2, length=length, width=width, backward=backward)
    config = layer_norm_modulate.pick(problem, num_sms)
    assert config.block_m >= width
    assert config.programs_per_item * config.tiles_per_program * config.block_l >= length
    assert config.block_l * config.block_m <= 16 * 32 * config.num_warps or config.num_warps == 1
    assert config.num_warps <= 16
    for other in layer_norm_modulate.candidates(problem, num_sms):
        assert other.block_m == config.block_m
        assert other.programs_per_item * other.tiles_per_program * other.block_l >= length


@given(
    length=SIZES,
    num_heads=st.integers(1, 64),
    half=st.integers(1, qk_norm_rope.MAX_HEAD_DIM // 2),
    backward=st.booleans(),
)
def test_qk_norm_rope_covers_every_row_with_a_tile_that_fits(
    length: int, num_heads: int, half: int, backward: bool
) -> None:
    problem = qk_norm_rope.Problem(
        batch=1, length=length, num_heads=num_heads, head_dim=2 * half, backward=backward
    )
    config = qk_norm_rope.pick(problem, 132)
    rows = config.programs_per_item * config.tiles_per_program * config.block_r
    assert rows >= length * num_heads
    assert config.block_half >= half
    assert config.block_r * config.block_half <= 1024


@given(length=SIZES, width=st.integers(0, 2**20), backward=st.booleans())
def test_gate_residual_covers_every_row_and_column(length: int, width: int, backward: bool) -> None:
    problem = gate_residual.Problem(batch=3, length=length, width=width, backward=backward)
    config = gate_residual.pick(problem, 132)
    assert config.programs_per_item * config.tiles_per_program * config.block_l >= length
    assert config.column_tiles * config.block_m >= width
    assert config.block_l * config.block_m <= 16 * 32 * config.num_warps or config.num_warps == 1


@given(rows=SIZES, width=SIZES, second=SIZES)
def test_gelu_covers_every_element(rows: int, width: int, second: int) -> None:
    config = gelu.pick(problem := gelu.Problem(rows=rows, width=width))
    covered = gelu.num_tiles(problem, config) * config.block_r * config.block_w
    assert covered >= rows * width
    assert config.block_r * config.block_w <= 2048
    both = concat_gelu.pick(concat_gelu.Problem(rows=rows, first=width, second=second))
    assert both.first_tiles * both.block_w >= width
    assert both.second_tiles * both.block_w >= second
    assert both.block_r * both.block_w <= 2048


@given(
    rows=SIZES,
    width=st.integers(1, 2**20),
    columns=st.integers(1, 5),
    channels_last=st.booleans(),
    backward=st.booleans(),
)
def test_nearest_upsample3d_covers_every_pixel(
    rows: int, width: int, columns: int, channels_last: bool, backward: bool
) -> None:
    problem = nearest_upsample3d.Problem(
        channels_last=channels_last, planes=3, rows=rows, width=width, scale=(2, 2, columns)
    )
    config = nearest_upsample3d.pick(problem, backward=backward)
    assert config.row_tiles * config.block_r >= rows
    repeats = 1 if channels_last or backward else columns
    assert config.column_tiles * config.block_w >= width * repeats
    assert config.block_r * config.block_w <= 2048


@given(rows=SIZES, width=st.integers(1, quantize_rows.MAX_WIDTH))
def test_quantize_rows_covers_every_row_with_a_tile_that_fits(rows: int, width: int) -> None:
    config = quantize_rows.pick(quantize_rows.Problem(rows=rows, width=width))
    assert config.block_w >= width
    assert config.row_tiles * config.block_r >= rows
    assert config.block_r * config.block_w <= 32 * 32 * config.num_warps or config.num_warps == 1
    assert config.num_warps <= 16


@given(
    rows=st.integers(1, 2**31 - 1),
    width_in=st.integers(1, 2**17),
    width_out=st.integers(1, 2**17),
    format=st.sampled_from(["int8", "fp8"]),
    describable=st.booleans(),
    capability=st.sampled_from([80, 89, 90, 100, 120]),
)
def test_quantized_linear_covers_every_output_with_tiles_that_fit(
    rows: int, width_in: int, width_out: int, format: str, describable: bool, capability: int
) -> None:
    problem = quantized_linear.Problem(
        rows=rows, width_in=width_in, width_out=width_out, format=format, describable=describable
    )
    config = quantized_linear.pick(problem, capability)
    covered = quantized_linear.num_tiles(problem, config) * config.block_m * config.block_n
    assert covered >= rows * width_out
    assert not config.descriptors or (describable and 90 <= capability < 120)
    # What is in flight must fit the smallest device of the kind.
    limit = 232448 if config.descriptors else 101376
    operands = (config.block_m + config.block_n) * config.block_k
    assert operands * config.num_stages <= limit
    # Sums within the tensor core are short where it adds with few bits.
    short = format == "fp8" and capability == 90 and config.num_warps == 8
    assert config.promote_k == (128 if short else 0)


@pytest.mark.parametrize(("capability", "descriptors"), [(80, False), (90, True), (120, False)])
def test_descriptors_are_for_devices_with_room_for_their_tiles(
    capability: int, descriptors: bool
) -> None:
    for kernel in attention.KERNELS:
        problem = attention.Problem(
            kernel=kernel, head_dim=512, half_precision=True, describable=True
        )
        assert attention.pick(problem, capability).descriptors == descriptors


@given(
    kernel=st.sampled_from(attention.KERNELS),
    head_dim=st.integers(1, 512),
    half_precision=st.booleans(),
    describable=st.booleans(),
    capability=st.sampled_from((80, 86, 89, 90, 100, 120)),
)
def test_tiles_of_attention_hold_a_head_and_are_counted_in_the_limits(
    kernel: attention.Kernel,
    head_dim: int,
    half_precision: bool,
    describable: bool,
    capability: int,
) -> None:
    if not half_precision:
        head_dim = min(head_dim, attention.MAX_FP32_HEAD_DIM)
    problem = attention.Problem(
        kernel=kernel, head_dim=head_dim, half_precision=half_precision, describable=describable
    )
    config = attention.pick(problem, capability)
    assert config.block_d >= head_dim
    for block in (config.block_q, config.block_k):
        assert 16 <= block <= attention.MAX_BLOCK_TOKENS
    own = config.block_k if kernel == "key_gradient" else config.block_q
    assert own >= attention.MIN_OWN_TOKENS
    assert half_precision or not config.descriptors


def test_what_descriptors_cannot_hold() -> None:
    x = torch.zeros(2, 6, 3, 16, dtype=torch.bfloat16)
    assert attention.describable(x)
    assert attention.describable(x.transpose(1, 2))
    assert not attention.describable(x.transpose(1, 3))
    assert not attention.describable(x[..., 1:9])
    assert not attention.describable(x[:, :1].expand(2, 6, 3, 16))
    assert not attention.describable(x[..., :15].contiguous())
    # The step of an axis of one element is never taken.
    assert attention.describable(torch.zeros(30, dtype=torch.bfloat16)[:16].reshape(1, 1, 1, 16))


def test_sizes_beyond_the_index_range_are_refused() -> None:
    def meta(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.bfloat16, device="meta")

    x = meta(1, 2**31, 8)
    assert "tokens" in (frame_causal_attention.why_not(x, x, x, 1) or "")
    x = meta(1, 512, 2**24).transpose(1, 2)
    assert "span 2^31 elements" in (frame_causal_attention.why_not(x, x, x, 1) or "")
    x = meta(1, 2, 1, 2**16, 2**15)
    assert "2^31" in (nearest_upsample3d.why_not(x, (1, 2, 2)) or "")
    x = meta(1, 64, 2**20, 64)
    assert "span 2^31 elements" in (attention.why_not(x, x, x) or "")
    x = meta(2**12, 2**20, 64, 16)
    assert "more programs than a grid holds" in (attention.why_not(x, x, x) or "")
    q, weight, table = meta(1, 2**26, 32, 8), meta(8), meta(2**26, 4)
    why = qk_norm_rope.why_not(q, q, weight, weight, table, table, "half", 1e-6)
    assert why is not None and "rows" in why


def test_formats_that_a_device_lacks_and_sums_that_overflow_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, scales = torch.zeros(2, 32), torch.zeros(4)
    monkeypatch.setattr(availability, "interpreted", lambda: True)
    monkeypatch.setattr(quantize_rows, "capability", lambda device: 86)
    with use_backend("triton"):
        why = quantize_rows.why_not(x, "fp8")
        assert why == "fp8 needs compute capability 8.9, this device has 8.6"
        assert quantize_rows.why_not(x, "int8") is None
        weight = torch.zeros(4, 32, dtype=torch.float8_e4m3fn)
        assert quantized_linear.why_not(x, None, weight, scales, None, None) == why
        weight = torch.zeros(4, 32, dtype=torch.int8)
        assert quantized_linear.why_not(x, None, weight, scales, None, None) is None
        assert "fp64" in str(
            quantized_linear.why_not(x, scales, weight, scales, None, torch.double)
        )
    wide = torch.zeros(1, 2**17, dtype=torch.int8, device="meta")
    why = quantized_linear.why_not(wide, scales, wide, scales, None, torch.bfloat16)
    assert why == "sums of 131072 int8 products may exceed 32 bits"
    assert "at most 16384 fit" in str(quantize_rows.why_not(torch.zeros(1, 16385), "int8"))


def test_a_machine_without_triton_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "triton_installed", lambda: False)
    monkeypatch.setattr(availability, "interpreted", lambda: True)
    with use_backend("triton"):
        assert availability.triton_why_not(torch.zeros(1)) == "triton is not installed"


def test_an_empty_grid_starts_nothing() -> None:
    Launch(kernel=None, grid=(0,), arguments={"x": torch.zeros(1)}).run()
