"""The Triton kernels, run on the CPU by Triton's interpreter, against the reference.

The interpreter is chosen by an environment variable when Triton is imported, so the checks run in a
child process, which collects this same file with TRITON_INTERPRET=1; a person can do the same.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="triton is not installed")

from opensora_fast.kernels import frame_causal_attention, layer_norm_modulate, qk_norm_rope
from opensora_fast.kernels.common.launch import multiprocessors
from opensora_fast.kernels.frame_causal_attention.launch import describable
from opensora_fast.kernels.layer_norm_modulate import launch
from opensora_fast.kernels.qk_norm_rope import launch as qk_launch
from opensora_fast.kernels.registry import OPS, explain, use_backend

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


BROKEN = _version(importlib.metadata.version("triton")) < (3, 7) and _version(
    numpy.__version__
) >= (2, 4)
pytestmark = pytest.mark.skipif(
    BROKEN, reason="the interpreter of Triton 3.6 cannot loop under NumPy 2.4 or later"
)

# bf16 is left to real hardware: the interpreter emulates it.
DTYPES = (torch.float32, torch.float16)


class TestHere:
    """What the parent process checks: the refusals, and the child's verdict."""

    __test__ = not INTERPRETED

    def test_all_checks_pass_in_the_interpreter(self) -> None:
        child = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", __file__],
            env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode == 0, child.stdout + child.stderr
        assert " passed" in child.stdout

    def test_a_cpu_tensor_is_refused_with_the_reason(self) -> None:
        x, shift = torch.zeros(1, 2, 4), torch.zeros(1, 4)
        verdicts = explain("layer_norm_modulate", x, shift, shift)
        row = next(v for v in verdicts if v.backend == "triton")
        assert row.reason is not None and "TRITON_INTERPRET" in row.reason
        assert row.verified is None

    def test_naming_the_backend_imports_no_triton(self) -> None:
        code = (
            "import sys, torch; from opensora_fast.kernels import layer_norm_modulate as f;"
            "from opensora_fast.kernels.registry import explain; x = torch.zeros(1, 2, 4);"
            "f(x, x[:, 0], x[:, 0]); explain('layer_norm_modulate', x, x[:, 0], x[:, 0]);"
            "sys.exit('opensora_fast.kernels.layer_norm_modulate._triton' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def noise(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def run(
    op: Callable[..., Tensor | tuple[Tensor, ...]],
    backend: str,
    inputs: Sequence[Tensor],
    rest: Sequence[object] = (),
    num_differentiable: int | None = None,
) -> list[Tensor]:
    """Outputs, then gradients of the inputs for fixed gradients of the outputs."""
    inputs = [x.detach().clone(memory_format=torch.preserve_format) for x in inputs]
    wanted = inputs[:num_differentiable]
    for x in wanted:
        x.requires_grad_()
    with use_backend(backend):
        outputs = op(*inputs, *rest)
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        grads = [noise(*y.shape, dtype=y.dtype, seed=90 + i) for i, y in enumerate(outputs)]
        found = torch.autograd.grad(outputs, wanted, grads) if wanted else ()
        return [*(y.detach() for y in outputs), *found]


def assert_agrees(
    op: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    rest: Sequence[object] = (),
    num_differentiable: int | None = None,
) -> None:
    """Triton's largest error is at most twice the reference's in that dtype, plus one rounding."""
    got = run(op, "triton", inputs, rest, num_differentiable)
    naive = run(op, "reference", inputs, rest, num_differentiable)
    exact = run(op, "reference", [x.double() for x in inputs], rest, num_differentiable)
    for i, (a, b, c) in enumerate(zip(got, naive, exact, strict=True)):
        assert a.shape == b.shape and a.dtype == b.dtype and a.is_contiguous()
        if a.numel() == 0:
            continue
        floor = torch.finfo(a.dtype).eps * max(1.0, float(c.abs().max()))
        bound = 2 * float((b.double() - c).abs().max()) + floor
        error = (a.double() - c).abs()
        worst = int(error.argmax())
        assert error.flatten()[worst] <= bound, (
            f"result {i} at {worst}: {a.flatten()[worst]}, exact {c.flatten()[worst]}"
        )


