"""Choosing a backend: preference, forcing, reasons, the environment, and the backward's choice."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
import torch

from opensora_fast import kernels
from opensora_fast.kernels.registry import (
    BACKEND_NAMES,
    OPS,
    Backend,
    BackendError,
    Op,
    current_backend,
    explain,
    use_backend,
)
from opensora_fast.kernels.testing import _Recorder, cases_of

calls: list[tuple[str, str]] = []


def _backend(name: str, factor: float, why_not=None) -> tuple[Backend, Backend]:
    def forward(x):
        calls.append(("forward", name))
        return x * factor

    def backward(grad):
        calls.append(("backward", name))
        return grad * factor

    return Backend(name, "any", forward, why_not), Backend(name, "any", backward, why_not)


def _too_long(x, *_):
    return "takes at most 4 elements" if x.numel() > 4 else None


ROWS = [_backend("triton", 1.0, _too_long), _backend("torch", 1.0)]
REFERENCE = _backend("reference", 1.0)
BACKWARD = Op(
    name="registry_test_backward",
    schema="(Tensor grad) -> Tensor",
    reference=REFERENCE[1].run,
    fake=torch.empty_like,
    backends=[row[1] for row in ROWS],
)
FORWARD = Op(
    name="registry_test",
    schema="(Tensor x) -> Tensor",
    reference=REFERENCE[0].run,
    fake=torch.empty_like,
    backends=[row[0] for row in ROWS],
    backward=lambda ctx, grad: BACKWARD(grad),
)


@pytest.fixture(autouse=True, scope="module")
def remove_test_ops():
    yield
    for name in ("registry_test", "registry_test_backward"):
        OPS.pop(name, None)


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def test_auto_takes_the_first_row_that_can():
    FORWARD(torch.ones(3))
    FORWARD(torch.ones(5))
    assert calls == [("forward", "triton"), ("forward", "torch")]


@pytest.mark.parametrize("name", ["torch", "reference"])
def test_forced_backend_runs_and_ends_with_the_block(name):
    with use_backend(name):
        FORWARD(torch.ones(3))
        assert current_backend() == name
    FORWARD(torch.ones(3))
    assert calls == [("forward", name), ("forward", "triton")]


def test_the_innermost_block_counts_and_an_exception_ends_it():
    with use_backend("torch"):
        with pytest.raises(KeyError), use_backend("reference"):
            raise KeyError
        assert current_backend() == "torch"


def test_forced_and_impossible_lists_every_reason():
    with use_backend("triton"), pytest.raises(BackendError) as caught:
        FORWARD(torch.ones(5))
    message = str(caught.value)
    assert "registry_test: the backend 'triton' is forced" in message
    assert "triton: takes at most 4 elements" in message
    assert "torch: usable" in message and "reference: usable" in message
    with use_backend("cuda"), pytest.raises(BackendError, match="cuda: registry_test has no such"):
        FORWARD(torch.ones(5))


def test_unknown_backend_is_refused_with_the_accepted_names():
    with (
        pytest.raises(ValueError, match="'metal', accepted are auto, reference"),
        use_backend("metal"),
    ):
        pass


def test_explain_says_what_would_run_and_why_not():
    verdicts = FORWARD.explain(torch.ones(5))
    assert [v.backend for v in verdicts] == ["triton", "torch", "reference"]
    assert [v.usable for v in verdicts] == [False, True, True]
    assert verdicts.chosen == "torch"
    lines = str(verdicts).splitlines()
    assert "not usable: takes at most 4 elements [unverified on real hardware]" in lines[0]
    assert lines[1].startswith("-> torch")
    with use_backend("triton"):
        assert FORWARD.explain(torch.ones(5)).chosen is None


def test_explain_takes_names_functions_and_public_arguments():
    x, w = torch.ones(1, 2, 3, 4, 5), torch.ones(2, 2, 1, 1, 1)
    by_name = explain("causal_conv3d", x, w, pad_mode="zeros")
    assert by_name == explain(kernels.causal_conv3d, x, w) == explain(OPS["causal_conv3d"], x, w)
    assert by_name[-1].backend == "reference"
    with pytest.raises(ValueError, match="unknown op 'conv', known are attention"):
        explain("conv", x)


@pytest.mark.parametrize("at_forward", [True, False])
def test_the_backward_runs_on_the_forced_backend(at_forward):
    x = torch.ones(3, requires_grad=True)
    if at_forward:
        with use_backend("reference"):
            y = FORWARD(x)
        y.sum().backward()
    else:
        y = FORWARD(x)
        with use_backend("reference"):
            y.sum().backward()
    assert calls[-1] == ("backward", "reference")


def test_a_choice_holds_in_its_own_thread_only():
    seen = []
    with use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(current_backend()))
        thread.start()
        thread.join()
    assert seen == ["auto"]


def test_a_compiled_graph_does_not_freeze_the_choice():
    compiled = torch.compile(lambda x: FORWARD(x), backend="aot_eager", fullgraph=True)
    compiled(torch.ones(3))
    calls.clear()
    with use_backend("reference"):
        compiled(torch.ones(3))
    assert calls == [("forward", "reference")]


def test_registering_a_name_twice_fails():
    with pytest.raises(RuntimeError, match="same name"):
        Op(
            name="gate_residual",
            schema="(Tensor x) -> Tensor",
            reference=lambda x: x,
            fake=torch.empty_like,
        )
    assert OPS["gate_residual"].backends[-1].name == "reference"


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_environment_variable():
    code = (
        "import torch\n"
        "from opensora_fast.kernels import gate_residual\n"
        "from opensora_fast.kernels.registry import current_backend\n"
        "import sys\n"
        "assert 'triton' not in sys.modules and 'opensora_fast.models' not in sys.modules\n"
        "x = torch.ones(1, 2, 3)\n"
        "try:\n"
        "    gate_residual(x, x[:, 0], x)\n"
        "    print(current_backend())\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    good = run_python(code, OPENSORA_FAST_BACKEND="reference", PYTHONPATH=root)
    assert good.stdout.strip() == "reference", good.stderr
    bad = run_python(code, OPENSORA_FAST_BACKEND="fast", PYTHONPATH=root)
    assert "OPENSORA_FAST_BACKEND: unknown backend 'fast', accepted are" in bad.stdout, bad.stderr
    assert all(name in bad.stdout for name in BACKEND_NAMES)


def test_every_op_is_public_and_has_a_reference_row():
    forwards = sorted(name for name, op in OPS.items() if not op.is_backward)
    assert sorted(kernels.__all__) == kernels.__all__
    # Those of tests are named so.
    assert [n for n in forwards if not n.endswith("_test")] == kernels.__all__
    for op in OPS.values():
        assert op.backends[-1].name == "reference"
    for name in kernels.__all__:
        # An op made of others takes its gradients from theirs.
        own = f"{name}_backward" in OPS or name == "joint_qk_norm_rope"
        assert bool(cases_of(name).DIFFERENTIABLE) == own


def test_the_recorder_sees_the_backward_op():
    x = torch.ones(1, 2, 3, requires_grad=True)
    with _Recorder("gate_residual_backward") as recorder:
        kernels.gate_residual(x, x[:, 0], x).sum().backward()
    assert recorder.arguments is not None and len(recorder.arguments) == 3
