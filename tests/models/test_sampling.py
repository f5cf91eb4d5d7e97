"""The loop runs exactly the branches that matter, and takes Euler steps along their velocity."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch

from opensora_fast.models.mmdit import pack
from opensora_fast.models.sampling import (
    DenoiseStep,
    Guidance,
    denoise,
    get_schedule,
    prepare_condition,
    schedule_shift,
)
from opensora_fast.models.sizes import ASPECT_RATIOS, image_size, latent_frames

PLAIN = {"text_oscillation": False, "image_oscillation": False, "temporal_ramp": False}


class Linear:
    """A velocity that shows which branch was run: text + 10 * given frames + 100 * x + t."""

    def __init__(self, cond_embed: bool = True) -> None:
        self.config = SimpleNamespace(cond_embed=cond_embed)
        self.rows = 0

    def __call__(self, img, img_ids, txt, txt_ids, timesteps, y_vec, cond, guidance):
        self.rows += img.shape[0]
        self.last = SimpleNamespace(img=img, timesteps=timesteps, guidance=guidance)
        assert img.shape[:2] == img_ids.shape[:2] == cond.shape[:2]
        assert txt.shape[:2] == txt_ids.shape[:2]
        per_sample = txt.mean((1, 2)) + y_vec.mean(1) + timesteps
        velocity = per_sample[:, None, None] + 10 * cond[..., :4].mean(-1, keepdim=True)
        return (velocity + 100 * img).to(img.dtype)


def run(model, z, cond_type="t2v", steps=4, same_text=False, callback=None, **guidance):
    batch = z.shape[0]
    references = [[z[i, :, :1]] for i in range(batch)]
    masks, masked_ref = prepare_condition(z, cond_type, references)
    negative = 1.0 if same_text else 2.0
    return denoise(
        model,
        z,
        txt=torch.full((batch, 5, 3), 1.0),
        y_vec=torch.zeros(batch, 2),
        neg_txt=torch.full((1, 5, 3), negative),
        neg_y_vec=torch.zeros(1, 2),
        masks=masks,
        masked_ref=masked_ref,
        timesteps=torch.linspace(1, 0, steps + 1).tolist(),
        guidance=Guidance(**guidance),
        cond_type=cond_type,
        callback=callback,
    )


@pytest.fixture
def z() -> torch.Tensor:
    return torch.randn(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("cond_type", "guidance", "evaluations"),
    [
        # The defaults over 50 steps: 30 guided ones; the original always runs 150.
        ("t2v", {}, 30 * 2 + 20),
        ("i2v_head", {}, 30 * 3 + 20),
        ("i2v_head", {"temporal_ramp": False}, 30 * 3 + 20),
        ("i2v_head", {"text_oscillation": False}, 30 * 3 + 20 * 2),
        ("i2v_head", {"image_oscillation": False}, 50 * 3),
        ("t2v", {"text_oscillation": False}, 50 * 2),
        ("t2v", {"text": 1.0}, 50),
        ("t2v", {"text": 0.0, "text_oscillation": False}, 50),
        # v = v_u + g (v_c - v_u): the branch without reference drops out.
        ("i2v_head", {"image": 1.0}, 30 * 2 + 20),
        # v = v_0 + g (v_c - v_0): the branch in between drops out.
        ("i2v_head", {"text": 3.0, "image": 3.0, "temporal_ramp": False}, 30 * 2 + 20),
        ("i2v_head", {"text": 1.0, "image": 1.0}, 50),
        ("i2v_head", {"text": 0.0, "image": 0.0, **PLAIN}, 50),
    ],
)
def test_number_of_forwards(z, cond_type, guidance, evaluations) -> None:
    model = Linear()
    run(model, z, cond_type, steps=50, **guidance)
    assert denoise.last_evaluations == model.rows == evaluations


def test_equal_inputs_run_once(z) -> None:
    model = Linear()
    run(model, z, "t2v", steps=10, same_text=True)
    assert model.rows == 10
    model = Linear()
    run(model, z, "i2v_head", steps=10, same_text=True)
    assert model.rows == 10 * 2
    model = Linear(cond_embed=False)
    run(model, z, "i2v_head", steps=10)
    assert model.rows == 10 * 2


@pytest.mark.parametrize("cond_type", ["t2v", "i2v_head", "v2v_head"])
@pytest.mark.parametrize("guidance", [PLAIN, {}, {"text": 0.5, "image": 0.0, **PLAIN}])
@pytest.mark.parametrize("same_text", [True, False])
def test_equals_the_three_branches_written_out(z, cond_type, guidance, same_text) -> None:
    sampled = run(Linear(), z, cond_type, 14, same_text, **guidance)

    scales = Guidance(**guidance)
    masks, _ = prepare_condition(z, cond_type, [[z[0, :, :1]]])
    given = pack(masks).mean(-1, keepdim=True)
    times = torch.linspace(1, 0, 15).tolist()
    text, negative = 1.0, 1.0 if same_text else 2.0
    x = pack(z)
    for i, (t, t_next) in enumerate(itertools.pairwise(times)):
        guided = i < 10 or i % 2 == 0
        g_txt = scales.text if guided or not scales.text_oscillation else 1.0
        g_img = scales.image if guided or not scales.image_oscillation else 1.0
        if g_img > 1 and scales.temporal_ramp and "i2v" in cond_type:
            upper = torch.linspace(g_img, 1, 15)[i]
            g_img = torch.linspace(1, float(upper), 3).repeat_interleave(4)[:, None]
        v_c = text + t + 10 * given + 100 * x
        v_u = negative + t + 10 * given + 100 * x
        v_0 = negative + t + 100 * x
        x = x + (t_next - t) * (v_0 + g_img * (v_u - v_0) + g_txt * (v_c - v_u))
    torch.testing.assert_close(pack(sampled), x, rtol=1e-3, atol=1e-3 * float(x.std()))


def test_the_model_sees_the_dtype_of_the_noise(z) -> None:
    model = Linear()
    sampled = run(model, z.bfloat16(), steps=3, embedded=4.0)
    assert model.last.img.dtype == model.last.timesteps.dtype == torch.bfloat16
    assert sampled.dtype == torch.bfloat16
    assert set(model.last.guidance.tolist()) == {4.0}
    # An ordinary tensor, although it was made in inference mode.
    assert (sampled.float().requires_grad_() * 2).sum().backward() is None
    run(model, z)
    assert set(model.last.guidance.tolist()) == {7.5}


def test_callback_tells_the_progress_and_may_end_the_run(z) -> None:
    seen: list[DenoiseStep] = []
    run(Linear(), z, steps=3, callback=seen.append)
    assert [step.step for step in seen] == [0, 1, 2]
    assert [step.evaluations for step in seen] == [2, 4, 6]
    assert seen[-1].t == 0.0
    assert {step.num_steps for step in seen} == {3}

    def stop(step: DenoiseStep) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Linear(), z, steps=3, callback=stop)


def test_samples_of_a_batch_do_not_meet(z) -> None:
    both = torch.cat([z, z + 1])
    together = run(Linear(), both, "i2v_head")
    for sample in range(2):
        alone = run(Linear(), both[sample : sample + 1], "i2v_head")
        torch.testing.assert_close(together[sample : sample + 1], alone)


def test_schedule() -> None:
    assert get_schedule(4, 256, 1) == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    assert get_schedule(4, 9999, 7, shift=False) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert get_schedule(2, 9999, 7, shift_alpha=3.0)[1] == pytest.approx(0.75)
    assert schedule_shift(252, 33) == pytest.approx(5.733, abs=1e-3)
    assert schedule_shift(2304, 33) == pytest.approx(11.872, abs=1e-3)
    for arguments in ((0, 256, 1), (4, 256, 1, True, 0.0), (4, 256, 1, True, float("nan"))):
        with pytest.raises(ValueError, match="get_schedule"):
            get_schedule(*arguments)


def test_faults(z) -> None:
    with pytest.raises(ValueError, match=r"Guidance\.image must be finite"):
        Guidance(image=float("inf"))
    with pytest.raises(ValueError, match="timesteps needs at least 2 times, got 1"):
        run(Linear(), z, steps=0)


# From the table of the original's inference: resolution, ratio, token edge, height, width.
@pytest.mark.parametrize(
    ("resolution", "ratio", "multiple", "size"),
    [
        ("256px", "1:2.39", 16, (384, 160)),
        ("256px", "8:5", 16, (192, 336)),
        ("512px", "2:3", 16, (624, 416)),
        ("1024px", "1:1.85", 16, (1392, 752)),
        ("720p", "16:9", 16, (720, 1280)),
        ("720p", "3:4", 16, (1104, 832)),
        ("256px", "16:9", 32, (192, 320)),
        ("768px", "2.39:1", 32, (480, 1184)),
        ("1024px", "5:8", 32, (1280, 800)),
    ],
)
def test_sizes(resolution, ratio, multiple, size) -> None:
    assert image_size(resolution, ratio, multiple) == size
    assert len(ASPECT_RATIOS) == 15


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("256", "1:1"), 'must look like "256px" or "720p", got \'256\''),
        (("0px", "1:1"), "must look like"),
        (("256px", "7:5"), r"must be one of 2.39:1, 1:2.39.*got '7:5'"),
        (("256px", "wide"), "must be one of"),
        (("4px", "1:1"), "smaller than one token of 16 pixels"),
    ],
)
def test_sizes_that_do_not_exist(arguments, said) -> None:
    with pytest.raises(ValueError, match=said):
        image_size(*arguments)


def test_latent_frames() -> None:
    assert [latent_frames(n) for n in (1, 5, 17, 129)] == [1, 2, 5, 33]
    assert [latent_frames(n, causal=False) for n in (1, 4, 128)] == [1, 1, 32]
