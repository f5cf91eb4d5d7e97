"""Weights of the C++ convolution are packed once, and again when they change."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest
import torch

from opensora_fast.kernels import causal_conv3d, native
from opensora_fast.kernels.common import conv3d
from opensora_fast.kernels.registry import use_backend

pytestmark = pytest.mark.skipif(native.extension() is None, reason="no native extension")

CHANNELS = 16


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(1, CHANNELS, 3, 4, 5)


@pytest.fixture
def weight():
    torch.manual_seed(1)
    return torch.randn(CHANNELS, CHANNELS, 3, 3, 3) / 20


def on_cpu(x, weight, **kwargs):
    with use_backend("cpu"):
        return causal_conv3d(x, weight, **kwargs)


def assert_right(x, weight):
    with use_backend("reference"):
        expected = causal_conv3d(x, weight)
    torch.testing.assert_close(on_cpu(x, weight), expected, rtol=1e-4, atol=2e-5)


def test_a_second_call_packs_nothing(x, weight, monkeypatch):
    on_cpu(x, weight)
    size = conv3d.packed_bytes(weight)
    monkeypatch.setattr(conv3d, "Packed", None)  # a call that packs would need it
    on_cpu(x, weight)
    assert 0 < size == conv3d.packed_bytes(weight)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.mul_(2.0),
        lambda w: w.data.mul_(2.0),  # not counted by the tensor's version
        lambda w: w.copy_(torch.randn_like(w)),
        lambda w: setattr(w, "data", w.data.flip(0)),
    ],
    ids=["in place", "behind its back", "copied into", "replaced"],
)
def test_a_changed_weight_is_packed_again(x, weight, change):
    assert_right(x, weight)
    with torch.no_grad():
        change(weight)
    assert_right(x, weight)


def test_a_training_step_is_seen(x, weight):
    weight.requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=1e-4)
    for _ in range(3):
        optimizer.zero_grad()
        causal_conv3d(x, weight).square().sum().backward()
        optimizer.step()
        assert_right(x, weight.detach())
        assert_right(x, weight)


def test_weights_of_inference_mode(x, weight):
    with torch.inference_mode():
        frozen = weight.clone()
        assert_right(x, frozen)
        frozen.mul_(3.0)
        assert_right(x, frozen)


def test_every_use_of_a_weight_has_a_form_of_its_own(x, weight):
    for kwargs in ({}, {"stride": (1, 2, 2)}, {"pad_mode": "zeros"}, {"pad_mode": "valid"}):
        with use_backend("reference"):
            expected = causal_conv3d(x, weight, **kwargs)
        torch.testing.assert_close(on_cpu(x, weight, **kwargs), expected, rtol=1e-4, atol=2e-5)


def test_packed_weights_go_with_the_weight(x):
    weight = torch.randn(CHANNELS, CHANNELS, 3, 3, 3)
    on_cpu(x, weight)
    before = len(conv3d._cache)
    del weight
    gc.collect()
    assert len(conv3d._cache) == before - 1


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512", "avx512_bf16", "amx"])
def test_a_forced_instruction_set(isa):
    if isa not in native.extension().cpu_isas():
        pytest.skip(f"this processor does not have {isa}")
    code = (
        "import torch, opensora_fast.kernels as k\n"
        "from opensora_fast.kernels.registry import use_backend\n"
        "x, w = torch.ones(1, 16, 2, 3, 3), torch.ones(16, 16, 3, 3, 3)\n"
        "with use_backend('cpu'):\n"
        "    print(float(k.causal_conv3d(x, w).sub(16 * 27).abs().max()) < 1e-2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OPENSORA_FAST_CPU_ISA": isa},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.strip() == "True", done.stderr


def test_weights_lie_alike_whatever_is_around_the_video(x, weight):
    on_cpu(x, weight)
    once = conv3d.packed_bytes(weight)
    on_cpu(x, weight, pad_mode="replicate_rows")
    assert conv3d.packed_bytes(weight) == once > 0
    on_cpu(x, weight, stride=(1, 2, 2))  # another algorithm
    assert conv3d.packed_bytes(weight) > once
