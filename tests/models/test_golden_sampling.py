"""The sampling loop gives the original's outputs, with as few forwards as the result needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from opensora_fast.models import MMDiT, MMDiTConfig
from opensora_fast.models.mmdit import pack
from opensora_fast.models.sampling import (
    Guidance,
    denoise,
    get_schedule,
    prepare_condition,
    restore_references,
)
from opensora_fast.models.sizes import image_size

SCHEDULE = json.loads((Path(__file__).parent.parent / "golden" / "schedule.json").read_text())

# At 14 steps 12 are guided: two branches for text alone, three with a reference.
CASES = {"sample_t2v": 26, "sample_i2v_head": 38, "sample_i2v_tail": 38, "sample_i2v_loop": 38}


@pytest.mark.parametrize("batch_branches", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_guided_sampling(golden, name, batch_branches) -> None:
    case = golden(name)
    model = case.fill(MMDiT(MMDiTConfig(**case.config["model"])))
    cond_type, latent = case.config["cond_type"], case.config["latent"]
    z = case.input("z", (1, 4, *latent))
    references = [case.input(f"ref{i}", (4, 1, *latent[1:])) for i in range(2)]
    masks, masked_ref = prepare_condition(
        z, cond_type, [references if cond_type == "i2v_loop" else references[:1]]
    )
    assert torch.equal(masks, case.outputs["masks"])
    assert torch.equal(masked_ref, case.outputs["masked_ref"])
    sampling = case.config["sampling"]
    sampled = denoise(
        model,
        z,
        txt=case.input("txt", (1, 6, 40)),
        y_vec=case.input("y", (1, 24)),
        neg_txt=case.input("neg", (1, 6, 40)),
        neg_y_vec=case.input("yn", (1, 24)),
        masks=masks,
        masked_ref=masked_ref,
        timesteps=case.config["timesteps"],
        guidance=Guidance(
            text=sampling["guidance"],
            image=sampling["guidance_img"],
            text_oscillation=sampling["text_osci"],
            image_oscillation=sampling["image_osci"],
            temporal_ramp=sampling["scale_temporal_osci"],
        ),
        cond_type=cond_type,
        batch_branches=batch_branches,
    )
    case.check("x", pack(sampled))
    assert denoise.last_evaluations == CASES[name]
    # Afterwards the given frames are the clean references again, and nothing else moved.
    restored = restore_references(sampled, masks, masked_ref, cond_type)
    assert torch.equal(restored, torch.where(masks.bool(), masked_ref, sampled))


@pytest.mark.parametrize("case", SCHEDULE["schedules"], ids=lambda case: f"{case['seq']} tokens")
def test_schedule(case) -> None:
    times = get_schedule(case["steps"], case["seq"], case["frames"])
    assert times == pytest.approx(case["t"], abs=1e-7)


@pytest.mark.parametrize(("resolution", "ratio", "height", "width"), SCHEDULE["sizes"])
def test_sizes(resolution, ratio, height, width) -> None:
    assert image_size(resolution, ratio) == (height, width)
