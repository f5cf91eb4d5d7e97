"""Cases of the ops: found in the registry, with the shapes of their `cases` modules."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

import opensora_fast.kernels
from opensora_fast.kernels.registry import OPS, use_backend
from opensora_fast.kernels.testing import cases_of, check_op, operator_arguments

from .case import OURS, Bind, Case, Outputs, Problem, Run, as_tuple, calling, wide_name, widened
from .eager import EAGER
from .rivals import BINDS, RIVALS

SUITE = "kernels"
BACKWARD = "_backward"
# What a few cores do in seconds. Larger cases are the released model's and want a GPU or --full.
_CPU_FLOPS, _CPU_BYTES = 5e11, 1e9
# Attention in fp64 holds all scores: this many fit.
_CPU_SCORES = 5e8
_WARM_UP_CASE = 0  # of CHECK: the one that is checked in all respects before the measurement


def kernel_cases(
    *,
    device: str,
    dtypes: Sequence[str],
    scales: Iterable[str],
    ops: Sequence[str] = (),
    directions: Sequence[str] = ("fwd",),
    backends: Sequence[str] = (),
) -> list[Case]:
    """Cases of every op, or of the named ones.

    Args:
        device: "cpu" or "cuda:n".
        dtypes: to measure in.
        scales: "smoke" takes each op's first CHECK case, "cpu" and "full" its BENCH cases.
        ops: names; default: all.
        directions: "fwd", "bwd".
        backends: of our own table, as contenders besides the one that is chosen.

    Returns:
        The cases, by op.

    Raises:
        ValueError: there is no such op.
    """
    forward = [name for name in OPS if not name.endswith(BACKWARD)]
    unknown = sorted(set(ops) - set(forward))
    if unknown:
        raise ValueError(f"there is no op {unknown[0]!r}; ops are {', '.join(forward)}")
    found: list[Case] = []
    for op in ops or forward:
        module = cases_of(op)
        smoke = "smoke" in scales
        for problem in module.CHECK[:1] if smoke else module.BENCH:
            scale = "smoke" if smoke else _scale(op, problem)
            for direction in directions:
                if direction == "bwd" and op + BACKWARD not in OPS:
                    continue
                found.extend(
                    Case(
                        suite=SUITE,
                        name=f"{op}/{problem.name}",
                        dtype=dtype,
                        device=device,
                        scale=scale,
                        contenders=contenders(op, direction, backends),
                        load=load,
                        parameters={"op": op, "problem": problem.name, "scale": scale},
                        direction=direction,
                    )
                    for dtype in dtypes
                )
    return found


def contenders(op: str, direction: str, backends: Sequence[str]) -> tuple[str, ...]:
    """Ours, other rows of our table, then peers, the baseline first."""
    ours = (OURS, *(f"{OURS}:{name}" for name in backends))
    if op not in EAGER:
        return (*ours, "reference")
    if direction == "bwd":
        return (*ours, "eager")
    return (*ours, "eager", "compile", *RIVALS.get(op, ()), *BINDS.get(op, ()))


def load(case: Case) -> Problem:
    """Build the problem of a case."""
    op_name = case.parameters["op"]
    module = cases_of(op_name)
    pool = module.CHECK if case.parameters["scale"] == "smoke" else module.BENCH
    problem = next(p for p in pool if p.name == case.parameters["problem"])
    backward = case.direction == "bwd"
    name = op_name + BACKWARD if backward else op_name
    op, dtype, device = OPS[name], case.torch_dtype, case.device
    if backward:
        inputs = functools.partial(operator_arguments, name, problem, device=device, dtype=dtype)
        ours: Callable[..., Outputs] = op
    else:
        inputs = functools.partial(module.make_inputs, problem, device, dtype)
        ours = getattr(opensora_fast.kernels, op_name)

    def oracle(*args: Any) -> Outputs:
        wide = [widened(arg, case.dtype) for arg in args]
        schema = wide if backward or op.prepare is None else op.prepare(*wide)
        exact: Outputs = op.reference(*schema)
        return exact

    def row(backend: str) -> Callable[..., Outputs]:
        def run(*args: Any) -> Outputs:
            with use_backend(backend):
                return ours(*args)

        return run

    make: dict[str, Callable[[], Bind]] = {
        OURS: calling(ours),
        "reference": calling(row("reference")),
    }
    for contender in case.contenders:
        if contender.startswith(f"{OURS}:"):
            make[contender] = calling(row(contender.partition(":")[2]))
    make |= _backward_peers(op_name, problem, case) if backward else _forward_peers(op_name)
    return Problem(
        inputs=lambda seed: tuple(inputs(seed=seed)),
        make=make,
        oracle=oracle,
        oracle_dtype=wide_name(case.dtype),
        flops=module.flops(problem, backward),
        bytes=module.bytes(problem, dtype.itemsize, backward),
        check=functools.partial(
            check_op, name, module.CHECK[_WARM_UP_CASE], device=device, dtype=dtype
        ),
    )


def _scale(op: str, problem: Any) -> str:
    """Whether a few cores can do it: "cpu" or "full"."""
    module = cases_of(op)
    scores = getattr(problem, "length", 0) * getattr(problem, "num_heads", 0)
    fits = (
        module.flops(problem) <= _CPU_FLOPS
        and module.bytes(problem, 4) <= _CPU_BYTES
        and (op != "attention" or scores * problem.length * problem.batch <= _CPU_SCORES)
    )
    return "cpu" if fits else "full"


def _forward_peers(op: str) -> dict[str, Callable[[], Bind]]:
    peers: dict[str, Callable[[], Bind]] = {}
    if op in EAGER:
        eager = EAGER[op]
        peers["eager"] = calling(eager)
        peers["compile"] = lambda: calling(torch.compile(eager, dynamic=False))()
    for name, function in RIVALS.get(op, {}).items():
        peers[name] = calling(function)
    for name, bind in BINDS.get(op, {}).items():
        peers[name] = functools.partial(lambda bound: bound, bind)
    return peers


def _backward_peers(op: str, problem: Any, case: Case) -> dict[str, Callable[[], Bind]]:
    """Autograd through plain torch, on the inputs that led to the backward op's arguments."""
    if op not in EAGER:
        return {}
    module = cases_of(op)
    num_gradients = len(OPS[op + BACKWARD].overload._schema.returns)

    def bind(*_: Any) -> Run:
        args = list(module.make_inputs(problem, case.device, case.torch_dtype, _SEED))
        # An op whose first gradient is the incoming one does not compute it.
        wanted = [i for i in module.DIFFERENTIABLE if args[i] is not None][-num_gradients:]
        for i in wanted:
            args[i] = args[i].requires_grad_()
        with torch.enable_grad():
            outputs = as_tuple(EAGER[op](*args))
        # As `operator_arguments` draws them.
        generator = torch.Generator(case.device).manual_seed(_SEED + 1)
        grads = [
            torch.randn(out.shape, generator=generator, device=out.device).to(out.dtype)
            for out in outputs
        ]
        leaves = [args[i] for i in wanted]
        return lambda: torch.autograd.grad(outputs, leaves, grads, retain_graph=True)

    return {"eager": lambda: bind}


_SEED = 0
