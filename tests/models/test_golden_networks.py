"""Every network gives the original's outputs on the golden cases."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from opensora_fast.models import (
    AutoEncoder2D,
    AutoEncoder2DConfig,
    HunyuanVAE,
    HunyuanVAEConfig,
    MMDiT,
    MMDiTConfig,
    VideoDCAE,
    VideoDCAEConfig,
)
from opensora_fast.models.mmdit import latent_position_ids, text_position_ids

MMDIT_CASES = ["mmdit_liger_cond", "mmdit_fused_guidance", "mmdit_hc_patch1"]


@pytest.fixture(params=MMDIT_CASES)
def mmdit_case(request, golden):
    case = golden(request.param)
    model = case.fill(MMDiT(MMDiTConfig(**case.config)))
    inputs = case.case["inputs"]
    batch, grid, guidance = inputs["B"], tuple(inputs["grid"]), inputs["guidance"]
    arguments = {name: case.input(name, shape) for name, shape in inputs["drawn"].items()}
    arguments |= {
        "img_ids": latent_position_ids(batch, grid, patch_size=1),
        "txt_ids": text_position_ids(batch, inputs["L_txt"]),
        "guidance": None if guidance is None else torch.full((batch,), guidance),
    }
    timesteps = torch.tensor(inputs["timesteps"])
    return case, model, arguments, timesteps


@torch.no_grad()
def test_mmdit(mmdit_case) -> None:
    case, model, arguments, timesteps = mmdit_case
    streams = {}

    def keep(module, inputs, outputs):
        streams["double0_img"], streams["double0_txt"] = outputs

    with model.double_blocks[0].register_forward_hook(keep):
        out = model(**arguments, timesteps=timesteps)
    constant = {k: v for k, v in arguments.items() if k != "img"}
    case.check("vec", model.embed_conditioning(timesteps, model.prepare(**constant)))
    for name, stream in streams.items():
        case.check(name, stream)
    case.check("out", out)


@torch.no_grad()
def test_prepared_context_changes_no_bit(mmdit_case) -> None:
    _, model, arguments, timesteps = mmdit_case
    context = model.prepare(**{k: v for k, v in arguments.items() if k != "img"})
    plain = model(**arguments, timesteps=timesteps)
    assert torch.equal(plain, model(**arguments, timesteps=timesteps, context=context))


@torch.no_grad()
@pytest.mark.parametrize("name", ["hunyuan_vae_small", "hunyuan_vae_tiled"])
def test_hunyuan_vae(golden, name) -> None:
    case = golden(name)
    model = case.fill(HunyuanVAE(HunyuanVAEConfig(**case.config)))
    for key, shape in case.case["inputs"].items():
        size = key.removeprefix("x")
        z = model.encode(case.input(key, shape), sample_posterior=False)
        assert tuple(z.shape[2:]) == model.latent_size(*shape[2:])
        case.check(f"z{size}", z)
        case.check(f"y{size}", model.decode(z))


def video_dc_ae_config(values: dict[str, Any]) -> VideoDCAEConfig:
    """The configuration of a golden case, whose nested fields are written `a.b=c d=[e,f]`."""
    values = dict(values)
    given = dict(item.split("=") for item in values.pop("dotlist").split())

    def items(name: str) -> list[str]:
        return given[name].strip("[]").split(",")

    return VideoDCAEConfig(
        latent_channels=int(given["latent_channels"]),
        encoder_widths=items("encoder.width_list"),
        encoder_depths=items("encoder.depth_list"),
        decoder_widths=items("decoder.width_list"),
        decoder_depths=items("decoder.depth_list"),
        block_types=items("encoder.block_type"),
        temporal_downsample=[item == "True" for item in items("encoder.temporal_downsample")],
        **values,
    )


@torch.no_grad()
@pytest.mark.parametrize("name", ["dc_ae_small", "dc_ae_tiled"])
def test_video_dc_ae(golden, name) -> None:
    case = golden(name)
    model = case.fill(VideoDCAE(video_dc_ae_config(case.config)))
    for key, shape in case.case["inputs"].items():
        size = key.removeprefix("x")
        x = case.input(key, shape)
        z = model.encode(x)
        assert tuple(z.shape[2:]) == model.latent_size(*shape[2:])
        case.check(f"z{size}", z)
        case.check(f"y{size}", model.decode(z))
        # The model is set to tiles where the case has them; the argument asks for the same.
        tiling = "original" if model.use_spatial_tiling else "none"
        assert torch.equal(model.encode(x, tiling=tiling), z)


@torch.no_grad()
def test_autoencoder_2d(golden) -> None:
    case = golden("autoencoder_2d")
    values = {k: v for k, v in case.config.items() if k not in ("resolution", "sample", "out_ch")}
    model = case.fill(
        AutoEncoder2D(AutoEncoder2DConfig(**values, out_channels=case.config["out_ch"]))
    )
    x = case.input("x", case.case["inputs"]["x"])
    z = model.encode(x, sample_posterior=False)
    assert tuple(z.shape[2:]) == model.latent_size(*x.shape[2:])
    case.check("z", z)
    case.check("y", model.decode(z))
    # Frames are a batch: an image alone is encoded as it is within a video.
    alone = model.encode(x[:, :, 1], sample_posterior=False)
    torch.testing.assert_close(alone, z[:, :, 1])
