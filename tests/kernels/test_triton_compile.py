"""Every Triton kernel compiles for every architecture we name: no spills, shared memory that fits.

Compilation needs no GPU. The launches are those that would be made for real shapes (each op's
compiled.py): the kernels and `pick` are tested together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")
if os.environ.get("TRITON_INTERPRET"):
    pytest.skip("interpreted kernels do not compile", allow_module_level=True)

import triton

from opensora_fast import kernels
from opensora_fast.bench.compile_table import Recorded, read_table
from opensora_fast.kernels.causal_conv3d import compiled as causal_conv3d
from opensora_fast.kernels.common.catalogue import CAPABILITIES, launches, ops_with_launches
from opensora_fast.kernels.common.compile import compile_launch
from opensora_fast.kernels.common.inspection import (
    Inspection,
    count_instructions,
    inspect,
    inspect_all,
)
from opensora_fast.kernels.common.launch import Launch
from opensora_fast.kernels.common.sources import digest
from opensora_fast.kernels.layer_norm_modulate import compiled as layer_norm_modulate
from opensora_fast.kernels.registry import OPS

Inspections = Mapping[tuple[str, int], list[Inspection]]


TABLE = Path(__file__).parents[2] / "docs" / "compile_table.md"


def recorded(op: str) -> Recorded | None:
    """What the published table says of an op, if nothing has changed since it was made."""
    version, ops = read_table(TABLE.read_text(encoding="utf-8"))
    found = ops.get(op)
    unchanged = found is not None and found.sources == digest(op)
    return found if unchanged and version == triton.__version__ else None


@pytest.fixture(scope="module")
def inspections(request: pytest.FixtureRequest) -> Inspections:
    """What the tests that were selected will ask for, compiled on all cores."""
    chosen = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = [(c.params["op"], c.params["capability"]) for c in chosen if c and "op" in c.params
              and "capability" in c.params]  # fmt: skip
    changed = [(op, capability) for op, capability in wanted if recorded(op) is None]
    return {(op, capability): found for op, capability, found in inspect_all(changed)}


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("op", ops_with_launches())
def test_every_kernel_fits_the_device(op: str, capability: int, inspections: Inspections) -> None:
    cases = [one.name for one in launches(op, capability)]
    known = recorded(op)
    if known is not None:
        # The table was written from these very sources, by a run that saw no complaint.
        assert cases and {(case, capability) for case in cases} <= set(known.registers)
        return
    found = inspections[op, capability]
    assert [one.case for one in found] == cases
    complaints = [sentence for one in found for sentence in one.complaints]
    assert not complaints, "\n".join(complaints)


@pytest.mark.slow
@pytest.mark.parametrize("op", ops_with_launches())
def test_the_table_is_what_the_compiler_makes(op: str) -> None:
    """One launch of each op, so that a table that is believed is not believed blindly."""
    known = recorded(op)
    if known is None:
        pytest.skip("the sources have changed: all of them are compiled")
    case = next(launches(op, 90)).name
    found = inspect(op, case, 90)
    assert not found.complaints
    assert found.registers == known.registers[case, 90]


def test_instructions_are_counted_as_the_compiler_writes_them() -> None:
    ptx = """
        ld.global.L1::evict_last.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
        @%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
        ld.global.v2.b32 { %r1, %r2 }, [ %rd1 + 0 ];
        cp.async.bulk.tensor.2d.shared::cluster.global [ %r1 ], [ %rd2, { %r3, %r4 } ], [ %r5 ];
        cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10, %r2;
        mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 { %f1 }, { %r1 }, { %r2 }, { %f1 };
    """
    assert count_instructions(ptx) == {
        "mma": 1, "bulk copy": 1, "async copy": 1, "16-byte load": 2,
    }  # fmt: skip


def test_every_op_with_a_triton_row_says_what_it_launches() -> None:
    ops = {op for op in kernels.__all__ if _has_triton(op)}
    assert ops <= set(ops_with_launches())


def _has_triton(op: str) -> bool:
    tables = (OPS[name].backends for name in (op, f"{op}_backward") if name in OPS)
    return any(row.name == "triton" for table in tables for row in table)


def test_a_kernel_that_does_not_fit_is_reported() -> None:
    """The gate itself: two warps for the widest row cannot hold it in registers."""
    launch = layer_norm_modulate.plan(8192, True, 132)
    starved = Launch(
        kernel=launch.kernel,
        grid=launch.grid,
        arguments=launch.arguments,
        constants=launch.constants,
        num_warps=2,
    )
    resources = compile_launch(starved, 90)
    assert resources.stack_bytes > 0
    assert "registers are spilled" in resources.complaints()[0]


def test_a_convolution_is_compiled_once_for_videos_of_all_sizes() -> None:
    sizes = [(1, 1, 1), (16, 32, 48), (33, 95, 17)]
    launches = [
        causal_conv3d.plan_copy(replace(causal_conv3d.LAST, size=s), zeros=False) for s in sizes
    ]
    first, *others = (compile_launch(launch, 80).ptx for launch in launches)
    assert all(ptx == first for ptx in others)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="compute capability 61 is unknown"):
        compile_launch(layer_norm_modulate.plan(64, False, 132), 61)
