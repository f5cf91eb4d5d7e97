"""The op registry: what an op is, which backends can run it, and how one is chosen.

An op is one ``torch.library`` operator in the namespace ``opensora_fast``. It has a single CPU and
a single CUDA implementation; both choose a backend at run time, so that traced and compiled graphs
never depend on the choice. The choice is data (a table of `Backend` rows in order of preference)
and a pure function of the arguments (`Backend.why_not`), so that it can be asked and tested
anywhere: see `explain`.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

NAMESPACE: Final = "opensora_fast"
# The last three are other projects' kernels of attention, where they are installed.
BACKEND_NAMES: Final = (
    "auto",
    "reference",
    "torch",
    "cpu",
    "triton",
    "cuda",
    "flash2",
    "flash3",
    "sage",
)
ENVIRONMENT_VARIABLE: Final = "OPENSORA_FAST_BACKEND"
# Device types where `auto` takes a row that has not run on real hardware only after its conformance
# cases have passed: see verification.py.
GUARDED: Final = frozenset({"cuda"})

_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")
_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)
_selected: ContextVar[str | None] = ContextVar("opensora_fast_backend", default=None)

OPS: dict[str, Op] = {}


class BackendError(RuntimeError):
    """A forced backend cannot run a call; the message lists every backend and its reason."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to run an op.

    Args:
        name: one of `BACKEND_NAMES`, without ``auto``.
        device_type: ``"cpu"``, ``"cuda"``, or ``"any"``.
        run: takes the op's schema arguments, returns its outputs. Runs below autograd.
        why_not: takes the same arguments; None if `run` can serve them, else one sentence. It is
            asked on every call, so it compares a few attributes and does nothing else. Absent:
            `run` serves everything.
        verified: on which hardware and when `run` passed the conformance suite; None: never on real
            hardware, and then `auto` takes it on a GPU only after it has passed there.
    """

    name: str
    device_type: str
    run: Callable[..., Any]
    why_not: Callable[..., str | None] | None = None
    verified: str | None = None

    def reason(self, device_type: str, args: Sequence[Any]) -> str | None:
        """Why this row cannot serve `args` on `device_type`, or None."""
        if self.device_type not in ("any", device_type):
            return f"runs on {self.device_type} tensors, the arguments are on {device_type}"
        return self.why_not(*args) if self.why_not is not None else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `explain` says about one backend."""

    backend: str
    reason: str | None
    chosen: bool
    verified: str | None

    @property
    def usable(self) -> bool:
        """Whether the backend can serve the call."""
        return self.reason is None

    def __str__(self) -> str:
        mark = "->" if self.chosen else "  "
        state = "usable" if self.usable else f"not usable: {self.reason}"
        return (
            f"{mark} {self.backend:<9} {state} [{self.verified or 'unverified on real hardware'}]"
        )


class Explanation(tuple[Verdict, ...]):
    """The verdicts on one call, in order of preference; prints as a table."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    @property
    def chosen(self) -> str | None:
        """The name of the backend that would run, None if the forced one cannot."""
        return next((verdict.backend for verdict in self if verdict.chosen), None)


def _validated(name: str, source: str) -> str:
    if name not in BACKEND_NAMES:
        raise ValueError(
            f"{source}: unknown backend {name!r}, accepted are {', '.join(BACKEND_NAMES)}"
        )
    return name


@functools.cache
def _environment_backend() -> str:
    return _validated(os.environ.get(ENVIRONMENT_VARIABLE) or "auto", ENVIRONMENT_VARIABLE)


def current_backend() -> str:
    """The backend in force: of the innermost `use_backend`, else the environment, else auto."""
    return _selected.get() or _environment_backend()


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Run every op inside the block (or the decorated function) on the named backend.

    A forced backend that cannot serve a call raises `BackendError` instead of falling back. A
    backward pass runs under the choice in force where it is called, or, where that is ``"auto"``,
    under the one that was in force at its forward: so a block around a forward also covers its
    backward on autograd's own threads.

    Args:
        name: ``"auto"`` (the first usable row of each op's table) or one of `BACKEND_NAMES`.

    Raises:
        ValueError: `name` is not a backend.
    """
    token = _selected.set(_validated(name, "use_backend"))
    try:
        yield
    finally:
        _selected.reset(token)


