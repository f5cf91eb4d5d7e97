"""When Triton's interpreter serves a call, and what the kernels refuse."""

from __future__ import annotations

import torch

from opensora_fast.kernels.registry import explain, use_backend


def test_the_interpreter_runs_only_when_forced() -> None:
    x, shift = torch.zeros(1, 2, 4), torch.zeros(1, 4)
    assert explain("layer_norm_modulate", x, shift, shift).chosen != "triton"
    with use_backend("triton"):
        assert explain("layer_norm_modulate", x, shift, shift).chosen == "triton"


def test_what_does_not_fit_is_refused() -> None:
    def reason(op: str, *args: object) -> str:
        with use_backend("triton"):
            row = next(v for v in explain(op, *args) if v.backend == "triton")
        assert row.reason is not None
        return row.reason

    wide = torch.zeros(1, 1, 8193)
    assert "8193 channels" in reason("layer_norm_modulate", wide, wide[0], wide[0])
    double = torch.zeros(1, 1, 8, dtype=torch.float64)
    assert "float64" in reason("layer_norm_modulate", double, double[0], double[0])
    q, table = torch.zeros(1, 1, 1, 258), torch.zeros(1, 129)
    weight = torch.ones(258)
    assert "258 channels" in reason("qk_norm_rope", q, q, weight, weight, table, table)
