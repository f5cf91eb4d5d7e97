"""Properties of the two autoencoders beyond the golden cases."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from opensora_fast.models import AutoEncoder2D, AutoEncoder2DConfig, HunyuanVAE, HunyuanVAEConfig
from opensora_fast.models.posterior import DiagonalGaussian

CONFIG = HunyuanVAEConfig(
    latent_channels=4, block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=4
)
IMAGE_CONFIG = AutoEncoder2DConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1, z_channels=4)


def video(frames: int, height: int = 16, width: int = 24, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randn(batch, 3, frames, height, width, generator=generator).clamp(-1, 1)


@pytest.fixture
def vae(fill_randomly) -> HunyuanVAE:
    return fill_randomly(HunyuanVAE(CONFIG))


@torch.no_grad()
@pytest.mark.parametrize(("frames", "decoded"), [(1, 1), (2, 1), (4, 1), (5, 5), (8, 5), (17, 17)])
def test_frames_that_come_back(vae, frames, decoded) -> None:
    z = vae.encode(video(frames), sample_posterior=False)
    assert z.shape[1:] == (4, *vae.latent_size(frames, 16, 24))
    assert vae.decode(z).shape == (1, 3, decoded, 16, 24)


def test_an_autoencoder_says_what_its_latents_are(vae) -> None:
    image = AutoEncoder2D(dataclasses.replace(IMAGE_CONFIG, scale_factor=0.5, shift_factor=0.25))
    for model, channels, time, space in ((vae, 4, 4, 8), (image, 4, 1, 2)):
        assert model.z_channels == channels
        assert (model.time_compression_ratio, model.spatial_compression_ratio) == (time, space)
        assert model.scale_factor == model.config.scale_factor
        assert model.shift_factor == model.config.shift_factor
        with pytest.raises(AttributeError):
            model.scale_factor = 1.0


@torch.no_grad()
def test_ratio_8_shrinks_time_like_space(fill_randomly) -> None:
    vae = fill_randomly(HunyuanVAE(dataclasses.replace(CONFIG, time_compression_ratio=8)))
    z = vae.encode(video(17), sample_posterior=False)
    assert z.shape[2:] == vae.latent_size(17, 16, 24) == (3, 2, 3)
    assert vae.decode(z).shape == (1, 3, 17, 16, 24)


@torch.no_grad()
def test_tiling_leaves_alone_what_fits_into_one_tile(vae, fill_randomly) -> None:
    tiled = fill_randomly(
        HunyuanVAE(dataclasses.replace(CONFIG, use_spatial_tiling=True, use_temporal_tiling=True))
    )
    x = video(17)
    z = vae.encode(x, sample_posterior=False)
    assert torch.equal(tiled.encode(x, sample_posterior=False), z)
    assert torch.equal(tiled.decode(z), vae.decode(z))


@torch.no_grad()
@pytest.mark.parametrize("size", [(9, 48, 40), (21, 16, 16)])
def test_tiles_add_up_to_the_whole_size(fill_randomly, size) -> None:
    config = dataclasses.replace(
        CONFIG, sample_size=32, sample_tsize=16, use_spatial_tiling=True, use_temporal_tiling=True
    )
    tiled = fill_randomly(HunyuanVAE(config))
    z = tiled.encode(video(*size), sample_posterior=False)
    assert tuple(z.shape[2:]) == tiled.latent_size(*size)
    assert tuple(tiled.decode(z).shape[2:]) == size
    # Tiling is a switch on the module, too.
    tiled.use_spatial_tiling = tiled.use_temporal_tiling = False
    whole = fill_randomly(HunyuanVAE(CONFIG))
    assert torch.equal(tiled.decode(z), whole.decode(z))
    assert not torch.equal(z, whole.encode(video(*size), sample_posterior=False))


@torch.no_grad()
def test_samples_do_not_meet(vae) -> None:
    x = torch.cat([video(5), video(5).flip(3)])
    z = vae.encode(x, sample_posterior=False)
    torch.testing.assert_close(vae.encode(x[1:], sample_posterior=False), z[1:])
    torch.testing.assert_close(vae.decode(z)[1:], vae.decode(z[1:]))


@torch.no_grad()
def test_scale_and_shift(vae, fill_randomly) -> None:
    scaled = fill_randomly(
        HunyuanVAE(dataclasses.replace(CONFIG, scale_factor=0.5, shift_factor=-0.8))
    )
    x = video(5)
    z = vae.encode(x, sample_posterior=False)
    rescaled = scaled.encode(x, sample_posterior=False)
    torch.testing.assert_close(rescaled, 0.5 * (z / 0.476986 + 0.8))
    torch.testing.assert_close(scaled.decode(rescaled), vae.decode(z), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["video", "image"])
def test_posterior_noise_follows_the_generator(vae, fill_randomly, kind) -> None:
    model = vae if kind == "video" else fill_randomly(AutoEncoder2D(IMAGE_CONFIG))

    def encode(seed: int) -> torch.Tensor:
        return model.encode(video(5), generator=torch.Generator().manual_seed(seed))

    with torch.no_grad():
        assert torch.equal(encode(1), encode(1))
        assert not torch.equal(encode(1), encode(2))
        torch.manual_seed(1)
        assert torch.equal(model.encode(video(5)), encode(1))


def test_training_forward(vae) -> None:
    x = video(5)
    decoded, posterior, z = vae(x, generator=torch.Generator().manual_seed(0))
    expected = vae.encode(x, generator=torch.Generator().manual_seed(0))
    assert torch.equal(z, expected)
    assert torch.equal(decoded, vae.decode(z))
    (decoded.square().mean() + posterior.kl().mean()).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in vae.parameters())
    assert vae.last_layer is vae.decoder.conv_out.conv.weight


def test_backward_under_autocast_equals_backward_after_it(vae) -> None:
    gradients = []
    for inside in (True, False):
        vae.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = vae(video(5), sample_posterior=False)[0].float().square().mean()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        gradients.append([p.grad.clone() for p in vae.parameters()])
    for inner, outer in zip(*gradients, strict=True):
        assert inner.dtype == torch.float32
        torch.testing.assert_close(inner, outer)


@torch.no_grad()
def test_bf16_is_close_to_fp32(vae) -> None:
    x = video(9).bfloat16()
    exact = vae.bfloat16().float().encode(x.float(), sample_posterior=False)
    rounded = vae.bfloat16().encode(x, sample_posterior=False)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().max() < 0.1 * exact.std()


def test_attention_in_the_middle_can_be_left_out() -> None:
    vae = HunyuanVAE(dataclasses.replace(CONFIG, mid_block_add_attention=False))
    assert not any("attentions" in key for key in vae.state_dict())
    assert vae(video(1))[0].shape == (1, 3, 1, 16, 24)


def test_posterior() -> None:
    moments = torch.tensor([[1.0, -2.0, 0.5, -40.0]]).view(1, 4, 1)
    posterior = DiagonalGaussian(moments)
    assert posterior.logvar.flatten().tolist() == [0.5, -30.0]
    assert posterior.mode() is posterior.mean
    normal = torch.distributions.Normal(posterior.mean.double(), posterior.std.double())
    unit = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(normal, unit).sum((1, 2))
    torch.testing.assert_close(posterior.kl().double(), expected, rtol=1e-5, atol=0)
    other = DiagonalGaussian(torch.zeros(1, 4, 1))
    torch.testing.assert_close(posterior.kl(other), posterior.kl())
    x = torch.full((1, 2, 1), 0.3)
    first = DiagonalGaussian(moments[:, ::2])
    expected = -torch.distributions.Normal(first.mean, first.std).log_prob(x[:, :1]).sum((1, 2))
    torch.testing.assert_close(first.nll(x[:, :1]), expected)
    with pytest.raises(ValueError, match=r"moments must be \[B, 2 C, \.\.\.\]"):
        DiagonalGaussian(torch.zeros(1, 3, 1))


def test_training_forward_of_the_image_autoencoder(fill_randomly) -> None:
    model = fill_randomly(AutoEncoder2D(IMAGE_CONFIG))
    decoded, posterior, z = model(video(2))
    assert decoded.shape == (1, 3, 2, 16, 24)
    assert z.shape == (1, 4, 2, 8, 12)
    assert posterior.kl().shape == (2,)
    (decoded.square().mean() + posterior.kl().mean()).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: HunyuanVAE(CONFIG).encode(torch.zeros(3, 5, 16, 16)), r"expected \[B, 3, T, H"),
        (lambda: HunyuanVAE(CONFIG).encode(torch.zeros(1, 3, 0, 16, 16)), "at least one frame"),
        (lambda: HunyuanVAE(CONFIG).decode(torch.zeros(1, 3, 5, 2, 2)), r"expected \[B, 4, T, H"),
        (lambda: AutoEncoder2D(IMAGE_CONFIG).encode(torch.zeros(1, 4, 8, 8)), r"or \[B, 3, T"),
    ],
)
def test_inputs_of_another_shape(call, said) -> None:
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"time_compression_ratio": 2}, "time_compression_ratio must be 4 or 8, got 2"),
        ({"spatial_compression_ratio": 6}, "must be a power of two, got 6"),
        ({"time_compression_ratio": 8, "spatial_compression_ratio": 4}, "needs spatial_compres"),
        ({"block_out_channels": (8, 8)}, "2 levels of block_out_channels cannot compress 8 times"),
        ({"norm_num_groups": 3}, "width 8 is not a multiple of norm_num_groups 3"),
        ({"tile_overlap_factor": 1.0}, r"must lie in \[0, 1\), got 1.0"),
        ({"latent_channels": 0}, "latent_channels must be positive, got 0"),
    ],
)
def test_configurations_that_contradict_themselves(values, said) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(CONFIG, **values)


def test_image_configuration_needs_groups_of_32() -> None:
    with pytest.raises(ValueError, match="width 48 is not a multiple of 32"):
        AutoEncoder2DConfig(ch=48)
