"""The autoencoder's stage: images first, on the network that the clips continue."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from opensora_fast.models import HunyuanVAE
from opensora_fast.train.autoencoder import AutoencoderStage
from opensora_fast.train.clips import ClipSource
from opensora_fast.train.config import Phase, RunConfig
from opensora_fast.train.hunyuan_vae import initialize


def early_taps(parameters: dict[str, Tensor]) -> list[Tensor]:
    return [p[:, :, :-1] for p in parameters.values() if p.dim() == 5 and p.shape[2] > 1]


@pytest.fixture
def stage(config: RunConfig, source: ClipSource) -> AutoencoderStage:
    return AutoencoderStage(config.autoencoder, source, 0, torch.float32)


def test_the_image_phase_leaves_early_taps_at_zero(stage: AutoencoderStage) -> None:
    before = {name: p.detach().clone() for name, p in stage.parameters.items()}
    stage.step(0)
    stage.step(1)
    assert len(early_taps(stage.parameters)) > 10
    assert all((taps == 0).all() for taps in early_taps(stage.parameters))
    moved = [name for name, p in stage.parameters.items() if not torch.equal(p, before[name])]
    assert "encoder.conv_in.conv.weight" in moved
    assert "decoder.conv_out.conv.weight" in moved

    stage.step(2)  # the first on clips
    assert any((taps != 0).any() for taps in early_taps(stage.parameters))


def test_a_decoder_phase_goes_on_from_the_averages_and_keeps_the_latents(
    config: RunConfig, source: ClipSource
) -> None:
    last = Phase(
        num_frames=5, batch_size=1, num_steps=3, first_lr=0.5, last_lr=0.1, decoder_only=True
    )
    phases = (*config.autoencoder.phases, last)
    longer = dataclasses.replace(config.autoencoder, phases=phases)
    stage = AutoencoderStage(longer, source, 0, torch.float32)
    for step in range(4):
        stage.step(step)
        stage.ema.update(stage.parameters)
    averages = {name: average.clone() for name, average in stage.ema.averages.items()}
    for step in range(4, 7):
        stage.step(step)
        stage.ema.update(stage.parameters)
    for name, average in averages.items():
        frozen = name.startswith(("encoder.", "quant_conv."))
        assert torch.equal(stage.parameters[name], average) is frozen, name
        if frozen:
            assert torch.equal(stage.ema.averages[name], average), name


def test_on_one_frame_the_initial_network_is_the_per_frame_network(config: RunConfig) -> None:
    """A frame is its own past, so only the sum of a kernel's taps counts: the last one."""
    model, per_frame = (HunyuanVAE(config.autoencoder.model) for _ in range(2))
    for network in (model, per_frame):
        initialize(network, torch.Generator().manual_seed(0))
        with torch.no_grad():
            # Branches that are off would hide the kernels behind them.
            for name, p in network.named_parameters():
                if ".conv2." in name and name.endswith("weight"):
                    p[:, :, -1].normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for p in per_frame.parameters():
            if p.dim() == 5 and p.shape[2] > 1:
                p.copy_(p[:, :, -1:].expand_as(p) / p.shape[2])
    x = torch.rand(1, 3, 1, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    with torch.no_grad():
        y, z = model.decode(model.encode(x, sample_posterior=False)), model.encode_posterior(x)
        expected = per_frame.decode(per_frame.encode(x, sample_posterior=False))
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    assert y.std() > 0.01
    assert (z.logvar < -3).float().mean() > 0.9  # a narrow posterior


def test_a_few_steps_lower_the_loss(config: RunConfig, source: ClipSource) -> None:
    phase = Phase(num_frames=1, batch_size=4, num_steps=8, first_lr=1.0, last_lr=0.5)
    small = dataclasses.replace(
        config.autoencoder, phases=(phase,), image_batch_size=4, real_share=0.0, large_share=0.0
    )
    stage = AutoencoderStage(small, source, 0, torch.float32)
    clips = torch.from_numpy(source.rendered[:16, :1]).permute(0, 4, 1, 2, 3) / 127.5 - 1

    def loss() -> float:
        with torch.no_grad():
            return float(stage._loss(clips, phase, torch.Generator().manual_seed(0))[0])

    before = loss()
    for step in range(stage.num_steps):
        stage.step(step)
    assert loss() < 0.8 * before


def test_batches(source: ClipSource) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    x = source.batch(rng, 4, 5, real_share=0.5)
    assert (x.shape, x.dtype) == ((4, 3, 5, 16, 16), torch.float32)
    assert x.min() >= -1
    assert x.max() <= 1
    large = source.large_batch(rng, 8, 5)
    assert large is not None
    assert large.shape == (2, 3, 5, 32, 32)
    without = ClipSource(5, 16, [], seed=0, rounds=1)
    assert without.large_batch(rng, 8, 5) is None
    # Without real video the whole batch is rendered: every border is one of the grounds.
    assert (without.batch(rng, 4, 1, real_share=1.0)[..., 0, :].std(dim=-1) == 0).all()
