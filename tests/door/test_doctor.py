"""The doctor: a report for every op, and the reasons of this machine."""

from __future__ import annotations

import json

import pytest
import torch

from opensora_fast import doctor, kernels
from opensora_fast.kernels import native, verification
from opensora_fast.kernels.registry import OPS, Backend, Op, use_backend


def test_every_op_is_reported_with_what_would_run() -> None:
    report = doctor.examine()
    on_cpu = [op for op in report.ops if op.device == "cpu"]
    assert [op.name for op in on_cpu] == kernels.__all__
    for op in on_cpu:
        assert op.chosen in op.backends
        assert op.backends["reference"].startswith("usable")
        assert f"{op.name} on cpu" in str(report)
    assert json.loads(report.to_json())["facts"]["Software"]["torch"] == torch.__version__


def test_a_forced_backend_shows() -> None:
    with use_backend("reference"):
        assert {op.chosen for op in doctor.examine().ops} == {"reference"}


def test_a_missing_extension_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "why_no_cpu", lambda: native.NO_EXTENSION)
    monkeypatch.setattr("shutil.which", lambda name: None)
    report = doctor.examine()
    assert native.NO_EXTENSION in str(report)
    assert any("install a C++17 compiler" in sentence for sentence in report.advice)


def test_an_extension_that_does_not_load_is_not_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str | None:
        raise ImportError("undefined symbol: osf")

    monkeypatch.setattr(native, "why_no_cpu", broken)
    report = doctor.examine()
    assert "undefined symbol" in report.facts["CPU"]["native extension"]
    assert "undefined symbol" in str([op for op in report.ops if op.name == "group_norm_silu"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_report_says_why() -> None:
    facts = doctor.examine().facts["GPU"]
    assert "without CUDA" in facts["CUDA"] or "no device" in facts["CUDA"]
    assert list(facts) == ["CUDA", "CUDA C++ kernels", "Triton"]


def test_rows_that_a_gpu_has_not_seen_are_listed_and_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    op = OPS["layer_norm_modulate"]
    row = op.backends[0]
    known = {
        "fp32": verification.finding(op, row, "fp32", None, 7, 2.0),
        "fp16": verification.finding(op, row, "fp16", "3 of 4 elements are too far off", 1, 1.0),
        "bf16": None,
    }

    def verify(op: Op, row: Backend, dtype: str, device: torch.device) -> verification.Finding:
        return verification.finding(op, row, dtype, None, 7, 2.0)

    monkeypatch.setattr(verification, "unverified", lambda device: [(op, row)])
    monkeypatch.setattr(verification, "state", lambda op, row, device: dict(known))
    monkeypatch.setattr(verification, "verify", verify)
    monkeypatch.setattr(verification, "remember", lambda findings, device: None)
    assert doctor._checked("cpu") == {
        "layer_norm_modulate triton": "fp32 passed; "
        "fp16 FAILED: 3 of 4 elements are too far off; bf16 not checked yet"
    }
    said: list[str] = []
    assert doctor.verify("cpu", said.append)
    assert [line.partition(":")[0] for line in said] == [
        "layer_norm_modulate triton fp16",
        "layer_norm_modulate triton bf16",
    ]
