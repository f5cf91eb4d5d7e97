"""Is a backend as accurate as the reference, and does it write all of its output and nothing else?

Called by the tests and, before every timing, by the benches.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .common.availability import interpreted
from .contract import wide
from .registry import NAMESPACE, OPS, Backend, Op, use_backend

LAYOUTS = ("contiguous", "channels_last", "sliced", "expanded")

_ACCUMULATION_ROUNDINGS = 8
# Statistics that a forward keeps for its backward: 16 bits of fp32.
_AUXILIARY_ROUNDINGS = 256
_KEEPS_STATISTICS = frozenset({"attention", "frame_causal_attention", "group_norm_silu"})
_GUARD_ELEMENTS = 64
_SENTINEL = 0x5A


def cases_of(name: str) -> ModuleType:
    """Return the cases module of an op (a backward op has its forward's)."""
    package = __name__.rpartition(".")[0]
    return importlib.import_module(f"{package}.{name.removesuffix('_backward')}.cases")


def assert_as_accurate(
    out: Tensor,
    exact: Tensor,
    naive: Tensor,
    *,
    roundings: int = 1,
    precision: torch.dtype | None = None,
    slack: float = 0.0,
    what: str = "output",
) -> None:
    """Raise unless every element of `out` is nearly as close to `exact` as `naive` is.

    The bound on element i is 2·max|naive - exact| plus a floor: `roundings` roundings to
    `precision` and eight to the accumulation dtype (sums may be taken in another order), both of
    exact[i] and of the mean magnitude, from which the errors of small elements come.

    Args:
        out: what a backend computed, in the dtype under test.
        exact: the reference in fp64, from the same rounded inputs.
        naive: the reference in the dtype under test.
        roundings: how often the op's contract lets a backend round.
        precision: what it may round to; by default the dtype of `out`.
        slack: absolute error allowed on top, for ill-conditioned problems.
        what: named in the message.

    Raises:
        AssertionError: shape, dtype or an element differ; names the worst element.
    """
    assert out.shape == exact.shape, f"{what}: shape {list(out.shape)} != {list(exact.shape)}"
    assert out.dtype == naive.dtype, f"{what}: dtype {out.dtype} != {naive.dtype}"
    if out.numel() == 0:
        return
    exact = exact.to(torch.float64)
    error = (out.to(torch.float64) - exact).abs()
    naive_error = float((naive.to(torch.float64) - exact).abs().max())
    unit = torch.finfo(precision or out.dtype).eps / 2
    accumulated = torch.finfo(wide(out.dtype)).eps / 2
    floor = roundings * unit + _ACCUMULATION_ROUNDINGS * accumulated
    bound = 2 * naive_error + floor * (exact.abs() + exact.abs().mean()) + slack
    # Also catches NaN, which compares false.
    wrong = ~(error <= bound)
    if not bool(wrong.any()):
        return
    excess = torch.where(error.isnan(), torch.inf, error - bound).flatten()
    worst = int(excess.argmax())
    index = [int(i) for i in torch.unravel_index(torch.tensor(worst), out.shape)]
    raise AssertionError(
        f"{what}: {int(wrong.sum())} of {out.numel()} elements are too far off; worst at {index}: "
        f"{float(out.flatten()[worst])} instead of {float(exact.flatten()[worst])} "
        f"(error {float(error.flatten()[worst]):.3g}, allowed {float(bound.flatten()[worst]):.3g}, "
        f"largest error of the reference {naive_error:.3g})"
    )


def relaid(x: Any, layout: str) -> Any:
    """Return `x` in another layout; the values are kept, but `expanded` repeats the first item.

    Raises:
        ValueError: unknown layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}, accepted are {', '.join(LAYOUTS)}")
    if not isinstance(x, Tensor) or layout == "contiguous":
        return x
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last_3d) if x.dim() == 5 else x
    if layout == "expanded":
        return x[:1].expand(x.shape) if x.shape[0] > 0 else x
    roomy = x.new_zeros(*x.shape[:-1], 2 * x.shape[-1] + 1)
    roomy[..., 1::2] = x
    return roomy[..., 1::2]


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Have libraries compute fp32 in fp32: cuDNN's convolutions take 10 bits by default."""
    library, product = torch.backends.cudnn, torch.backends.cuda.matmul
    before = library.allow_tf32, product.allow_tf32
    try:
        library.allow_tf32 = product.allow_tf32 = False
        yield
    finally:
        library.allow_tf32, product.allow_tf32 = before


@full_precision()
def check_op(
    name: str,
    case: Any,
    *,
    backend: str = "auto",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    layout: str = "contiguous",
    seed: int = 0,
    drawn_on: torch.device | str | None = None,
) -> None:
    """Check one backend of a forward or backward op on one case.

    Values against the reference in fp64; shapes, dtypes and strides against the fake; the same bits
    twice; every element written; nothing written outside; inputs unchanged.

    Args:
        name: of the op.
        case: one of its cases.
        backend: what to force; "auto" checks whatever would serve the call.
        device: where to run.
        dtype: of the inputs.
        layout: one of `LAYOUTS`, of the inputs.
        seed: of the inputs.
        drawn_on: where the inputs are made, before they go to `device`; by default there. What a
            backward op is given comes out of autograd, which runs a GPU's part on a thread of its
            own: with "cpu" nothing waits for that thread.

    Raises:
        AssertionError: a check failed.
        BackendError: the backend cannot serve the case.
    """
    op = OPS[name]
    place = device if drawn_on is None else drawn_on
    public = operator_arguments(name, case, device=place, dtype=dtype, layout=layout, seed=seed)
    public = tuple(a.to(device) if isinstance(a, Tensor) else a for a in public)
    row = row_for(op, backend, public)
    exact = _outputs(op.reference(*map(_widened, public)))
    naive = _outputs(op.reference(*public))
    before = [arg.clone() if isinstance(arg, Tensor) else arg for arg in public]
    with use_backend(backend), torch.no_grad():
        outputs = _outputs(op(*public))
        # Triton's interpreter takes one program after the other: the same again, at length.
        again = outputs if row.name == "triton" and interpreted() else _outputs(op(*public))
    fake = _outputs(op(*(a.to("meta") if isinstance(a, Tensor) else a for a in public)))
    title = f"{name}[{row.name}, {case.name}, {dtype}, {layout}]"
    slacks = getattr(case, "slack_of_outputs", [getattr(case, "slack", 0.0)] * len(outputs))
    for i, (out, ref, low, like) in enumerate(zip(outputs, exact, naive, fake, strict=True)):
        what = f"{title} output {i}"
        if i > 0 and name in _KEEPS_STATISTICS:
            assert_as_accurate(out, ref, low, roundings=_AUXILIARY_ROUNDINGS, what=what)
        else:
            roundings = 2 if op.is_backward else 1
            assert_as_accurate(
                out, ref, low, roundings=roundings, precision=dtype, slack=slacks[i], what=what
            )
        assert out.dtype == like.dtype, f"{what}: dtype {out.dtype}, the fake says {like.dtype}"
        assert _strides(out) == _strides(like), (
            f"{what}: strides {out.stride()}, the fake says {like.stride()}"
        )
        assert _same(out, again[i]), f"{what}: a second run gave other bits"
    for i, (arg, copy) in enumerate(zip(public, before, strict=True)):
        if isinstance(arg, Tensor):
            assert _same(arg, copy), f"{title}: argument {i} was changed"
    with poisoned_memory(), guarded_output(), torch.no_grad():
        poisoned = _outputs(row.run(*public))
    for i, (out, other) in enumerate(zip(outputs, poisoned, strict=True)):
        # Integers have no NaN: memory is filled with their largest number.
        floating = out.is_floating_point()
        suspect = _readable(other).isnan() & ~_readable(out).isnan() if floating else other != out
        unwritten = int(suspect.sum())
        assert unwritten == 0, (
            f"{title} output {i}: {unwritten} elements depend on unwritten memory"
        )


def operator_arguments(
    name: str,
    case: Any,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    layout: str = "contiguous",
    seed: int = 0,
) -> tuple[Any, ...]:
    """Return schema arguments of a forward or backward op for a case.

    Those of a backward op are what autograd hands it after a reference forward.
    """
    cases = cases_of(name)
    args = [relaid(arg, layout) for arg in cases.make_inputs(case, device, dtype, seed)]
    op = OPS[name]
    if not op.is_backward:
        assert op.prepare is not None
        return op.prepare(*args)
    for i in cases.DIFFERENTIABLE:
        if args[i] is not None:
            args[i] = args[i].detach().requires_grad_()
    forward = OPS[name.removesuffix("_backward")]
    assert forward.prepare is not None
    with use_backend("reference"), _Recorder(name) as recorder:
        results = [out for out in _outputs(forward(*forward.prepare(*args))) if out.requires_grad]
        generator = torch.Generator(device).manual_seed(seed + 1)
        grads = [
            relaid(torch.randn(out.shape, generator=generator, device=device).to(out.dtype), layout)
            for out in results
        ]
        torch.autograd.backward(results, grads)
    assert recorder.arguments is not None, f"{name} did not run"
    return tuple(a.detach() if isinstance(a, Tensor) else a for a in recorder.arguments)


def row_for(op: Op, backend: str, args: Sequence[Any]) -> Backend:
    """Return the row that serves these schema arguments when `backend` is forced.

    Raises:
        BackendError: it cannot.
    """
    with use_backend(backend):
        return op.choose(*args)


@contextlib.contextmanager
def poisoned_memory() -> Iterator[None]:
    """Fill newly allocated floating-point memory with NaN inside the block."""
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    # Filling memory is on by default wherever algorithms are deterministic.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.use_deterministic_algorithms(True, warn_only=True)
            yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """Surround what Python code allocates in the block with sentinels, and check them at its end.

    Raises:
        AssertionError: something was written outside an allocation.
    """
    mode = _GuardedAllocations()
    with mode:
        yield
    mode.check()


class _GuardedAllocations(TorchDispatchMode):
    """Answers torch.empty and its relatives with the middle of a larger buffer."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._buffers: list[tuple[Tensor, Tensor, str]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket not in _ALLOCATIONS or out.device.type == "meta":
            return out
        margin = _GUARD_ELEMENTS * out.element_size()
        storage_bytes = out.untyped_storage().nbytes()
        buffer = torch.full(
            (storage_bytes + 2 * margin,), _SENTINEL, dtype=torch.uint8, device=out.device
        )
        inner = buffer[margin : margin + storage_bytes]
        inner.copy_(
            torch.empty(0, dtype=torch.uint8, device=out.device).set_(out.untyped_storage())
        )
        guarded = inner.view(out.dtype).as_strided(
            out.shape, out.stride(), inner.storage_offset() // out.element_size()
        )
        self._buffers.append((buffer[:margin], buffer[margin + storage_bytes :], str(func)))
        return guarded

    def check(self) -> None:
        for front, behind, source in self._buffers:
            for place, margin in (("before", front), ("behind", behind)):
                assert bool((margin == _SENTINEL).all()), (
                    f"memory {place} an allocation by {source} was overwritten"
                )


_ALLOCATIONS = frozenset(
    getattr(torch.ops.aten, name)
    for name in ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
)


class _Recorder(TorchDispatchMode):
    """Keeps the arguments of the last call of one operator of this project."""

    def __init__(self, name: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._overload = getattr(getattr(torch.ops, NAMESPACE), name).default
        self.arguments: tuple[Any, ...] | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is self._overload:
            self.arguments = tuple(args)
        return func(*args, **(kwargs or {}))


def _widened(arg: Any) -> Any:
    """In fp64, but for what is data in its own format: integers and 8-bit floats."""
    if not isinstance(arg, Tensor) or not arg.is_floating_point() or arg.element_size() == 1:
        return arg
    return arg.to(torch.float64)


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers."""
    return torch.equal(_readable(a), _readable(b))


def _readable(x: Tensor) -> Tensor:
    """The same numbers in a dtype that torch compares: not 8-bit floats."""
    return x.to(torch.float32) if x.is_floating_point() and x.element_size() == 1 else x


def _outputs(out: Any) -> tuple[Tensor, ...]:
    return out if isinstance(out, tuple) else (out,)


def _strides(x: Tensor) -> list[int]:
    """Strides of the axes that have more than one element; none for an empty tensor."""
    if x.numel() == 0:
        return []
    return [step for step, size in zip(x.stride(), x.shape, strict=True) if size > 1]
