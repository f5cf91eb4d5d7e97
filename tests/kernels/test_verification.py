"""Unverified rows are checked once per device; here a CPU plays the device."""

from __future__ import annotations

import json
import os
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from opensora_fast.kernels import cache, registry, verification
from opensora_fast.kernels.registry import OPS, Backend, Op, use_backend
from opensora_fast.kernels.testing import check_op

NAME = "verification_test"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    name: str
    length: int


def make_inputs(case: Case, device: Any, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(case.length, generator=generator).to(device=device, dtype=dtype),)


class Kernel:
    """What the rows under test do; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.compute: Callable[[Tensor], Tensor] = double

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.compute(x)


def double(x: Tensor) -> Tensor:
    return x * 2


def wrong(x: Tensor) -> Tensor:
    return x * 2 + 1


def too_long(x: Tensor) -> str | None:
    return "takes at most 8 elements" if x.numel() > 8 else None


FORWARD_KERNEL, BACKWARD_KERNEL = Kernel(), Kernel()
BACKWARD = Op(
    name=NAME + "_backward",
    schema="(Tensor grad) -> Tensor",
    reference=double,
    fake=torch.empty_like,
    backends=[Backend("triton", "any", BACKWARD_KERNEL, too_long)],
)
FORWARD = Op(
    name=NAME,
    schema="(Tensor x) -> Tensor",
    reference=double,
    fake=torch.empty_like,
    prepare=lambda x: (x,),
    backends=[
        Backend("triton", "any", FORWARD_KERNEL, too_long),
        Backend("torch", "any", double, verified="CPU: in this test"),
    ],
    backward=lambda ctx, grad: BACKWARD(grad),
)


@pytest.fixture(autouse=True, scope="module")
def op_and_cases() -> Iterator[None]:
    module = types.ModuleType(f"opensora_fast.kernels.{NAME}.cases")
    module.CHECK = (Case("small", 5), Case("too long for it", 20))  # type: ignore[attr-defined]
    module.DIFFERENTIABLE = (0,)  # type: ignore[attr-defined]
    module.make_inputs = make_inputs  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    yield
    del sys.modules[module.__name__]
    OPS.pop(NAME)
    OPS.pop(NAME + "_backward")


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Let the CPU be a guarded device with a cache of its own; yields the file."""
    monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, str(tmp_path))
    monkeypatch.setattr(registry, "GUARDED", frozenset({"cpu"}))
    monkeypatch.setattr(cache, "identity", lambda _: {"name": "NVIDIA G1", "capability": "9.0"})
    new_process(monkeypatch)
    FORWARD_KERNEL.__init__()  # type: ignore[misc]
    BACKWARD_KERNEL.__init__()  # type: ignore[misc]
    # That checks run at all is said once; the tests look for other warnings.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="first use of kernels")
        yield tmp_path / "verified-NVIDIA_G1_9.0.json"


def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_memory", verification._Memory())


def chosen(x: Tensor) -> str:
    return FORWARD.choose(x).name


def test_a_row_is_taken_after_its_cases_have_passed(device: Path) -> None:
    x = torch.ones(3)
    assert (
        str(FORWARD.explain(x))
        .splitlines()[0]
        .endswith("usable [unverified: its conformance cases run here before it is first taken]")
    )
    assert FORWARD_KERNEL.calls == 0, "explain runs nothing"
    assert torch.equal(FORWARD(x), 2 * x)
    checked = FORWARD_KERNEL.calls - 1
    assert checked == 3, "twice for equal bits, once with poisoned memory; the long case declined"
    FORWARD(x)
    assert FORWARD_KERNEL.calls == checked + 2, "checked once"
    assert "passed its conformance cases on NVIDIA G1" in str(FORWARD.explain(x)[0])
    assert FORWARD.explain(x).chosen == "triton"


