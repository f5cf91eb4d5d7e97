"""Once per device: a row that has not run on real hardware is checked before `auto` takes it.

The first call of an unverified row on a device runs the conformance cases of its op there
(`testing.check_op`), in the dtype of the call. What came out is remembered per device in a file of
the cache folder and holds until the sources or the versions that it depends on change. A row that
fails is skipped, and says so once. A forced backend is not checked: whoever forces it wants it.
"""

from __future__ import annotations

import datetime
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from . import cache
from .registry import OPS, Backend, BackendError, Op
from .testing import cases_of, check_op

SCHEMA: Final = 1
KIND: Final = "verified"
DTYPES: Final = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NATIVE_ROWS: Final = ("cpu", "cuda")

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_LONGEST_REASON = 300
_UNFINISHED = (
    "its check was begun and did not end: the process hung, crashed or was killed; delete the file "
    "of verified rows to have it checked again"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What checking one row in one dtype on one device brought.

    Args:
        op: name of the forward or backward op.
        backend: name of the row.
        dtype: a key of `DTYPES`.
        fingerprint: of everything else that it depends on.
        reason: why the row must not be taken; None if it passed.
        cases: that passed.
        seconds: that it took, compilation included.
        date: UTC.
        declined: the row can run none of the cases in this dtype, which is no fault.
        begun_by: the process that is checking the row, while it does.
    """

    op: str
    backend: str
    dtype: str
    fingerprint: str
    reason: str | None
    cases: int
    seconds: float
    date: str
    declined: bool = False
    begun_by: int | None = None

    @property
    def failed(self) -> bool:
        """Whether a case came out wrong."""
        return self.reason is not None and not self.declined


class _Memory:
    """Findings of this process by device, filled from the device's file on first use."""

    def __init__(self) -> None:
        self.findings: dict[torch.device, dict[tuple[str, str, str], Finding]] = {}
        self.warned: set[object] = set()
        # Held while a row is being checked. Nobody waits for it: a call that meets it takes the
        # next row, be it of another thread or the check's own.
        self.checking = threading.Lock()

    def of(self, device: torch.device) -> dict[tuple[str, str, str], Finding]:
        if device not in self.findings:
            self.findings[device] = _read(device)
        return self.findings[device]

    def warn_once(self, key: object, sentence: str) -> None:
        if key not in self.warned:
            self.warned.add(key)
            warnings.warn(sentence, RuntimeWarning, stacklevel=2)


_memory = _Memory()


def why_not_taken(op: Op, row: Backend, args: Sequence[Any]) -> str | None:
    """Why `auto` must not take an unverified row for a call; checks the row if nobody has yet.

    Args:
        op: of the call.
        row: that could serve it.
        args: of the operator.

    Returns:
        One sentence, or None: the row is right on this device.

    Raises:
        BackendError: the check left the device unusable for this process.
    """
    device = _device_of(args)
    for dtype in _dtypes_of(args):
        found = _memory.of(device).get((op.name, row.name, dtype))
        if found is None:
            reason = _why_not_now(args, device)
            if reason is not None:
                return reason
            found = _check_now(op, row, dtype, device)
        if found is None:
            return f"has not been checked on {device}, and a check is running"
        if found.failed:
            _memory.warn_once((device, op.name, row.name, dtype), _loudly(found))
        if found.reason is not None:
            return found.reason
    return None


def known(op: Op, row: Backend, args: Sequence[Any]) -> tuple[str | None, str | None]:
    """What is known about an unverified row, without running anything.

    Args:
        op: of the call.
        row: that could serve it.
        args: of the operator.

    Returns:
        Why `auto` does not take it, or None; and what to say about its state, or None.
    """
    device = _device_of(args)
    if device.type == "cuda" and not torch.cuda.is_available():
        return None, None
    found = [_memory.of(device).get((op.name, row.name, dtype)) for dtype in _dtypes_of(args)]
    failed = next((f.reason for f in found if f is not None and f.reason is not None), None)
    if failed is not None:
        return failed, None
    if any(f is None for f in found):
        return None, "unverified: its conformance cases run here before it is first taken"
    name = cache.identity(device)["name"]
    return None, f"passed its conformance cases on {name}, {max(f.date for f in found if f)[:10]}"


def unverified(device: torch.device | str) -> Iterator[tuple[Op, Backend]]:
    """Every row that would be checked on a device, with its op."""
    kind = torch.device(device).type
    for _, op in sorted(OPS.items()):
        names = set()
        for row in op.backends:
            if row.verified is None and row.device_type in ("any", kind) and row.name not in names:
                names.add(row.name)
                yield op, row


def state(op: Op, row: Backend, device: torch.device) -> dict[str, Finding | None]:
    """By dtype, what was found about a row on a device; None: not checked."""
    found = _memory.of(device)
    return {dtype: found.get((op.name, row.name, dtype)) for dtype in DTYPES}


def verify(op: Op, row: Backend, dtype: str, device: torch.device) -> Finding:
    """Run the conformance cases of a row, remembering nothing.

    Args:
        op: forward or backward.
        row: of its table.
        dtype: a key of `DTYPES`.
        device: where to run.

    Returns:
        The finding; its reason names the first case that failed, or says that there was none.
    """
    began = time.perf_counter()
    passed, reason, refusal = 0, None, "it has no cases"
    for case in cases_of(op.name).CHECK:
        try:
            check_op(
                op.name, case, backend=row.name, device=device, dtype=DTYPES[dtype], drawn_on="cpu"
            )
            passed += 1
        except BackendError as error:
            refusal = own_line(error, row.name)
        except Exception as error:
            where = cache.identity(device)["name"]
            reason = (
                f"its conformance case {case.name} in {dtype} failed on {where}: {_line(error)}"
            )
            break
    declined = reason is None and not passed
    if declined:
        reason = f"none of its conformance cases in {dtype} can run on it: {refusal}"
    return finding(op, row, dtype, reason, passed, time.perf_counter() - began, declined)


def finding(
    op: Op,
    row: Backend,
    dtype: str,
    reason: str | None,
    cases: int,
    seconds: float,
    declined: bool = False,
    begun_by: int | None = None,
) -> Finding:
    """A finding of now; see `Finding`."""
    return Finding(
        op=op.name,
        backend=row.name,
        dtype=dtype,
        fingerprint=_fingerprint(op.name, row.name),
        reason=reason,
        cases=cases,
        seconds=round(seconds, 2),
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        declined=declined,
        begun_by=begun_by,
    )


def remember(findings: Sequence[Finding], device: torch.device) -> Path:
    """Keep findings in this process and in the device's file, beside what others wrote there.

    Args:
        findings: new ones; they replace older ones of the same row and dtype.
        device: that they are about.

    Returns:
        The file.
    """
    _memory.of(device).update({(f.op, f.backend, f.dtype): f for f in findings})
    return _write(findings, device)


def _check_now(op: Op, row: Backend, dtype: str, device: torch.device) -> Finding | None:
    """Check a row and remember; None if a check is running already."""
    if not _memory.checking.acquire(blocking=False):
        return None
    try:
        path = cache.file_of(KIND, device)
        _memory.warn_once(
            device,
            f"first use of kernels on {cache.identity(device)['name']}: each that has not run "
            f"there before is checked once, which takes a while, and remembered in {path}; "
            "`opensora-fast doctor --verify` does it for all",
        )
        # A kernel may hang, or take the process with it: then the next one knows which it was.
        begun = finding(op, row, dtype, _UNFINISHED, 0, 0.0, begun_by=os.getpid())
        _write([begun], device)
        try:
            found = _in_a_clean_thread(lambda: verify(op, row, dtype, device))
        except BaseException:
            _write([], device)
            raise
        remember([found], device)
    finally:
        _memory.checking.release()
    if found.failed and (broken := _why_broken(device)) is not None:
        raise BackendError(
            f"{op.name}: checking the row {row.name!r} left {device} unusable for this process "
            f"({broken}); this is remembered in {path}: start again, and the row is skipped"
        )
    return found


def _in_a_clean_thread(function: Callable[[], Finding]) -> Finding:
    """Call on a thread of its own, and wait.

    A call of an op comes from below autograd, perhaps under autocast, inference mode or a forced
    backend. torch keeps all of these per thread, and a new thread has none.
    """
    results: list[Finding] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="opensora-fast-verification", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _why_not_now(args: Sequence[Any], device: torch.device) -> str | None:
    """Why a row that nobody has checked cannot be checked in this call."""
    if torch.compiler.is_compiling() or any(isinstance(arg, FakeTensor) for arg in args):
        return f"has not been checked on {device}, and cannot be while a graph is traced"
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return f"has not been checked on {device}, and cannot be while a CUDA graph is captured"
    return None


def _why_broken(device: torch.device) -> str | None:
    """What a device says after a failure that it does not recover from."""
    if device.type != "cuda":
        return None
    try:
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        return _line(error)
    return None


def _read(device: torch.device) -> dict[tuple[str, str, str], Finding]:
    """Findings of the device's file that still hold; what is being checked now is none."""
    path = cache.file_of(KIND, device)
    content = cache.read(path, SCHEMA)
    found: dict[tuple[str, str, str], Finding] = {}
    for entry in content.get("findings", []) if content is not None else []:
        try:
            one = Finding(**entry)
            holds = one.op in OPS and one.fingerprint == _fingerprint(one.op, one.backend)
            if holds and not _is_alive(one.begun_by):
                found[one.op, one.backend, one.dtype] = one
        except TypeError:
            warnings.warn(f"{path} is ignored: it holds no findings", stacklevel=2)
            return {}
    return found


def _write(findings: Sequence[Finding], device: torch.device) -> Path:
    """Add findings to the device's file."""
    path = cache.file_of(KIND, device)
    merged = _read(device) | {(f.op, f.backend, f.dtype): f for f in findings}
    entries = [asdict(merged[key]) for key in sorted(merged)]
    cache.write(path, {"schema": SCHEMA, **cache.identity(device), "findings": entries})
    return path


def _is_alive(process: int | None) -> bool:
    if process is None:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fingerprint(op: str, backend: str) -> str:
    return cache.fingerprint(op.removesuffix("_backward"), backend in NATIVE_ROWS)


def _device_of(args: Sequence[Any]) -> torch.device:
    return next(arg.device for arg in args if isinstance(arg, Tensor))


def _dtypes_of(args: Sequence[Any]) -> tuple[str, ...]:
    """The dtype of the first floating-point tensor; all if it is none that cases are drawn in."""
    tensors = (arg for arg in args if isinstance(arg, Tensor) and arg.is_floating_point())
    name = next((_NAMES.get(tensor.dtype) for tensor in tensors), None)
    return tuple(DTYPES) if name is None else (name,)


def _loudly(found: Finding) -> str:
    return (
        f"{found.op}: the row {found.backend!r} is not taken: {found.reason} "
        "(please report it; `opensora-fast doctor` lists what was checked)"
    )


def own_line(error: BackendError, backend: str) -> str:
    """What a backend itself says in the list of all reasons."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line.startswith(f"{backend}:")), lines[0])


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "..."
