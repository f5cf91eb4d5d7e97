"""Muon and the average of weights."""

from __future__ import annotations

import pytest
import torch

from opensora_fast.train.optim import (
    Ema,
    Muon,
    muon_and_adamw,
    orthogonalize,
    scale_learning_rates,
)


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6), (1, 5)])
def test_singular_values_become_about_one(shape: tuple[int, int]) -> None:
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    # A spread of a hundred between the largest and the smallest singular value.
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    x = u @ torch.diag_embed(torch.logspace(0, -2, s.shape[1]).expand_as(s)) @ v
    y = orthogonalize(x)
    assert y.dtype == torch.bfloat16
    assert y.shape == x.shape
    singular = torch.linalg.svdvals(y.float())
    assert singular.min() > 0.3
    assert singular.max() < 1.3
    # The singular vectors stay: u^T y v is diagonal.
    rest = u.mT @ y.float() @ v.mT
    assert (rest - torch.diag_embed(rest.diagonal(dim1=1, dim2=2))).abs().max() < 0.05


def test_orthogonalize_ignores_the_scale() -> None:
    x = torch.randn(1, 5, 7, generator=torch.Generator().manual_seed(1))
    # A power of two scales without rounding.
    torch.testing.assert_close(orthogonalize(x * 1024.0), orthogonalize(x), rtol=0, atol=1e-2)


def test_one_step_of_muon() -> None:
    """One step by the formula, for a kernel seen as a matrix of more rows than columns."""
    g = torch.Generator().manual_seed(2)
    p = torch.randn(8, 2, 1, 2, generator=g).requires_grad_()
    before, p.grad = p.detach().clone(), torch.randn(p.shape, generator=g)
    Muon([p], lr=0.1, momentum=0.9, weight_decay=0.5).step()
    momentum = 0.1 * p.grad
    nesterov = 0.1 * p.grad + 0.9 * momentum
    update = orthogonalize(nesterov.view(1, 8, 4)).float().view_as(p)
    expected = before * (1 - 0.1 * 0.5) - 0.1 * 2**0.5 * update
    torch.testing.assert_close(p.detach(), expected, rtol=0, atol=1e-2)
    assert (p.detach() - before * 0.95).abs().max() > 0.02


def test_muon_lowers_a_loss_of_equal_and_unequal_shapes() -> None:
    g = torch.Generator().manual_seed(3)
    x, target = torch.randn(64, 6, generator=g), torch.randn(64, 6, generator=g)
    layers = [torch.randn(6, 6, generator=g).mul(0.3).requires_grad_() for _ in range(2)]
    layers.append(torch.randn(6, 6, 1, generator=g).mul(0.3).requires_grad_())
    unused = torch.ones(3, 3, requires_grad=True)
    muon = Muon([*layers, unused], lr=0.02)
    losses = []
    for _ in range(40):
        loss = (x @ layers[0] @ layers[1] @ layers[2][..., 0] - target).square().mean()
        losses.append(loss.item())
        muon.zero_grad()
        loss.backward()
        muon.step()
    assert losses[-1] < 0.9 * losses[0]
    assert (unused == 1).all()


def test_muon_refuses_a_closure() -> None:
    with pytest.raises(ValueError, match="closures are not supported"):
        Muon([torch.ones(2, 2, requires_grad=True)]).step(lambda: None)


def test_parameters_are_shared_out_by_axes_and_name() -> None:
    shapes = {
        "conv_in.weight": (4, 3, 3),
        "a.weight": (4, 4),
        "a.bias": (4,),
        "b.weight": (2, 3, 1),
        "depthwise.weight": (4, 1, 3),
    }
    parameters = {name: torch.zeros(shape).requires_grad_() for name, shape in shapes.items()}
    muon, adamw = muon_and_adamw(parameters, ("conv_in",), muon_lr=0.5, adamw_lr=0.25)
    names = {id(p): name for name, p in parameters.items()}
    given = [[names[id(p)] for p in o.param_groups[0]["params"]] for o in (muon, adamw)]
    assert given == [["a.weight", "b.weight"], ["conv_in.weight", "a.bias", "depthwise.weight"]]

    for factor in (0.5, 2.0):  # always of the first rate, not of the last
        scale_learning_rates((muon, adamw), factor)
        assert muon.param_groups[0]["lr"] == 0.5 * factor
        assert adamw.param_groups[0]["lr"] == 0.25 * factor


def test_the_average_follows_its_formula() -> None:
    p = {"w": torch.zeros(2, dtype=torch.bfloat16)}
    ema = Ema(p, decay=0.5)
    expected = 0.0
    for n in range(1, 21):
        p["w"].fill_(float(n))
        ema.update(p)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert ema.averages["w"].dtype == torch.float32
    torch.testing.assert_close(ema.averages["w"], torch.full((2,), expected))
