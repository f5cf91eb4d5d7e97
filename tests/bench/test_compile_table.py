"""The table of compiled kernels, with one op for one architecture; the rest is text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")

from opensora_fast.bench.__main__ import main
from opensora_fast.bench.compile_table import (
    CudaKernel,
    read_instructions,
    read_resources,
    short_name,
    table,
)
from opensora_fast.kernels.common.compile import compile_launch
from opensora_fast.kernels.common.inspection import Inspection

RESOURCES = """
Resource usage:
 Common:
  GLOBAL:0
 Function _ZN3osf5applyIfEEv:
  REG:40 STACK:0 SHARED:1024 LOCAL:0 CONSTANT[0]:556 TEXTURE:0 SURFACE:0 SAMPLER:0
 Function _ZN3osf4sumsEv:
  REG:255 STACK:16 SHARED:0 LOCAL:0 CONSTANT[0]:556 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
CODE = """
\t\tFunction : _ZN3osf5applyIfEEv
        /*0100*/ LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0110*/ HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8], R24 ;
        /*0120*/ HGMMA.64x128x16.F32.BF16 R24, gdesc[UR8], R24 ;
\t\tFunction : _ZN3osf4sumsEv
        /*0100*/ LDG.E.64 R4, desc[UR4][R2.64] ;
"""


def test_what_cuobjdump_prints_is_understood() -> None:
    assert read_resources(RESOURCES) == {
        "_ZN3osf5applyIfEEv": (40, 0, 1024),
        "_ZN3osf4sumsEv": (255, 16, 0),
    }
    counts = read_instructions(CODE)
    assert counts["_ZN3osf5applyIfEEv"] == {"wgmma": 2, "16-byte load": 1}
    assert counts["_ZN3osf4sumsEv"] == {}


def test_names_are_those_of_the_source() -> None:
    long = "void osf::cuda::(anonymous namespace)::apply<float, (bool)1>(osf::Params<int (*)()>)"
    assert short_name(long) == "apply<float, 1>"


def test_the_table_has_a_line_per_launch_and_kernel() -> None:
    launch = Inspection(
        op="gelu", case="forward", kernel="forward_kernel", capability=90, num_warps=8,
        registers=64, stack_bytes=0, shared_bytes=98304, instructions={"wgmma": 4}, complaints=(),
    )  # fmt: skip
    native = CudaKernel(
        source="group_norm_silu.cu", kernel="apply<1>", architecture="90a", registers=40,
        stack_bytes=0, shared_bytes=0, instructions={},
    )  # fmt: skip
    text = table([launch], [native])
    assert "| forward | forward_kernel | 90 | 8 | 64 | 0 | 96.0 | wgmma 4 |" in text
    assert (
        "| apply<1> | 90a | 40 | 0 | 0 |  |" in text and "## csrc/cuda/group_norm_silu.cu" in text
    )


@pytest.mark.slow
@pytest.mark.skipif(bool(os.environ.get("TRITON_INTERPRET")), reason="interpreted, not compiled")
def test_one_op_is_compiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.md"
    assert main(["compile-table", "common", "--no-cuda", "--out", str(path)]) == 0
    text = path.read_text()
    assert text.count("| sum_partials | sum_partials_kernel |") == 3
    assert main(["compile-table", "nothing"]) == 2
    assert "has no launches; those that have are attention" in capsys.readouterr().err


@pytest.mark.skipif(bool(os.environ.get("TRITON_INTERPRET")), reason="interpreted, not compiled")
def test_the_level_2_reader_compiles_to_wide_loads_past_the_level_1_cache() -> None:
    import torch

    from opensora_fast.bench import _triton

    source = torch.empty(40 * _triton.CHUNK_BYTES // 4, device="meta")
    launch = _triton.plan_read(source, torch.empty(40, device="meta"), 8)
    assert launch.grid == (40,)
    for capability in (80, 90, 100):
        resources = compile_launch(launch, capability)
        assert resources.complaints() == [] and "ld.global.cg.v4" in resources.ptx
