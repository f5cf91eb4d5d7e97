"""The rows of attention that hand over to other libraries: arguments, layouts, reasons.

Where a library is not installed (or there is no GPU), a stand-in takes its place.
"""

from __future__ import annotations

import importlib.machinery
import sys
import threading
import types

import pytest
import torch

from opensora_fast.kernels.attention import _rivals, _torch, reference
from opensora_fast.kernels.registry import OPS, explain, use_backend


def inputs(dtype=torch.float16, head_dim=64, queries=5, keys=7):
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn((2, n, 3, head_dim), generator=generator).to(dtype)
        for n in (queries, keys, keys)
    )


@pytest.fixture
def hopper(monkeypatch):
    monkeypatch.setattr(_rivals, "capability", lambda device: 90)


@pytest.fixture
def install(monkeypatch):
    """Put a module of the given functions in place of a library."""

    def put(name, **functions):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        for key, function in functions.items():
            setattr(module, key, function)
        monkeypatch.setitem(sys.modules, name, module)
        _rivals._installed.cache_clear()

    yield put
    _rivals._installed.cache_clear()


def check(results, q, k, v):
    for got, want in zip(results, reference.forward(q, k, v), strict=True):
        assert got.is_contiguous() and got.dtype == want.dtype
        torch.testing.assert_close(got, want)


def test_flash3_is_asked_for_the_log_sum_exp(install, hopper):
    calls = []

    def flash_attn_func(q, k, v, softmax_scale=None, causal=False, return_attn_probs=False):
        calls.append(return_attn_probs)
        return reference.forward(q, k, v)

    install("flash_attn_interface", flash_attn_func=flash_attn_func)
    arguments = inputs()
    assert _rivals.flash3_why_not(*arguments) is None
    check(_rivals.flash3_forward(*arguments), *arguments)
    assert calls == [True]


def test_the_first_flash3_knows_no_such_argument(install, hopper):
    install("flash_attn_interface", flash_attn_func=lambda q, k, v: reference.forward(q, k, v))
    arguments = inputs()
    check(_rivals.flash3_forward(*arguments), *arguments)


def test_flash2_may_pad_the_log_sum_exp(install, hopper):
    def flash_attn_func(q, k, v, dropout_p=0.0, *, return_attn_probs):
        assert return_attn_probs
        out, lse = reference.forward(q, k, v)
        return out, torch.nn.functional.pad(lse, (0, 128 - lse.shape[2])), None

    install("flash_attn", flash_attn_func=flash_attn_func)
    arguments = inputs()
    assert _rivals.flash2_why_not(*arguments) is None
    check(_rivals.flash2_forward(*arguments), *arguments)


def test_sage_gets_tokens_before_heads_and_dense_channels(install, hopper, monkeypatch):
    def sageattn(q, k, v, tensor_layout="HND", is_causal=True, return_lse=False):
        assert (tensor_layout, is_causal, return_lse) == ("NHD", False, True)
        assert q.stride(3) == 1
        return reference.forward(q, k, v)

    install("sageattention", sageattn=sageattn)
    monkeypatch.setattr(_rivals, "_major_version", lambda distribution: 2)
    q, k, v = inputs()
    q = q.transpose(1, 3).contiguous().transpose(1, 3)
    assert "not lossless" in _rivals.sage_why_not(q, k, v)
    with use_backend("sage"):
        assert _rivals.sage_why_not(q, k, v) is None
    check(_rivals.sage_forward(q, k, v), q, k, v)


def test_an_old_sage_is_refused(install, hopper, monkeypatch):
    install("sageattention")
    monkeypatch.setattr(_rivals, "_major_version", lambda distribution: 1)
    with use_backend("sage"):
        assert _rivals.sage_why_not(*inputs()) == "needs sageattention 2 or later"


