"""Peers compute what ours does, with the same weights: small sizes, both sides in one process."""

from __future__ import annotations

import pytest
import torch

import opensora_fast.kernels
from opensora_fast.bench import gate
from opensora_fast.bench.case import as_tuple
from opensora_fast.bench.eager import EAGER
from opensora_fast.bench.kernels import kernel_cases
from opensora_fast.bench.mmdit import mmdit_cases
from opensora_fast.bench.peers import PEERS, found, why_missing
from opensora_fast.bench.sampler import SUITE, forwards_needed, sampler_cases
from opensora_fast.bench.suites import SUITES, Selection, cases_of_suite
from opensora_fast.bench.vae import vae_cases
from opensora_fast.kernels.testing import cases_of
from opensora_fast.models.sampling import Guidance

SMOKE = [
    case
    for case in (
        *vae_cases("cpu", ("fp32",)),
        *mmdit_cases("mmdit-256", "cpu", ("fp32",)),
        *mmdit_cases("mmdit-768", "cpu", ("fp32",)),
    )
    if case.scale == "smoke"
]


@pytest.mark.parametrize("contender", ["ours", "eager", "diffusers", "diffusers-channels-last"])
@pytest.mark.parametrize("case", SMOKE, ids=lambda case: case.id)
def test_networks_agree_with_the_exact_result(case, contender) -> None:
    if contender not in case.contenders:
        pytest.skip("not a contender here")
    reason = why_missing(contender, "cpu")
    if reason is not None:
        pytest.skip(reason)
    problem = case.load(case)
    inputs = problem.inputs(0)
    with torch.inference_mode():
        outputs = as_tuple(problem.make[contender]()(*inputs)())
        exact = as_tuple(problem.oracle(*inputs))
    assert exact[0].dtype == torch.float64
    assert gate.errors(outputs, exact).rel_l2 < 2e-5
    assert problem.flops > problem.bytes > 0


@pytest.mark.parametrize("op", EAGER)
def test_plain_torch_is_the_same_function_as_the_op(op) -> None:
    module = cases_of(op)
    for case in module.CHECK:
        if case.name in ("empty", "no-frame", "no-token", "one-value", "one-channel", "offset"):
            continue  # nothing to compute, or ill-conditioned
        if getattr(case, "gather", False):
            continue  # what goes along with a video is no business of plain torch
        if case.name.startswith("rows") and op != "conv3d":
            continue  # nor are slabs between repeated borders
        inputs = module.make_inputs(case, "cpu", torch.float64)
        out = as_tuple(EAGER[op](*inputs))
        exact = as_tuple(getattr(opensora_fast.kernels, op)(*inputs))
        assert gate.errors(out, exact).rel_l2 < 1e-7, case.name


def test_backward_peers_give_the_same_gradients() -> None:
    cases = kernel_cases(device="cpu", dtypes=("fp32",), scales=("smoke",), directions=("bwd",))
    for case in cases:
        if "eager" not in case.contenders:
            continue
        problem = case.load(case)
        inputs = problem.inputs(0)
        exact = as_tuple(problem.oracle(*inputs))
        out = as_tuple(problem.make["eager"]()(*inputs)())
        assert gate.errors(out, exact).rel_l2 < 1e-5, case.name


def test_the_loops_agree_and_ours_runs_fewer_forwards() -> None:
    case = sampler_cases("cpu", ("fp32",))[0]
    problem = case.load(case)
    inputs = problem.inputs(0)
    exact = as_tuple(problem.oracle(*inputs))
    forwards = {}
    for name in case.contenders:
        run = problem.make[name]()(*inputs)
        with torch.inference_mode():
            assert gate.errors(as_tuple(run()), exact).rel_l2 < 1e-4, name
        forwards[name] = run.facts["branch_forwards"]
    assert forwards == {"ours": 26, "original": 42, "original+ours": 42}
    assert forwards_needed(Guidance(), 14, "t2v") == 26
    assert forwards_needed(Guidance(), 50, "t2v") == 80
    assert forwards_needed(Guidance(), 50, "i2v_head") == 110
    assert case.suite == SUITE


def test_every_op_is_found_with_a_case_for_a_few_cores() -> None:
    cases = kernel_cases(device="cpu", dtypes=("fp32",), scales=("cpu",))
    names = [case.name for case in cases if case.scale == "cpu"]
    for op in opensora_fast.kernels.__all__:
        assert any(name.startswith(f"{op}/") for name in names), op


def test_all_is_kernels_and_models() -> None:
    selection = Selection(device="cpu")

    def ids(name: str) -> set[str]:
        return {case.id for case in cases_of_suite(name, selection)}

    assert ids("all") == ids("kernels") | ids("models")
    assert ids("models") == {i for name in SUITES["models"].parts for i in ids(name)}
    assert len(ids("cpu-smoke")) >= 2 * (len(EAGER) + 4)


def test_patterns_choose_cases() -> None:
    chosen = cases_of_suite("vae-hunyuan", Selection(device="cpu", patterns=("decode-5x",)))
    assert {case.name for case in chosen} == {"decode-5x128x128"}
    with pytest.raises(ValueError, match="no case matches 'tensor'; cases are decode-5x128x128"):
        cases_of_suite("vae-hunyuan", Selection(device="cpu", patterns=("tensor",)))


def test_peers_say_what_they_lack() -> None:
    assert why_missing("eager", "cpu") is None
    assert why_missing("ours", "cpu") is None
    for name, peer in PEERS.items():
        if peer.needs_cuda:
            assert why_missing(name, "cpu") in (
                f"{peer.package} is not installed",
                f"{peer.package} runs on CUDA devices only",
            )
    assert found()["torch"] == torch.__version__
