"""Every op, every backend, every case: the ten points of conformance.

Values, gradients, layouts, odd sizes, poisoned and guarded memory, determinism and unchanged inputs
are all in `check_op`; the rest of this file is what concerns an op as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor

from opensora_fast import kernels
from opensora_fast.kernels.common.availability import interpreted
from opensora_fast.kernels.registry import OPS, BackendError, Op, use_backend
from opensora_fast.kernels.testing import (
    LAYOUTS,
    cases_of,
    check_op,
    operator_arguments,
    relaid,
    row_for,
)

FORWARDS = sorted(name for name, op in OPS.items() if not op.is_backward)
TRAINED = [name for name in FORWARDS if cases_of(name).DIFFERENTIABLE]
DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))


LOSSY = ("sage",)  # multiplies in 8 bits and says so: held to no rounding error


def backends_of(op: Op) -> list[str]:
    """Names of an op's backends, each once."""
    return list(dict.fromkeys(row.name for row in op.backends if row.name not in LOSSY))


def combinations() -> Iterator[Any]:
    """Op, backend, case, dtype, layout: dtypes on all cases, layouts and fp16 on the first."""
    for name, op in sorted(OPS.items()):
        for backend in backends_of(op):
            for i, case in enumerate(cases_of(name).CHECK):
                choices = [(torch.float32, "contiguous"), (torch.bfloat16, "contiguous")]
                if i == 0:
                    choices += [(torch.float32, layout) for layout in LAYOUTS[1:]]
                    choices += [(torch.bfloat16, "channels_last"), (torch.float16, "contiguous")]
                for dtype, layout in choices:
                    ident = f"{name}-{backend}-{case.name}-{str(dtype)[6:]}-{layout}"
                    yield pytest.param(name, backend, case, dtype, layout, id=ident)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "backend", "case", "dtype", "layout"), list(combinations()))
def test_backend(
    name: str, backend: str, case: Any, dtype: torch.dtype, layout: str, device: str
) -> None:
    """Points 1, 2, 6-10: see check_op."""
    if backend == "triton" and device == "cpu" and dtype is torch.bfloat16 and interpreted():
        pytest.skip("Triton's interpreter does not round to bf16 as the hardware does")
    try:
        args = operator_arguments(name, case, device=device, dtype=dtype, layout=layout)
        row_for(OPS[name], backend, args)
    except BackendError as error:
        reasons = [line for line in str(error).splitlines() if line.startswith(f"  {backend}:")]
        pytest.skip(reasons[0].strip())
    check_op(name, case, backend=backend, device=device, dtype=dtype, layout=layout)


def double_inputs(name: str, case: Any) -> tuple[list[Any], list[Tensor]]:
    """Arguments of the public function in fp64, and those among them that get a gradient."""
    cases = cases_of(name)
    args = list(cases.make_inputs(case, "cpu", torch.float64, 3))
    for i in cases.DIFFERENTIABLE:
        if args[i] is not None:
            args[i].requires_grad_()
    return args, [args[i] for i in cases.DIFFERENTIABLE if args[i] is not None]


@pytest.mark.parametrize("name", TRAINED)
def test_reference_backward_is_the_gradient_of_the_reference(name: str) -> None:
    """Point 3: autograd through the reference's forward against the reference's backward."""
    op = OPS[name]
    for case in cases_of(name).CHECK:
        args, inputs = double_inputs(name, case)
        out = op.reference(*op.prepare(*args))
        with use_backend("reference"):
            ours = getattr(kernels, name)(*args)
        pairs = [
            (o, u)
            for o, u in zip(_tuple(out), _tuple(ours), strict=False)
            if u.requires_grad and o.numel()
        ]
        if not pairs:
            continue
        grads = [torch.randn_like(o) for o, _ in pairs]
        expected = torch.autograd.grad([o for o, _ in pairs], inputs, grads)
        actual = torch.autograd.grad([u for _, u in pairs], inputs, grads)
        for want, got in zip(expected, actual, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9, msg=f"{name} {case.name}")


@pytest.mark.parametrize("name", TRAINED)
def test_gradcheck(name: str) -> None:
    """Point 3: numerical gradients in fp64, for whatever backend would serve."""
    smallest = min(
        (case for case in cases_of(name).CHECK[:3]),
        key=lambda case: sum(x.numel() for x in double_inputs(name, case)[1]),
    )
    args, inputs = double_inputs(name, smallest)
    places = [i for i in cases_of(name).DIFFERENTIABLE if args[i] is not None]

    def function(*tensors: Tensor) -> Any:
        full = list(args)
        for place, tensor in zip(places, tensors, strict=True):
            full[place] = tensor
        return getattr(kernels, name)(*full)

    assert torch.autograd.gradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("name", sorted(OPS))
def test_opcheck(name: str) -> None:
    """Point 4: schema, autograd registration, fake tensors, AOT dispatch: what torch checks."""
    args = operator_arguments(name, cases_of(name).CHECK[0])
    if not OPS[name].is_backward:
        places = cases_of(name).DIFFERENTIABLE
        args = tuple(
            a.clone().requires_grad_() if i in places and isinstance(a, Tensor) else a
            for i, a in enumerate(args)
        )
    torch.library.opcheck(OPS[name].overload, args)


