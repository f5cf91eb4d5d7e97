"""The native extension through Python: instruction sets, errors, equality with the definition."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.kernels import native
from opensora_fast.kernels.group_norm_silu import _cpu, reference

if native.why_no_cpu() is not None:
    pytest.skip(str(native.why_no_cpu()), allow_module_level=True)

from opensora_fast import _C

ISAS = _C.cpu_isas()


def test_the_best_instruction_set_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENSORA_FAST_CPU_ISA", raising=False)
    assert ISAS[0] == "scalar"
    assert _C.cpu_isa() == ISAS[-1]


def test_an_unknown_instruction_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENSORA_FAST_CPU_ISA", "sse9")
    with pytest.raises(ValueError, match="OPENSORA_FAST_CPU_ISA=sse9: not one of scalar, avx2"):
        _C.cpu_isa()


def test_codes_of_dtypes_agree_with_the_binary() -> None:
    codes = {torch.float32: _C.FLOAT32, torch.bfloat16: _C.BFLOAT16, torch.float16: _C.FLOAT16}
    assert codes == native.DTYPE_CODES


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d], ids=str)
@pytest.mark.parametrize("channels", [6, 40])
def test_every_instruction_set_equals_the_definition(
    isa: str, layout: torch.memory_format, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENSORA_FAST_CPU_ISA", isa)
    assert _C.cpu_isa() == isa
    torch.manual_seed(3)
    x = (torch.randn(2, channels, 3, 5, 7) + 4).contiguous(memory_format=layout)
    weight, bias = torch.randn(channels), torch.randn(channels)
    arguments = (x, weight, bias, 2, 1e-6, True)
    got = _cpu.forward(*arguments)
    exact = reference.forward(x.double(), weight.double(), bias.double(), *arguments[3:])
    for name, value, want in zip(("y", "mean", "rstd"), got, exact, strict=True):
        torch.testing.assert_close(value.double(), want, rtol=1e-6, atol=2e-6, msg=name)

    grad = torch.randn_like(x)
    gradients = _cpu.backward(grad, x, weight, bias, *got[1:], *arguments[3:])
    wanted = reference.backward(
        grad.double(), x.double(), weight.double(), bias.double(), *exact[1:], *arguments[3:]
    )
    for name, value, want in zip(("x", "weight", "bias"), gradients, wanted, strict=True):
        torch.testing.assert_close(value.double(), want, rtol=3e-6, atol=3e-5, msg=name)


def test_a_call_the_kernel_does_not_take_has_a_reason() -> None:
    x, weight = torch.ones(1, 4, 2), torch.ones(4)
    assert _cpu.why_not(x, weight, weight, 2, 1e-6, True) is None
    assert "float64" in str(_cpu.why_not(x.double(), weight, weight, 2, 1e-6, True))
    assert "float16" in str(_cpu.why_not(x, weight.half(), weight, 2, 1e-6, True))
    assert "empty" in str(_cpu.why_not(x[:0], weight, weight, 2, 1e-6, True))
