"""A recorded run as a trace for chrome://tracing and Perfetto."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .recorder import Call, Stage

_MICROSECONDS = 1e6
_STAGES, _MODULES, _OPERATORS = range(3)


def trace_events(calls: Sequence[Call], stages: Sequence[Stage]) -> dict[str, Any]:
    """Lay stages, layers and operators under each other.

    Args:
        calls: in order.
        stages: spans.

    Returns:
        The trace-event format, JSON-ready.
    """
    events = [
        {"ph": "M", "pid": 0, "tid": row, "name": "thread_name", "args": {"name": name}}
        for row, name in ((_STAGES, "stages"), (_MODULES, "layers"), (_OPERATORS, "operators"))
    ]
    events += [
        _event(stage.name, _STAGES, stage.start_s, stage.seconds, {"peak_bytes": stage.peak_bytes})
        for stage in stages
    ]
    events += [_event(*layer, {}) for layer in _layers(calls)]
    events += [
        _event(
            call.op,
            _OPERATORS,
            call.start_s,
            call.seconds,
            {
                "shapes": call.shapes,
                "dtype": call.dtype,
                "backend": call.backend,
                "module": call.module,
                "flops": call.flops,
                "bytes": call.bytes,
            },
        )
        for call in calls
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _layers(calls: Sequence[Call]) -> list[tuple[str, int, float, float]]:
    """Neighbouring calls of the same layer as one stretch."""
    found: list[tuple[str, int, float, float]] = []
    for call in calls:
        end = call.start_s + call.seconds
        if call.module and found and found[-1][0] == call.module:
            start = found[-1][2]
            found[-1] = (call.module, _MODULES, start, end - start)
        elif call.module:
            found.append((call.module, _MODULES, call.start_s, call.seconds))
    return found


def _event(
    name: str, row: int, start_s: float, seconds: float, args: dict[str, Any]
) -> dict[str, Any]:
    return {
        "ph": "X",
        "pid": 0,
        "tid": row,
        "name": name,
        "ts": start_s * _MICROSECONDS,
        "dur": seconds * _MICROSECONDS,
        "args": args,
    }
