"""Run every CUDA C++ row once on tiny inputs, for compute-sanitizer to watch.

    compute-sanitizer --tool memcheck --error-exitcode 1 python tests/gpu_sanitizer.py
    compute-sanitizer --tool racecheck --error-exitcode 1 python tests/gpu_sanitizer.py

Whether the values are right is for the tests: here only the sanitizer's verdict counts. Every row
is named with how often it ran, or why it never did on this device. Exit status: 0, rows ran; 1, one
failed; 2, nothing was checked, because there is no GPU or no extension with CUDA, or because no row
takes a call on this device.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

from opensora_fast import kernels
from opensora_fast.kernels import native
from opensora_fast.kernels.group_norm_silu import _cuda as group_norm_silu
from opensora_fast.kernels.registry import OPS, Backend, BackendError, Op
from opensora_fast.kernels.testing import LAYOUTS, cases_of, operator_arguments, row_for

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def cuda_rows() -> Iterator[tuple[Op, Backend]]:
    """Ops with a CUDA C++ row."""
    for name in kernels.__all__:
        for op in (OPS.get(name), OPS.get(f"{name}_backward")):
            for row in op.backends if op is not None else ():
                if row.name == "cuda":
                    yield op, row


def run_row(op: Op, row: Backend) -> tuple[int, str]:
    """Run a row on its op's small cases; how many it took, and why it refused the last other."""
    count, refusal = 0, ""
    for case in cases_of(op.name).CHECK:
        for dtype in DTYPES:
            for layout in LAYOUTS[:2]:
                args = operator_arguments(op.name, case, device="cuda", dtype=dtype, layout=layout)
                try:
                    row_for(op, "cuda", args)
                except BackendError:
                    refusal = row.reason("cuda", args) or refusal
                    continue
                row.run(*args)
                torch.cuda.synchronize()
                count += 1
    return count, refusal


def run_border() -> int:
    """Run what no row shows: the group norm that writes a border, for convolutions."""
    shapes = ((1, 64, 2, 3, 5), (2, 6, 1, 1, 1))
    for shape in shapes:
        x = torch.randn(shape, device="cuda").contiguous(memory_format=torch.channels_last_3d)
        weight, bias = torch.ones(shape[1], device="cuda"), torch.zeros(shape[1], device="cuda")
        group_norm_silu.forward_with_border(x, weight, bias, 2, 1e-6, True)
        torch.cuda.synchronize()
    return len(shapes)


def main() -> int:
    """Run all rows; say of each how often it ran."""
    why = None if torch.cuda.is_available() else "torch sees no CUDA device"
    why = why or native.why_no_cuda()
    if why is not None:
        print(f"gpu_sanitizer: nothing was checked: {why}", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    results = {op.name: run_row(op, row) for op, row in cuda_rows()}
    results["group_norm_silu with border"] = (run_border(), "")
    for name, (count, refusal) in results.items():
        print(f"{name}: " + (f"{count} calls" if count else f"not checked: {refusal}"))
    if not any(count for count, _ in results.values()):
        print("gpu_sanitizer: nothing was checked: no row takes a call here", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