class Op:
    """An operator of `opensora_fast`, registered with torch on construction.

    Args:
        name: the operator's name and its key in `OPS`.
        schema: arguments and returns, e.g. ``"(Tensor x, float eps) -> Tensor"``; no defaults.
        reference: the definition, in pure torch; becomes the last row of the table.
        fake: same arguments, returns empty outputs of the right shape, dtype and strides.
        backends: rows in order of preference.
        prepare: takes the public function's arguments, checks them and returns the schema's
            arguments.
        backward: ``(ctx, *grads) -> gradients of all arguments``; calls the backward op, or those
            of the ops that this one is made of.
        setup_context: ``(ctx, inputs, output)``; saves what `backward` needs.
        autocast: run in autocast's dtype, as torch does for convolutions and attention.
    """

    def __init__(
        self,
        *,
        name: str,
        schema: str,
        reference: Callable[..., Any],
        fake: Callable[..., Any],
        backends: Sequence[Backend] = (),
        prepare: Callable[..., tuple[Any, ...]] | None = None,
        backward: Callable[..., Any] | None = None,
        setup_context: Callable[..., None] | None = None,
        autocast: bool = False,
    ) -> None:
        self.name = name
        self.reference = reference
        self.fake = fake
        self.prepare = prepare
        self.backends = (
            *backends,
            Backend("reference", "any", reference, verified="the definition"),
        )
        for row in self.backends:
            _validated(row.name, f"{name}: backend table")
        _LIBRARY.define(name + schema, tags=_TAGS)
        for key, device_type in (("CPU", "cpu"), ("CUDA", "cuda")):
            _LIBRARY.impl(name, self._chooser(device_type), key)
            if autocast:
                _LIBRARY.impl(name, self._autocaster(device_type), "Autocast" + key)
        torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_LIBRARY)
        self._register_autograd(backward, setup_context)
        self.overload = getattr(torch.ops.opensora_fast, name).default
        OPS[name] = self

    def __call__(self, *args: Any) -> Any:
        """Call the operator through torch's dispatcher, with the schema's arguments."""
        return self.overload(*args)

    def __repr__(self) -> str:
        return f"Op({self.name}: {', '.join(row.name for row in self.backends)})"

    @property
    def is_backward(self) -> bool:
        """Whether this op computes the gradients of another one."""
        return self.name.endswith("_backward")

    def choose(self, *args: Any) -> Backend:
        """The row that would serve these schema arguments under the backend in force."""
        return self._choose(self.backends, _device_type(args), args)

    def explain(self, *args: Any, **kwargs: Any) -> Explanation:
        """Which backends could serve a call of the public function, and why the others not."""
        prepared = self.prepare(*args, **kwargs) if self.prepare is not None else args
        device_type, wanted = _device_type(prepared), current_backend()
        verdicts: list[Verdict] = []
        found = False
        for row in self.backends:
            reason, verified = row.reason(device_type, prepared), row.verified
            if reason is None and wanted == "auto" and _must_be_checked(row, device_type):
                from .verification import known  # checks call ops, so they lie above this module

                reason, verified = known(self, row, prepared)
            chosen = not found and reason is None and wanted in ("auto", row.name)
            found = found or chosen
            verdicts.append(Verdict(row.name, reason, chosen, verified))
        return Explanation(verdicts)

    def _choose(self, rows: Sequence[Backend], device_type: str, args: Sequence[Any]) -> Backend:
        wanted = _selected.get() or _environment_backend()
        for row in rows:
            if wanted not in ("auto", row.name) or row.reason(device_type, args) is not None:
                continue
            if wanted == "auto" and _must_be_checked(row, device_type):
                from .verification import why_not_taken

                if why_not_taken(self, row, args) is not None:
                    continue
            return row
        reasons = [
            f"  {row.name}: {row.reason(device_type, args) or 'usable'}" for row in self.backends
        ]
        if all(row.name != wanted for row in self.backends):
            reasons.append(f"  {wanted}: {self.name} has no such backend")
        raise BackendError(
            f"{self.name}: the backend {wanted!r} is forced and cannot serve this call\n"
            + "\n".join(reasons)
        )

    def _chooser(self, device_type: str) -> Callable[..., Any]:
        rows = tuple(row for row in self.backends if row.device_type in ("any", device_type))
        autocast = torch._C.DispatchKeySet(
            getattr(torch._C.DispatchKey, "Autocast" + device_type.upper())
        )

        def run(*args: Any) -> Any:
            row = self._choose(rows, device_type, args)
            if not torch.is_autocast_enabled(device_type):
                return row.run(*args)
            # The op's dtypes are settled. Autocast must not change them again within a backend,
            # as it would in a backward pass that runs under it.
            with torch._C._ExcludeDispatchKeyGuard(autocast):
                return row.run(*args)

        return run

    def _autocaster(self, device_type: str) -> Callable[..., Any]:
        key = getattr(torch._C.DispatchKey, "Autocast" + device_type.upper())
        keys = torch._C.DispatchKeySet(key)

        def cast_and_run(*args: Any) -> Any:
            dtype = torch.get_autocast_dtype(device_type)
            cast = [_autocast(arg, device_type, dtype) for arg in args]
            with torch._C._ExcludeDispatchKeyGuard(keys):
                return self.overload(*cast)

        return cast_and_run

    def _register_autograd(
        self, backward: Callable[..., Any] | None, setup_context: Callable[..., None] | None
    ) -> None:
        def setup(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.opensora_fast_backend = current_backend()
            if setup_context is not None:
                setup_context(ctx, inputs, output)

        def run(ctx: Any, *grads: Any) -> Any:
            if backward is None:
                raise NotImplementedError(f"{self.name}: second derivatives are not implemented")
            if ctx.opensora_fast_backend == "auto" or current_backend() != "auto":
                return backward(ctx, *grads)
            with use_backend(ctx.opensora_fast_backend):
                return backward(ctx, *grads)

        torch.library.register_autograd(
            f"{NAMESPACE}::{self.name}", run, setup_context=setup, lib=_LIBRARY
        )


def explain(op: str | Op | Callable[..., Any], *args: Any, **kwargs: Any) -> Explanation:
    """Say which backends could serve a call, and why the others could not.

    Args:
        op: an op's name, the op, or its public function.
        *args: the arguments of the public function (of the operator, for a backward op).
        **kwargs: likewise.

    Returns:
        One `Verdict` per backend, in order of preference; prints as a table.

    Raises:
        ValueError: there is no such op.
    """
    if isinstance(op, Op):
        return op.explain(*args, **kwargs)
    name = op if isinstance(op, str) else getattr(op, "__name__", repr(op))
    if name not in OPS:
        raise ValueError(f"explain: unknown op {name!r}, known are {', '.join(sorted(OPS))}")
    return OPS[name].explain(*args, **kwargs)


def _must_be_checked(row: Backend, device_type: str) -> bool:
    """Whether `auto` takes the row only after its conformance cases have passed on the device."""
    return row.verified is None and device_type in GUARDED


def _device_type(args: Sequence[Any]) -> str:
    return next((arg.device.type for arg in args if isinstance(arg, Tensor)), "cpu")


def _autocast(arg: Any, device_type: str, dtype: torch.dtype) -> Any:
    # torch's own rule: floating tensors of this device, double excepted.
    if (
        isinstance(arg, Tensor)
        and arg.is_floating_point()
        and arg.dtype is not torch.float64
        and arg.device.type == device_type
    ):
        return arg.to(dtype)
    return arg
