"""Cases of the ops: found in the registry, with the shapes of their `cases` modules."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

import opensora_fast.kernels
from opensora_fast.kernels.registry import OPS, Op, use_backend
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
# Scores that the exact result of attention holds at once.
_MAX_SCORES = 2**28
_WARM_UP_CASE = 0  # of CHECK: the one that is checked in all respects before the measurement


# What cpu-smoke may cost; above it the first CHECK case serves.
_SMOKE_FLOPS = 1e11
# The argument whose gradient is the incoming one, so that the backward op does not return it.
_PASSED_ON = {
    "channel_duplicate_shuffle3d": 3,
    "concat_gelu": 0,
    "gate_residual": 0,
    "group_norm_silu_conv3d": 6,
    "pixel_unshuffle_average3d": 3,
    "rms_norm3d": 5,
}
# Videos among the arguments. Our models keep them in channels_last_3d, the original's do not, and
# each contender gets what it is used to.
_VIDEOS = ("x", "residual", "added", "qkv")
_SEED = 0


class _Ours:
    """A call of ours, and which row of the table serves it."""

    def __init__(self, op: Op, run: Callable[..., Outputs], *args: Any) -> None:
        self._run, self._args = run, args
        self.facts = {"backend": op.explain(*args).chosen}

    def __call__(self) -> Outputs:
        return self._run(*self._args)


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
    # What is public, not what a test may have registered besides.
    forward = list(opensora_fast.kernels.__all__)
    unknown = sorted(set(ops) - set(forward))
    if unknown:
        raise ValueError(f"there is no op {unknown[0]!r}; ops are {', '.join(forward)}")
    found: list[Case] = []
    for op in ops or forward:
        module = cases_of(op)
        smoke = "smoke" in scales
        for problem in module.CHECK[:1] if smoke else module.BENCH:
            scale = "smoke" if smoke else scale_of(op, problem)
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
    layouts = ("eager-channels-last",) if _has_videos(op) else ()
    return (*ours, "eager", *layouts, "compile", *RIVALS.get(op, ()), *BINDS.get(op, ()))


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
        inputs = functools.partial(
            operator_arguments, name, problem, device=device, dtype=dtype, layout="channels_last"
        )
        ours: Callable[..., Outputs] = op
    else:
        inputs = functools.partial(_draw, op_name, problem, device, dtype)
        ours = getattr(opensora_fast.kernels, op_name)

    def oracle(*args: Any) -> Outputs:
        wide = [widened(arg, case.dtype) for arg in args]
        if name == "attention":
            return exact_attention(*wide)
        schema = wide if backward or op.prepare is None else op.prepare(*wide)
        exact: Outputs = op.reference(*schema)
        return exact

    def row(backend: str) -> Callable[..., Outputs]:
        def run(*args: Any) -> Outputs:
            with use_backend(backend):
                return ours(*args)

        return run

    make: dict[str, Callable[[], Bind]] = {
        OURS: lambda: functools.partial(_Ours, op, ours),
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


def exact_attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The reference, head by head and some queries at a time: all scores at once fit nowhere.

    Args:
        q: [B, L, N, D].
        k: likewise.
        v: likewise.

    Returns:
        Output [B, L, N, D] and log sum exp [B, N, L].
    """
    reference = OPS["attention"].reference
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    lse = q.new_empty((q.shape[0], q.shape[2], q.shape[1]))
    step = max(1, _MAX_SCORES // (q.shape[0] * k.shape[1]))
    for head in range(q.shape[2]):
        one = slice(head, head + 1)
        for start in range(0, q.shape[1], step):
            some = slice(start, start + step)
            found = reference(q[:, some, one], k[:, :, one], v[:, :, one])
            out[:, some, one], lse[:, one, some] = found
    return out, lse


def smallest_cases(device: str, dtypes: Sequence[str]) -> list[Case]:
    """One case of each op that takes about a second: of BENCH, or of CHECK if there is none."""
    options = kernel_cases(device=device, dtypes=dtypes, scales=("cpu",))
    tiny = kernel_cases(device=device, dtypes=dtypes, scales=("smoke",))
    chosen = []
    for fallback in tiny:
        module = cases_of(fallback.parameters["op"])
        costs = {problem.name: module.flops(problem) for problem in module.BENCH}
        same = [
            case
            for case in options
            if case.parameters["op"] == fallback.parameters["op"]
            and case.dtype == fallback.dtype
            and case.scale == "cpu"
            and costs[case.parameters["problem"]] <= _SMOKE_FLOPS
        ]
        cheapest = sorted(same, key=lambda case: int(costs[case.parameters["problem"]]))
        chosen.append(cheapest[0] if cheapest else fallback)
    return chosen


def scale_of(op: str, problem: Any) -> str:
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
    plain, last = torch.contiguous_format, torch.channels_last_3d
    peers = {name: _in_layout(op, plain, make) for name, make in peers.items()}
    if op in EAGER and _has_videos(op):
        peers["eager-channels-last"] = _in_layout(op, last, calling(EAGER[op]), weights=True)
    return peers


def _draw(op: str, problem: Any, device: str, dtype: torch.dtype, seed: int) -> tuple[Any, ...]:
    """Inputs as our models hold them: videos in channels_last_3d."""
    drawn = cases_of(op).make_inputs(problem, device, dtype, seed)
    return _laid_out(op, drawn, torch.channels_last_3d)


def _laid_out(
    op: str, args: Sequence[Any], layout: torch.memory_format, weights: bool = False
) -> tuple[Any, ...]:
    names = inspect.signature(getattr(opensora_fast.kernels, op)).parameters
    return tuple(
        arg.contiguous(memory_format=layout)
        if isinstance(arg, Tensor) and arg.dim() == 5 and (weights or name in _VIDEOS)
        else arg
        for name, arg in zip(names, args, strict=False)
    )


def _has_videos(op: str) -> bool:
    problem = cases_of(op).CHECK[0]
    drawn = cases_of(op).make_inputs(problem, "meta", torch.float32, _SEED)
    return any(isinstance(arg, Tensor) and arg.dim() == 5 for arg in drawn)


def _in_layout(
    op: str, layout: torch.memory_format, make: Callable[[], Bind], weights: bool = False
) -> Callable[[], Bind]:
    """The contender on tensors of another layout, converted before it is timed."""

    def build() -> Bind:
        bind = make()

        def bind_converted(*args: Any) -> Run:
            return bind(*_laid_out(op, args, layout, weights))

        return bind_converted

    return build


def _backward_peers(op: str, problem: Any, case: Case) -> dict[str, Callable[[], Bind]]:
    """Autograd through plain torch, on the inputs that led to the backward op's arguments."""
    if op not in EAGER:
        return {}
    module = cases_of(op)

    def bind(*_: Any) -> Run:
        args = list(module.make_inputs(problem, case.device, case.torch_dtype, _SEED))
        computed = [i for i in module.DIFFERENTIABLE if i != _PASSED_ON.get(op)]
        wanted = [i for i in computed if args[i] is not None]
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