class TestInTheInterpreter:
    """What the child process checks."""

    __test__ = INTERPRETED

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize(
        ("batch", "length", "width"),
        [(2, 7, 48), (1, 37, 1), (3, 1, 130), (1, 5, 3072), (2, 33, 7), (0, 3, 8), (2, 0, 8)],
    )
    def test_layer_norm_modulate(
        self, batch: int, length: int, width: int, dtype: torch.dtype
    ) -> None:
        x = noise(batch, length, width, dtype=dtype, seed=0) + 3
        shift, scale = (noise(batch, width, dtype=dtype, seed=s) for s in (1, 2))
        assert_agrees(layer_norm_modulate, (x, shift, scale))

    def test_layer_norm_modulate_in_several_tiles_per_program(self) -> None:
        problem = launch.Problem(batch=1, length=301, width=130, backward=True)
        assert launch.pick(problem, multiprocessors(torch.device("cpu"))).tiles_per_program > 5
        x = noise(1, 301, 130, dtype=torch.float32, seed=0)
        assert_agrees(layer_norm_modulate, (x, x[:, 0], x[:, 1]))

    def test_layer_norm_modulate_reads_strided_inputs(self) -> None:
        x = noise(5, 48, 4, dtype=torch.float32, seed=0).permute(2, 0, 1)[::2]
        modulation = noise(2, 3, 48, dtype=torch.float32, seed=1)
        shift, scale = modulation[:, 0], modulation[:1, 2].expand(2, 48)
        assert_agrees(layer_norm_modulate, (x, shift, scale))

    def test_layer_norm_modulate_mixes_dtypes(self) -> None:
        x = noise(2, 5, 24, dtype=torch.float16, seed=0)
        shift, scale = (noise(2, 24, dtype=torch.float32, seed=s) for s in (1, 2))
        assert_agrees(layer_norm_modulate, (x, shift, scale))

    @pytest.mark.filterwarnings("ignore::RuntimeWarning")
    def test_rows_past_the_end_do_not_poison_the_sums(self) -> None:
        """eps = 0 makes 1 / deviation of an empty row infinite."""
        x = noise(1, 3, 8, dtype=torch.float32, seed=0)
        assert_agrees(layer_norm_modulate, (x, x[:, 0], x[:, 1]), (0.0,))

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("layout", ["half", "interleaved"])
    @pytest.mark.parametrize(
        ("batch", "length", "heads", "head_dim"),
        [(2, 7, 3, 16), (1, 5, 2, 6), (1, 2, 3, 250), (1, 1, 1, 2), (1, 0, 2, 4), (2, 150, 1, 10)],
    )
    def test_qk_norm_rope(
        self,
        batch: int,
        length: int,
        heads: int,
        head_dim: int,
        layout: str,
        dtype: torch.dtype,
    ) -> None:
        q, k = (noise(batch, length, heads, head_dim, dtype=dtype, seed=s) for s in (0, 1))
        weights = [noise(head_dim, dtype=dtype, seed=s) for s in (2, 3)]
        angle = noise(length, head_dim // 2, dtype=torch.float32, seed=4)
        inputs = (q, k, *weights, angle.cos(), angle.sin())
        assert_agrees(qk_norm_rope, inputs, (layout,), num_differentiable=4)

    @pytest.mark.parametrize("layout", ["half", "interleaved"])
    def test_qk_norm_rope_reads_strided_inputs_and_tables_per_sample(self, layout: str) -> None:
        fused = noise(2, 9, 3, 4, 12, dtype=torch.float32, seed=0)
        q = fused[:, :, 0].transpose(1, 2).contiguous().transpose(1, 2)
        k = fused[:, :, 1]
        weight = noise(24, dtype=torch.float32, seed=1)[::2]
        angle = noise(2, 6, 9, dtype=torch.float32, seed=2).transpose(1, 2)
        inputs = (q, k, weight, weight, angle.cos(), angle.sin())
        assert_agrees(qk_norm_rope, inputs, (layout,), num_differentiable=4)

    def test_qk_norm_rope_in_several_tiles_per_program(self) -> None:
        problem = qk_launch.Problem(batch=1, length=131, num_heads=3, head_dim=64, backward=True)
        config = qk_launch.pick(problem, multiprocessors(torch.device("cpu")))
        assert config.tiles_per_program > 2
        q, k = (noise(1, 131, 3, 64, dtype=torch.float32, seed=s) for s in (0, 1))
        weight = noise(64, dtype=torch.float32, seed=2)
        angle = noise(131, 32, dtype=torch.float32, seed=3)
        inputs = (q, k, weight, weight, angle.cos(), angle.sin())
        assert_agrees(qk_norm_rope, inputs, ("half",), num_differentiable=4)

    @pytest.mark.parametrize("layout", ["half", "interleaved"])
    def test_qk_norm_rope_reads_channels_that_are_not_dense(self, layout: str) -> None:
        q = noise(1, 5, 2, 32, dtype=torch.float32, seed=0)[..., ::2]
        k = noise(1, 16, 2, 5, dtype=torch.float32, seed=1).transpose(1, 3)
        weight = noise(16, dtype=torch.float32, seed=2)
        angle = noise(5, 8, dtype=torch.float32, seed=3)
        inputs = (q, k, weight, weight, angle.cos(), angle.sin())
        assert_agrees(qk_norm_rope, inputs, (layout,), num_differentiable=4)

    def test_qk_norm_rope_rounds_where_the_released_models_do(self) -> None:
        """A rounding less would be nearer the exact value, and differ from theirs in a quarter."""
        q = noise(1, 50, 2, 64, dtype=torch.float16, seed=0)
        weight = noise(64, dtype=torch.float16, seed=1)
        inputs = (q, q, weight, weight, torch.ones(50, 32), torch.zeros(50, 32))
        got, defined = (run(qk_norm_rope, b, inputs, (), 0)[0] for b in ("triton", "reference"))
        assert float((got != defined).double().mean()) < 0.01

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize(
        ("batch", "frames", "per_frame", "head_dim"),
        [(2, 3, 21, 64), (1, 1, 1, 8), (1, 2, 70, 24), (1, 4, 5, 7), (1, 1, 3, 1), (0, 1, 2, 8)],
    )
    def test_frame_causal_attention(
        self, batch: int, frames: int, per_frame: int, head_dim: int, dtype: torch.dtype
    ) -> None:
        q, k, v = (
            noise(batch, frames * per_frame, head_dim, dtype=dtype, seed=s) for s in range(3)
        )
        assert_agrees(frame_causal_attention, (q, k, v), (frames,), num_differentiable=0)

    def test_frame_causal_attention_reads_strided_inputs(self) -> None:
        fused = noise(2, 12, 3, 16, dtype=torch.float16, seed=0)
        q = noise(2, 16, 12, dtype=torch.float16, seed=1).transpose(1, 2)
        k, v = fused[:, :, 1], fused[:, :, 2]
        assert not describable(q) and describable(k)
        assert_agrees(frame_causal_attention, (q, k, v), (4,), num_differentiable=0)
        assert_agrees(frame_causal_attention, (k, k, v), (4,), num_differentiable=0)

    def test_frame_causal_attention_returns_the_log_sum_exp(self) -> None:
        q, k, v = (noise(1, 12, 8, dtype=torch.float32, seed=s) for s in range(3))
        results = []
        for backend in ("triton", "reference"):
            with use_backend(backend):
                results.append(OPS["frame_causal_attention"](q, k, v, 3)[1])
        torch.testing.assert_close(*results)

    def test_the_interpreter_runs_only_when_forced(self) -> None:
        x, shift = torch.zeros(1, 2, 4), torch.zeros(1, 4)
        assert explain("layer_norm_modulate", x, shift, shift).chosen != "triton"
        with use_backend("triton"):
            assert explain("layer_norm_modulate", x, shift, shift).chosen == "triton"

    def test_what_does_not_fit_is_refused(self) -> None:
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

    def test_equal_inputs_give_equal_bits(self) -> None:
        x = noise(1, 300, 8, dtype=torch.float32, seed=0)
        first, second = (run(layer_norm_modulate, "triton", (x, x[:, 0], x[:, 1])) for _ in "ab")
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
