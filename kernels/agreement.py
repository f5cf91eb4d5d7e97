"""Does a backend agree with the reference on inputs of one's own, outputs and gradients?

`testing.check_op` asks it of an op's cases; this asks it of anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .contract import wide
from .registry import use_backend


def noise(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    """Standard normal numbers on the CPU, the same in every dtype up to rounding."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def outputs_and_gradients(
    op: Callable[..., Tensor | tuple[Tensor, ...]],
    backend: str,
    inputs: Sequence[Tensor],
    rest: Sequence[object] = (),
    num_differentiable: int | None = None,
) -> list[Tensor]:
    """Run an op on one backend, forwards and backwards.

    Args:
        op: public function; takes the inputs, then the rest.
        backend: to force.
        inputs: tensors.
        rest: further arguments.
        num_differentiable: the first so many inputs get a gradient; all by default.

    Returns:
        Outputs, then gradients of the inputs for fixed gradients of the outputs.
    """
    inputs = [x.detach().clone(memory_format=torch.preserve_format) for x in inputs]
    wanted = inputs[:num_differentiable]
    for x in wanted:
        x.requires_grad_()
    with use_backend(backend):
        outputs = op(*inputs, *rest)
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        grads = [
            noise(*y.shape, dtype=y.dtype, seed=90 + i).to(y.device) for i, y in enumerate(outputs)
        ]
        found = torch.autograd.grad(outputs, wanted, grads) if wanted else ()
        return [*(y.detach() for y in outputs), *found]


def assert_agrees(
    op: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    rest: Sequence[object] = (),
    num_differentiable: int | None = None,
    backend: str = "triton",
) -> None:
    """Raise unless a backend's error is at most twice the reference's, a rounding and sums' order.

    Args:
        op: public function; takes the inputs, then the rest.
        inputs: tensors.
        rest: further arguments.
        num_differentiable: the first so many inputs get a gradient; all by default.
        backend: under test.

    Raises:
        AssertionError: names the worst element.
    """
    got = outputs_and_gradients(op, backend, inputs, rest, num_differentiable)
    naive = outputs_and_gradients(op, "reference", inputs, rest, num_differentiable)
    doubles = [x.double() if x.is_floating_point() else x for x in inputs]
    exact = outputs_and_gradients(op, "reference", doubles, rest, num_differentiable)
    for i, (a, b, c) in enumerate(zip(got, naive, exact, strict=True)):
        assert a.shape == b.shape and a.dtype == b.dtype and a.stride() == b.stride()
        if a.numel() == 0:
            continue
        # One rounding of the result, and sums taken in another order.
        unit = torch.finfo(a.dtype).eps + 4 * torch.finfo(wide(a.dtype)).eps
        floor = unit * max(1.0, float(c.abs().max()))
        bound = 2 * float((b.double() - c).abs().max()) + floor
        error = (a.double() - c).abs()
        worst = int(error.argmax())
        # Also catches NaN, which compares false.
        assert error.flatten()[worst] <= bound, (
            f"result {i} at {worst}: {a.flatten()[worst]}, exact {c.flatten()[worst]}"
        )
