"""Every Triton kernel compiles for every architecture we name: no spills, shared memory that fits.

Compilation needs no GPU. The launches are those that would be made for real shapes (each op's
compiled.py): the kernels and `pick` are tested together.
"""

from __future__ import annotations

import os

import pytest

pytest.importorskip("triton", reason="triton is not installed")
if os.environ.get("TRITON_INTERPRET"):
    pytest.skip("interpreted kernels do not compile", allow_module_level=True)

from opensora_fast.kernels.common.catalogue import CAPABILITIES, launches, ops_with_launches
from opensora_fast.kernels.common.compile import compile_launch
from opensora_fast.kernels.common.launch import Launch
from opensora_fast.kernels.layer_norm_modulate import compiled as layer_norm_modulate
from opensora_fast.kernels.registry import OPS


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("op", ops_with_launches())
def test_every_kernel_fits_the_device(op: str, capability: int) -> None:
    complaints = []
    for case in launches(op, capability):
        resources = compile_launch(case.launch, capability)
        complaints += [f"{case.name}: {sentence}" for sentence in resources.complaints()]
        complaints += [
            f"{case.name}: the PTX for sm_{capability} has no {instruction}"
            for instruction in case.promises
            if instruction not in resources.ptx
        ]
    assert not complaints, "\n".join(complaints)


def test_every_op_with_a_triton_row_says_what_it_launches() -> None:
    ops = {op.removesuffix("_backward") for op in OPS if _has_triton(op)}
    assert ops <= set(ops_with_launches())


def _has_triton(op: str) -> bool:
    return any(row.name == "triton" for row in OPS[op].backends)


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


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="compute capability 61 is unknown"):
        compile_launch(layer_norm_modulate.plan(64, False, 132), 61)
