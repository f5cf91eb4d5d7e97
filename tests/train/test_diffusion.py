"""The transformer's stage: what it draws, and that it learns."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from opensora_fast.train.config import RunConfig
from opensora_fast.train.diffusion import DiffusionData, DiffusionStage
from opensora_fast.train.shapes import training_scenes


class Witness(nn.Module):
    """Stands for the transformer and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, Tensor]] = []

    def forward(
        self, img: Tensor, img_ids: Any, txt: Tensor, txt_ids: Any, t: Tensor, vec: Tensor,
        *, cond: Tensor,
    ) -> Tensor:  # fmt: skip
        self.calls.append({"img": img, "txt": txt, "t": t, "vec": vec, "cond": cond})
        return torch.zeros_like(img)

    def all(self, name: str) -> Tensor:
        return torch.cat([call[name] for call in self.calls])


@pytest.fixture
def witness(config: RunConfig, diffusion_data: DiffusionData) -> Witness:
    """What 100 steps give to the network, where text and images carry their row's number."""
    scenes = len(training_scenes())
    rows = torch.arange(scenes + 1, dtype=torch.float32)
    data = dataclasses.replace(
        diffusion_data,
        images=(1 + rows[:-1]).half().view(-1, 1, 1, 1, 1, 1).expand(-1, 1, 4, 1, 2, 2),
        txt=rows.view(-1, 1, 1).expand(-1, 6, 16),
        vec=rows.view(-1, 1).expand(-1, 16),
    )
    stage = DiffusionStage(config.diffusion, data, 0, torch.float32)
    witness = Witness()
    stage.model = witness  # type: ignore[assignment]
    with torch.no_grad():
        for step in range(100):
            rng = np.random.default_rng((0, 4, step))
            stage._loss(rng, torch.Generator().manual_seed(step))
    return witness


def test_only_training_sentences_can_be_drawn(witness: Witness) -> None:
    """The data hold the training sentences and the empty one; there is no row for another."""
    drawn = witness.all("vec")[:, 0]
    empty = len(training_scenes())
    assert drawn.max() == empty
    assert 0.05 < (drawn == empty).float().mean() < 0.16  # text dropout is 0.1
    assert torch.equal(witness.all("txt")[:, 0, 0], drawn)
    assert len(drawn[drawn < empty].unique()) > 200


def test_a_first_frame_is_that_of_its_own_sentence(witness: Witness) -> None:
    cond = witness.all("cond")  # tokens [B, L, 4 mask + 16 reference values], first frame first
    given = cond[:, 0, 0] == 1
    assert 0.18 < given.float().mean() < 0.32  # the share is 0.25
    half = cond.shape[1] // 2
    assert (cond[~given] == 0).all()
    assert (cond[given][:, :half, :4] == 1).all()
    assert (cond[given][:, half:] == 0).all()
    drawn = witness.all("vec")[given, 0]
    image = cond[given][:, 0, 4] - 1
    has_text = drawn < len(training_scenes())
    assert torch.equal(image[has_text], drawn[has_text])


def test_times_lie_towards_the_noise(witness: Witness) -> None:
    t = witness.all("t")
    assert ((t > 0) & (t < 1)).all()
    # The logistic normal's median 1/2, shifted by 2: 2/3.
    assert 0.6 < t.median() < 0.73


def test_a_few_steps_lower_the_loss(config: RunConfig, diffusion_data: DiffusionData) -> None:
    small = dataclasses.replace(
        config.diffusion, num_steps=20, batch_size=16, adamw_lr=1e-2, decay_from=0.9
    )
    data = dataclasses.replace(diffusion_data, clips=torch.full_like(diffusion_data.clips, 2.0))
    stage = DiffusionStage(small, data, 0, torch.float32)

    def loss() -> float:
        with torch.no_grad():
            rng = np.random.default_rng(99)
            return float(stage._loss(rng, torch.Generator().manual_seed(99)))

    before = loss()
    assert 4.5 < before < 5.5  # the output begins at zero: noise of variance one, data of two
    for step in range(stage.num_steps):
        stage.step(step)
    assert loss() < 0.6 * before
