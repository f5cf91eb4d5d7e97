"""The default configurations are the released models: keys, shapes, sizes, whole checkpoints."""

from __future__ import annotations

import dataclasses
import json
import math
import struct

import pytest
import torch

from opensora_fast.models import (
    AutoEncoder2D,
    AutoEncoder2DConfig,
    CheckpointError,
    HunyuanVAE,
    HunyuanVAEConfig,
    MMDiT,
    MMDiTConfig,
    VideoDCAE,
    VideoDCAEConfig,
)
from opensora_fast.models.presets import PRESETS, SystemConfig, preset

FLUX = preset("flux-dev").transformer

RELEASED = {
    "mmdit_11b_i2v": (MMDiT, MMDiTConfig(), 11_891_390_528),
    "mmdit_11b": (MMDiT, MMDiTConfig(cond_embed=False), 11_891_178_560),
    "mmdit_hc": (MMDiT, MMDiTConfig(in_channels=128, patch_size=1), 11_891_971_200),
    "mmdit_flux_dev_img": (MMDiT, FLUX, 11_901_408_320),
    "hunyuan_vae": (HunyuanVAE, HunyuanVAEConfig(), 246_478_803),
    "dc_ae_f32t4c128": (VideoDCAE, VideoDCAEConfig(), 459_462_147),
    "autoencoder_2d": (AutoEncoder2D, AutoEncoder2DConfig(), 83_819_683),
}


@pytest.mark.parametrize("name", RELEASED)
def test_keys_and_shapes(full_size_keys, name) -> None:
    model_class, config, num_parameters = RELEASED[name]
    with torch.device("meta"):
        model = model_class(config)
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == full_size_keys(name)
    assert sum(p.numel() for p in model.parameters()) == num_parameters


def write_sparse(path, shapes: dict[str, list[int]]) -> None:
    """A bf16 checkpoint of full length whose data is a hole in the file."""
    header, offset = {}, 0
    for key, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    packed = json.dumps(header).encode()
    packed += b" " * (-len(packed) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(packed)) + packed)
        file.truncate(8 + len(packed) + offset)


def test_released_transformer_checkpoint_fits(full_size_keys, tmp_path) -> None:
    path = tmp_path / "Open_Sora_v2.safetensors"
    shapes = full_size_keys("mmdit_11b_i2v")
    write_sparse(path, shapes)
    model = MMDiT.from_checkpoint(path, device="meta", dtype=torch.bfloat16)
    assert model.config == MMDiTConfig()
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}

    del shapes["double_blocks.18.txt_mlp.2.bias"]
    shapes["single_blocks.0.linear2.weight"] = [3072, 1]
    write_sparse(path, shapes)
    with pytest.raises(
        CheckpointError, match=r"1 missing: double_blocks\.18\.txt_mlp\.2\.bias; 1 mis"
    ):
        MMDiT.from_checkpoint(path, device="meta")


def test_released_autoencoder_checkpoint_loads(full_size_keys, tmp_path) -> None:
    path = tmp_path / "hunyuan_vae.safetensors"
    write_sparse(path, full_size_keys("hunyuan_vae"))
    model = HunyuanVAE.from_checkpoint(path)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.is_meta for p in model.parameters())


def test_forward_at_the_released_width_on_meta() -> None:
    """All shapes of a 256 px, 129 frame video fit, without a byte of weights."""
    with torch.device("meta"):
        config = dataclasses.replace(MMDiTConfig(), depth=1, depth_single_blocks=1)
        model = MMDiT(config).to(torch.bfloat16)
        num_tokens = 33 * 12 * 21
        out = model(
            img=torch.empty(1, num_tokens, 64, dtype=torch.bfloat16),
            img_ids=torch.empty(1, num_tokens, 3),
            txt=torch.empty(1, 512, 4096, dtype=torch.bfloat16),
            txt_ids=torch.empty(1, 512, 3),
            timesteps=torch.empty(1, dtype=torch.bfloat16),
            y_vec=torch.empty(1, 768, dtype=torch.bfloat16),
            cond=torch.empty(1, num_tokens, 68, dtype=torch.bfloat16),
        )
    assert out.shape == (1, num_tokens, 64)
    assert out.dtype == torch.bfloat16


@pytest.mark.parametrize("use_spatial_tiling", [False, True])
def test_autoencoder_of_the_released_size_on_meta(use_spatial_tiling) -> None:
    with torch.device("meta"):
        model = HunyuanVAE(HunyuanVAEConfig(use_spatial_tiling=use_spatial_tiling))
        z = model.encode(torch.empty(1, 3, 9, 192, 336), sample_posterior=False)
        assert z.shape == (1, 16, 3, 24, 42)
        assert model.decode(z).shape == (1, 3, 9, 192, 336)


def test_deep_compression_autoencoder_of_the_released_size_on_meta() -> None:
    with torch.device("meta"):
        model = VideoDCAE()
        z = model.encode(torch.empty(1, 3, 128, 576, 1024))
        assert z.shape == (1, 128, 32, 18, 32)
        assert model.decode(z).shape == (1, 3, 128, 576, 1024)
        assert model.decode(z, memory_budget=40 * 2**30).shape == (1, 3, 128, 576, 1024)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_consistent(name) -> None:
    assert isinstance(preset(name), SystemConfig)


def test_a_preset_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="there is no preset 'open-sora-v3'; presets are open-so"):
        preset("open-sora-v3")


def test_system_of_networks_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="latent has 8 channels, the transformer takes 16"):
        SystemConfig(vae=HunyuanVAEConfig(latent_channels=8), transformer=MMDiTConfig())
