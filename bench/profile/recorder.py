"""Watch a run: every operator call with its time, operations, traffic and backend."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from opensora_fast.kernels.counting import OfOperators, flops_of_call
from opensora_fast.kernels.registry import NAMESPACE, OPS
from opensora_fast.spans import watched_by

from ..memory import Gauge, gauge_of

_DTYPE_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One call of an operator.

    Args:
        op: an op of ours by its name, one of torch's as "aten.name".
        shapes: of its tensor arguments.
        dtype: of the first of them.
        backend: that served it; None for torch's own operators.
        stage: span that it ran in, "" outside of all.
        module: path of the innermost layer, from the outermost layer that was called.
        start_s: since the recording began.
        seconds: that it took.
        flops: operations of the direct algorithm.
        bytes: of its tensor arguments and results.
    """

    op: str
    shapes: str
    dtype: str
    backend: str | None
    stage: str
    module: str
    start_s: float
    seconds: float
    flops: int
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A span: when it ran, and the highest memory of the process (CPU) or the allocator (GPU)."""

    name: str
    start_s: float
    seconds: float
    peak_bytes: int


class Recorder:
    """Records what runs inside `with recorder:`, in this thread.

    Timing each call by itself takes away what runs at the same time: on a GPU the calls are timed
    by events in the stream, so that the host goes on.

    Args:
        device: whose work is timed and whose memory is watched.
        mark: also mark spans and layers for NVIDIA's tools.
    """

    def __init__(self, device: torch.device, *, mark: bool = False) -> None:
        self.stages: list[Stage] = []
        self._clock = _EventClock(device) if device.type == "cuda" else _HostClock()
        self._gauge: Gauge = gauge_of(device)
        self._mark = mark
        self._stage: list[str] = []
        self._modules: list[str] = []
        self._names: dict[int, str] = {}
        self._calls: list[tuple[dict[str, Any], Any]] = []
        self._stack = contextlib.ExitStack()
        self.wall_s = 0.0

    def __enter__(self) -> Recorder:
        self._began = time.perf_counter()
        self._clock.start()
        self._stack.enter_context(watched_by(self._watch))
        hooks = nn.modules.module
        for handle in (
            hooks.register_module_forward_pre_hook(self._enter_module),
            hooks.register_module_forward_hook(self._leave_module, always_call=True),
        ):
            self._stack.callback(handle.remove)
        self._stack.enter_context(_Dispatch(self))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.wall_s = time.perf_counter() - self._began

    def calls(self) -> list[Call]:
        """What was recorded, in order."""
        self._clock.finish()
        found = []
        for facts, ticket in self._calls:
            start, seconds = self._clock.read(ticket)
            found.append(Call(**facts, start_s=start, seconds=seconds))
        return found

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Run an operator and take note of it."""
        name, backend = _name_and_backend(func, args)
        began = self._clock.tick()
        out = func(*args, **kwargs)
        ticket = began, self._clock.tick()
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        results = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        facts = {
            "op": name,
            "shapes": ", ".join("x".join(map(str, x.shape)) for x in tensors if x.dim() > 0),
            "dtype": _dtype_name((tensors or results)[0]) if tensors or results else "",
            "backend": backend,
            "stage": self._stage[-1] if self._stage else "",
            "module": self._modules[-1] if self._modules else "",
            "flops": flops_of_call(func, args, kwargs, out),
            "bytes": sum(x.numel() * x.element_size() for x in (*tensors, *results)),
        }
        self._calls.append((facts, ticket))
        return out

    @contextlib.contextmanager
    def _watch(self, name: str) -> Iterator[None]:
        self._stage.append(name)
        self._gauge.reset()
        start = time.perf_counter() - self._began
        with _marked(name) if self._mark else contextlib.nullcontext():
            try:
                yield
            finally:
                peak = self._gauge.peak()
                seconds = time.perf_counter() - self._began - start
                self._stage.pop()
                self.stages.append(
                    Stage(name=name, start_s=start, seconds=seconds, peak_bytes=peak)
                )

    def _enter_module(self, module: nn.Module, _: Any) -> None:
        if not self._modules:
            root = type(module).__name__
            self._names = {
                id(inner): f"{root}.{path}" if path else root
                for path, inner in module.named_modules()
            }
        name = self._names.get(id(module), type(module).__name__)
        self._modules.append(name)
        if self._mark:
            torch.cuda.nvtx.range_push(name)

    def _leave_module(self, module: nn.Module, *_: Any) -> None:
        self._modules.pop()
        if self._mark:
            torch.cuda.nvtx.range_pop()


class _Dispatch(OfOperators):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def run(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        return self._recorder.run(func, args, kwargs)


class _HostClock:
    """Wall time: on a CPU an operator has done its work when it returns."""

    def start(self) -> None:
        self._origin = time.perf_counter()

    def tick(self) -> float:
        return time.perf_counter()

    def finish(self) -> None:
        pass

    def read(self, ticket: tuple[float, float]) -> tuple[float, float]:
        return ticket[0] - self._origin, ticket[1] - ticket[0]


class _EventClock:
    """Events in the current stream of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def start(self) -> None:
        torch.cuda.synchronize(self._device)
        self._origin = self.tick()

    def tick(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def finish(self) -> None:
        torch.cuda.synchronize(self._device)

    def read(self, ticket: tuple[torch.cuda.Event, torch.cuda.Event]) -> tuple[float, float]:
        began, ended = ticket
        return self._origin.elapsed_time(began) / 1e3, began.elapsed_time(ended) / 1e3


@contextlib.contextmanager
def _marked(name: str) -> Iterator[None]:
    torch.cuda.nvtx.range_push(name)
    try:
        yield
    finally:
        torch.cuda.nvtx.range_pop()


def _name_and_backend(func: Any, args: Sequence[Any]) -> tuple[str, str | None]:
    name = func.name().partition("::")[2].partition(".")[0]
    if func.namespace != NAMESPACE:
        return f"{func.namespace}.{name}", None
    return name, OPS[name].choose(*args).name


def _dtype_name(tensor: Tensor) -> str:
    return _DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