def test_it_is_remembered_on_the_device(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FORWARD(torch.ones(3))
    (entry,) = json.loads(device.read_text())["findings"]
    assert (entry["op"], entry["backend"], entry["dtype"]) == (NAME, "triton", "fp32")
    assert entry["cases"] == 1 and entry["reason"] is None
    new_process(monkeypatch)
    calls = FORWARD_KERNEL.calls
    FORWARD(torch.ones(3))
    assert FORWARD_KERNEL.calls == calls + 1
    FORWARD(torch.ones(3, dtype=torch.bfloat16))
    assert FORWARD_KERNEL.calls == calls + 5, "another dtype is another question"
    device.unlink()
    new_process(monkeypatch)
    FORWARD(torch.ones(3))
    assert FORWARD_KERNEL.calls == calls + 9, "without the file it is checked again"


def test_other_sources_or_versions_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    FORWARD(torch.ones(3))
    new_process(monkeypatch)
    monkeypatch.setattr(cache, "fingerprint", lambda folder, native: "changed")
    calls = FORWARD_KERNEL.calls
    FORWARD(torch.ones(3))
    assert FORWARD_KERNEL.calls == calls + 4


def crash(x: Tensor) -> Tensor:
    raise RuntimeError("illegal memory access")


@pytest.mark.parametrize(
    ("compute", "words"), [(wrong, "elements are too far off"), (crash, "illegal memory access")]
)
def test_a_row_that_fails_is_skipped_and_warned_of_once(
    compute: Callable[[Tensor], Tensor], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    FORWARD_KERNEL.compute = compute
    x = torch.ones(3)
    with pytest.warns(RuntimeWarning, match="'triton' is not taken: its conformance case small"):
        assert torch.equal(FORWARD(x), 2 * x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chosen(x) == "torch"
    verdict = FORWARD.explain(x)[0]
    assert not verdict.usable and verdict.reason is not None and words in verdict.reason
    assert "in fp32 failed on NVIDIA G1" in verdict.reason
    assert FORWARD.explain(x).chosen == "torch"
    new_process(monkeypatch)
    with pytest.warns(RuntimeWarning, match="not taken"):
        assert chosen(x) == "torch"


def test_a_row_that_serves_none_of_its_cases_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys.modules[f"opensora_fast.kernels.{NAME}.cases"], "CHECK", (Case("long", 20),)
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*not taken")
        assert chosen(torch.ones(3)) == "torch"
    reason = FORWARD.explain(torch.ones(3))[0].reason or ""
    assert "none of its conformance cases" in reason and "takes at most 8 elements" in reason


def test_forced_rows_run_without_a_check(device: Path) -> None:
    FORWARD_KERNEL.compute = wrong
    with use_backend("triton"):
        assert torch.equal(FORWARD(torch.ones(3)), 3 * torch.ones(3))
        assert FORWARD.explain(torch.ones(3)).chosen == "triton"
    assert FORWARD_KERNEL.calls == 1 and not device.exists()


def test_the_backward_is_checked_from_within_autograd(device: Path) -> None:
    x = torch.ones(3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        FORWARD(x).sum().backward()
    assert x.grad is not None and BACKWARD_KERNEL.calls == 4
    ops = [entry["op"] for entry in json.loads(device.read_text())["findings"]]
    assert ops == [NAME, NAME + "_backward"]
    with torch.inference_mode():
        FORWARD(torch.ones(3, dtype=torch.float16))
    assert FORWARD_KERNEL.calls == 8


def test_a_check_runs_the_op_and_others_do_not_wait_for_it() -> None:
    """The row's own call of the op, and one of another thread, take the next row meanwhile."""
    taken: list[str] = []

    def look_around(x: Tensor) -> Tensor:
        if len(taken) < 2:
            with use_backend("auto"):
                taken.append(chosen(torch.ones(2)))
            thread = threading.Thread(target=lambda: taken.append(chosen(torch.ones(2))))
            thread.start()
            thread.join()
        return double(x)

    FORWARD_KERNEL.compute = look_around
    assert chosen(torch.ones(3)) == "triton"
    assert taken == ["torch", "torch"]
    assert chosen(torch.ones(2)) == "triton"


def test_a_check_that_did_not_end_is_not_begun_again(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def look_into_the_file(x: Tensor) -> Tensor:
        seen.extend(json.loads(device.read_text())["findings"])
        return double(x)

    FORWARD_KERNEL.compute = look_into_the_file
    FORWARD(torch.ones(3))
    begun = seen[0]
    assert begun["begun_by"] == os.getpid() and "did not end" in begun["reason"]
    content = json.loads(device.read_text())
    assert content["findings"][0]["reason"] is None

    for process, name in ((os.getpid(), "triton"), (2**22 + 1, "torch")):  # beyond all numbers
        device.write_text(json.dumps(content | {"findings": [begun | {"begun_by": process}]}))
        new_process(monkeypatch)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert chosen(torch.ones(3)) == name
        assert ("did not end" in str([str(w.message) for w in caught])) == (name == "torch")


def test_an_interrupted_check_is_forgotten(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(function: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(verification, "_in_a_clean_thread", interrupted)
        with pytest.raises(KeyboardInterrupt):
            chosen(torch.ones(3))
    assert json.loads(device.read_text())["findings"] == []
    assert chosen(torch.ones(3)) == "triton"


def test_nothing_is_checked_while_a_graph_is_captured_or_traced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_gpu = types.SimpleNamespace(type="cuda")
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        assert "graph is captured" in (verification._why_not_now((), on_gpu) or "")  # type: ignore[arg-type]
    with monkeypatch.context() as patched:
        patched.setattr(torch.compiler, "is_compiling", lambda: True)
        assert chosen(torch.ones(3)) == "torch"
    with FakeTensorMode() as mode:
        assert chosen(mode.from_tensor(torch.ones(3))) == "torch"
    assert FORWARD_KERNEL.calls == 0
    assert chosen(torch.ones(3)) == "triton"


@pytest.mark.parametrize(
    "content", ["{", '{"schema": 7}', "[1]", '{"schema": 1, "findings": [{}]}']
)
def test_a_file_of_something_else_is_ignored_with_a_sentence(content: str, device: Path) -> None:
    device.write_text(content)
    with pytest.warns(UserWarning, match=r"verified-NVIDIA_G1_9\.0\.json is ignored: "):
        assert chosen(torch.ones(3)) == "triton"
    assert json.loads(device.read_text())["findings"][0]["op"] == NAME


def test_a_folder_that_cannot_be_written_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, str(tmp_path / "file" / "folder"))
    with pytest.warns(UserWarning, match="cannot be written, this run alone knows"):
        assert chosen(torch.ones(3)) == "triton"
    assert chosen(torch.ones(3)) == "triton"


def test_what_can_be_checked_and_what_was_found() -> None:
    rows = [(op.name, row.name) for op, row in verification.unverified("cpu")]
    assert (NAME, "triton") in rows and (NAME, "torch") not in rows
    assert ("layer_norm_modulate_backward", "triton") in rows
    row = FORWARD.backends[0]
    findings = [verification.verify(FORWARD, row, dtype, CPU) for dtype in ("fp32", "bf16")]
    verification.remember(findings, CPU)
    found = verification.state(FORWARD, row, CPU)
    assert [name for name, finding in found.items() if finding is None] == ["fp16"]


def test_inputs_drawn_elsewhere_give_the_same_verdict() -> None:
    FORWARD_KERNEL.compute = wrong
    for place in (None, "cpu"):
        with pytest.raises(AssertionError, match="too far off"):
            check_op(NAME, Case("small", 5), backend="triton", drawn_on=place)


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache.cache_folder() == tmp_path
    monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache.cache_folder() == tmp_path / "cache" / "opensora-fast"