@pytest.mark.parametrize("name", FORWARDS)
def test_compiles_without_breaks_and_with_a_dynamic_size(name: str) -> None:
    """Point 5: one graph forwards and backwards; a changing batch recompiles at most twice."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    function = getattr(kernels, name)
    compiled = torch.compile(function, fullgraph=True, backend=counter)
    case = cases_of(name).CHECK[0]
    places = cases_of(name).DIFFERENTIABLE
    for batch in (2, 3, 5):
        args = list(cases_of(name).make_inputs(_with_batch(case, batch), "cpu", torch.float32, 1))
        for i in places:
            args[i].requires_grad_()
        inputs = [args[i] for i in places]
        results = []
        for run in (function, compiled):
            out = _tuple(run(*args))
            grads = torch.autograd.grad([o.square().sum() for o in out], inputs) if inputs else ()
            results.append((*out, *grads))
        for eager, graph in zip(*results, strict=True):
            torch.testing.assert_close(graph, eager, rtol=1e-5, atol=1e-5)
    assert counter.frame_count <= 2, f"compiled {counter.frame_count} times"


@pytest.mark.parametrize("name", FORWARDS)
def test_sizes_beyond_32_bits(name: str) -> None:
    """Point 7: on the meta device, with more than 2**31 elements, forwards and backwards."""
    cases = cases_of(name)
    args = list(cases.make_inputs(cases.HUGE, "meta", torch.bfloat16, 0))
    for i in cases.DIFFERENTIABLE:
        args[i].requires_grad_()
    out = _tuple(getattr(kernels, name)(*args))
    assert max(x.numel() for x in (*out, *(args[i] for i in cases.DIFFERENTIABLE))) > 2**31
    assert cases.flops(cases.HUGE, backward=True) >= cases.flops(cases.HUGE)
    assert cases.bytes(cases.HUGE) >= sum(o.numel() * o.element_size() for o in out)
    if cases.DIFFERENTIABLE:
        torch.autograd.backward(out, [torch.empty_like(o) for o in out])
    for i in cases.DIFFERENTIABLE:
        assert args[i].grad.shape == args[i].shape


@pytest.mark.parametrize("name", FORWARDS)
def test_meta_strides_match_for_every_layout(name: str) -> None:
    """The fake promises strides that every backend keeps, whatever the layout of the inputs."""
    case = cases_of(name).CHECK[0]
    for layout in LAYOUTS:
        args = [relaid(a, layout) for a in cases_of(name).make_inputs(case, "cpu", torch.float32)]
        real = _tuple(getattr(kernels, name)(*args))
        meta = _tuple(getattr(kernels, name)(*(_to_meta(a) for a in args)))
        assert [r.stride() for r in real] == [m.stride() for m in meta], layout


@pytest.mark.parametrize("name", TRAINED)
def test_second_derivatives_are_refused(name: str) -> None:
    """A gradient penalty gets a sentence, not a wrong number."""
    args, inputs = double_inputs(name, cases_of(name).CHECK[0])
    out = _tuple(getattr(kernels, name)(*args))
    penalty = sum((o * o).sum() for o in out)
    grads = torch.autograd.grad(penalty, inputs, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        torch.autograd.grad(sum(g.square().sum() for g in grads), inputs)


@pytest.mark.parametrize("name", sorted(set(FORWARDS) - set(TRAINED)))
def test_first_derivatives_of_what_serves_inference_are_refused(name: str) -> None:
    x, *rest = double_inputs(name, cases_of(name).CHECK[0])[0]
    out = _tuple(getattr(kernels, name)(x.requires_grad_(), *rest))
    with pytest.raises(NotImplementedError, match="no gradient"):
        sum(o.sum() for o in out if o.requires_grad).backward()


@pytest.mark.parametrize("name", [n for n in FORWARDS if "attention" in n or "conv" in n])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_casts_as_torch_does(name: str, dtype: torch.dtype) -> None:
    """Convolutions and attention run in autocast's dtype; gradients keep the parameters'."""
    args, inputs = double_inputs(name, cases_of(name).CHECK[0])
    args = [a.detach().float().requires_grad_() if isinstance(a, Tensor) else a for a in args]
    inputs = [a for a in args if isinstance(a, Tensor)]
    with torch.autocast("cpu", dtype=dtype):
        out = getattr(kernels, name)(*args)
    assert out.dtype == dtype
    expected = getattr(kernels, name)(*(a.to(dtype) if isinstance(a, Tensor) else a for a in args))
    assert torch.equal(out, expected)
    grads = torch.autograd.grad(out.sum(), inputs)
    assert {g.dtype for g in grads} == {torch.float32}


def _tuple(out: Any) -> tuple[Tensor, ...]:
    return out if isinstance(out, tuple) else (out,)


def _to_meta(arg: Any) -> Any:
    if not isinstance(arg, Tensor):
        return arg
    return torch.empty_strided(arg.shape, arg.stride(), dtype=arg.dtype, device="meta")


def _with_batch(case: Any, batch: int) -> Any:
    fields = {name: getattr(case, name) for name in case.__dataclass_fields__}
    return type(case)(**(fields | {"batch": batch}))
