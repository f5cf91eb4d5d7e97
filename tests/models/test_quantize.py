"""8-bit linear layers in the transformer: what is replaced, what it costs, what stays."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from opensora_fast.kernels.registry import OPS
from opensora_fast.kernels.testing import _Recorder
from opensora_fast.models import MMDiT, MMDiTConfig
from opensora_fast.models.mmdit import latent_position_ids, text_position_ids
from opensora_fast.models.mmdit.quantize import quantize_linears
from opensora_fast.models.mmdit.quantized import QuantizedLinear

CONFIG = MMDiTConfig(
    in_channels=8, vec_in_dim=6, context_in_dim=10, hidden_size=96, num_heads=3, depth=1,
    depth_single_blocks=2, axes_dim=(8, 12, 12), mlp_ratio=2.0,
)  # fmt: skip
FUSED = dataclasses.replace(CONFIG, fused_qkv=True)


def arguments(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator).to(dtype)

    return {
        "img": draw(24, 8),
        "img_ids": latent_position_ids(2, (2, 3, 4), patch_size=1),
        "txt": draw(5, 10),
        "txt_ids": text_position_ids(2, 5),
        "timesteps": torch.tensor([0.9, 0.2], dtype=dtype),
        "y_vec": draw(6),
        "cond": draw(24, 12),
    }


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact).norm() / exact.norm())


@pytest.mark.parametrize("config", [CONFIG, FUSED], ids=["separate", "fused"])
def test_the_large_layers_of_all_blocks_are_replaced_and_no_others(config) -> None:
    model = MMDiT(config)
    linears = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    before = sum(p.numel() * p.element_size() for p in model.parameters())
    report = quantize_linears(model)
    kept = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert report.format == "int8"
    assert set(report.replaced) == linears - kept
    assert all("_blocks." in name for name in report.replaced)
    assert {name for name in kept if "_blocks." in name} == {
        name for name in linears if name.endswith("mod.lin") or name.endswith("modulation.lin")
    }
    assert report.bytes_before == before and report.bytes_after < 0.65 * before
    assert "int8" in str(report) and str(len(report.replaced)) in str(report)


def test_the_released_model_becomes_two_thirds_in_memory() -> None:
    with torch.device("meta"):
        model = MMDiT().bfloat16()
    report = quantize_linears(model, "fp8")
    assert len(report.replaced) == 19 * 2 * 6 + 38 * 4
    assert report.bytes_before == 2 * 11_891_390_528
    assert 0.63 < report.bytes_after / report.bytes_before < 0.65


@pytest.mark.parametrize("config", [CONFIG, FUSED], ids=["separate", "fused"])
@pytest.mark.parametrize(("format", "bound"), [("int8", 0.02), ("fp8", 0.06)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@torch.no_grad()
def test_the_forward_stays_close(fill_randomly, config, format, bound, dtype) -> None:
    model = fill_randomly(MMDiT(config)).to(dtype)
    exact = model.float()(**{name: x.float() for name, x in arguments(dtype).items()})
    model.to(dtype)
    report = quantize_linears(model, format)
    found = model(**arguments(dtype))
    assert report.format == format and found.dtype == dtype
    assert 0 < error(found, exact) < bound


@torch.no_grad()
def test_blocks_quantise_what_several_layers_read_once(fill_randomly) -> None:
    model = fill_randomly(MMDiT(CONFIG))
    quantize_linears(model)
    calls: list[str] = []

    class Count(_Recorder):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None):
            calls.append(str(func))
            return func(*args, **(kwargs or {}))

    with Count("quantized_linear"):
        model(**arguments())
    count = {name: sum(name in call for call in calls) for name in OPS}
    # Two streams with two norms each, and two single blocks with one.
    assert count["layer_norm_modulate_quantized"] == 4 + 2
    assert count["quantized_linear"] == 2 * (4 + 2) + 2 * 4
    plain = "opensora_fast.layer_norm_modulate.default"
    assert sum(plain == call for call in calls) == 1  # of the final layer


@torch.no_grad()
def test_a_layer_is_its_original_up_to_rounding() -> None:
    linear = nn.Linear(64, 48)
    layer = QuantizedLinear(linear, "int8")
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    assert error(layer(x), linear(x)) < 0.02
    assert torch.equal(layer.bias, linear.bias)
    assert "64, 48, int8" in repr(layer)
    assert not list(layer.parameters())


def test_what_is_refused() -> None:
    model = MMDiT(CONFIG)
    with pytest.raises(ValueError, match="unknown format 'int4'"):
        quantize_linears(model, "int4")
    quantize_linears(model)
    with pytest.raises(ValueError, match="8-bit already"):
        quantize_linears(model)
    with pytest.raises(NotImplementedError, match="no gradient"):
        model(**arguments()).sum().backward()