@pytest.mark.parametrize(
    ("row", "module"),
    [("flash3", "flash_attn_interface"), ("flash2", "flash_attn"), ("sage", "sageattention")],
)
def test_what_cannot_be_served_is_said(row, module, install, monkeypatch):
    why_not = getattr(_rivals, f"{row}_why_not")
    capability = [90]
    monkeypatch.setattr(_rivals, "capability", lambda device: capability[0])
    monkeypatch.setattr(_rivals, "_major_version", lambda distribution: 2)
    with use_backend("sage"):
        monkeypatch.setitem(sys.modules, module, None)
        _rivals._installed.cache_clear()
        assert "is not installed" in why_not(*inputs())
        install(module)
        assert "fp16 and bf16 tensors, not torch.float32" in why_not(*inputs(torch.float32))
        assert "channels" in why_not(*inputs(head_dim=72 if row == "sage" else 65))
        assert why_not(*(x[:0] for x in inputs())) == "the tensor is empty"
        capability[0] = 75
        assert "compute capability" in why_not(*inputs())


def test_no_rival_is_required_or_chosen_on_a_cpu():
    verdicts = explain("attention", *inputs())
    assert verdicts.chosen in ("torch", "reference")
    for name in ("flash3", "flash2", "sage"):
        verdict = next(v for v in verdicts if v.backend == name)
        assert not verdict.usable and verdict.verified is None


def test_the_order_of_preference_on_a_gpu():
    """The fastest first; what is not lossless last. Gradients: the one without atomics first."""
    on_gpu = [row.name for row in OPS["attention"].backends if row.device_type != "cpu"]
    assert on_gpu == ["flash3", "torch", "triton", "flash2", "sage", "reference"]
    backward = [row.name for row in OPS["attention_backward"].backends if row.device_type != "cpu"]
    assert backward == ["triton", "torch", "reference"]


@pytest.mark.parametrize(
    ("choice", "dtype", "kernel"),
    [
        (3, torch.float16, "cudnn"),
        (1, torch.float16, "flash"),
        (0, torch.float16, "flash"),
        (2, torch.float32, "efficient"),
    ],
)
def test_torch_says_which_of_its_kernels_runs(choice, dtype, kernel, monkeypatch):
    calls = []

    def stand_in(name, *shape):
        def run(q, k, v, *rest):
            calls.append((name, rest))
            out, lse = reference.forward(*(x.transpose(1, 2) for x in (q, k, v)))
            return out.transpose(1, 2), lse.reshape(*lse.shape, *shape), None

        return run

    monkeypatch.setattr(torch, "_fused_sdp_choice", lambda q, k, v: choice)
    fakes = {
        "_scaled_dot_product_cudnn_attention": stand_in("cudnn", 1),
        "_scaled_dot_product_flash_attention": stand_in("flash"),
        "_scaled_dot_product_efficient_attention": stand_in("efficient"),
    }
    monkeypatch.setattr(_torch, "aten", types.SimpleNamespace(**fakes))
    arguments = inputs(dtype)
    check(_torch.cuda_forward(*arguments), *arguments)
    rest = () if kernel == "flash" else (None, True)
    assert calls == [(kernel, rest)]


def test_torch_refuses_heads_its_cuda_kernels_cannot_read():
    assert "heads of a multiple of 16 bytes" in _torch.cuda_why_not(*inputs(head_dim=5))
    assert _torch.cuda_why_not(*inputs(head_dim=72)) is None
    assert "fp64" in _torch.cuda_why_not(*inputs(torch.float64))


def test_the_switch_against_atomics_is_put_back():
    assert not torch.are_deterministic_algorithms_enabled()
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with _torch._without_atomics():
            inside.set()
            leave.wait(10)

    def enter():
        with _torch._without_atomics():
            pass

    threads = [threading.Thread(target=hold), threading.Thread(target=enter)]
    threads[0].start()
    assert inside.wait(10)
    assert torch.are_deterministic_algorithms_enabled()
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join()
    assert not torch.are_deterministic_algorithms_enabled()
