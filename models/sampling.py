"""From noise to a latent: timestep schedule, three-branch guidance, Euler steps.

Time runs from 1 (noise) to 0 (data); the model predicts the velocity, noise minus data.
Latents are `[B, C, T, H, W]`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .conditioning import prepare_condition, restore_references
from .mmdit.patchify import latent_position_ids, pack, text_position_ids, unpack

__all__ = [
    "DenoiseStep",
    "Guidance",
    "denoise",
    "get_schedule",
    "prepare_condition",
    "restore_references",
    "schedule_shift",
]

# In the first steps oscillating guidance is always on; after them in every other one.
_ALWAYS_GUIDED_STEPS = 10

# Up to so many tokens the branches of a step run as one batch. One branch of this length fills any
# device by itself, and longer ones would only need more memory.
MAX_BATCHED_TOKENS = 16384


@dataclass(frozen=True, kw_only=True, slots=True)
class Guidance:
    """How far the prompt and the reference pull the velocity.

    `v = v_0 + g_img (v_u - v_0) + g_txt (v_c - v_u)` with v_c from prompt and reference, v_u from
    the negative prompt and the reference, v_0 from the negative prompt alone.

    Args:
        text: g_txt; 1 is no guidance.
        image: g_img; 1 is no guidance.
        text_oscillation: after 10 steps, g_txt is 1 in every odd step.
        image_oscillation: the same for g_img.
        temporal_ramp: for image conditions, g_img rises over the latent frames from 1 to a value
            that itself falls from `image` to 1 over the steps.
        embedded: scale handed to a model that takes one as its input; `text` by default.

    Raises:
        ValueError: a scale that is not a finite number.

    Source:
        Brooks et al. 2023 (InstructPix2Pix) for two scales; Open-Sora v2 for the alternation.
    """

    text: float = 7.5
    image: float = 3.0
    text_oscillation: bool = True
    image_oscillation: bool = True
    temporal_ramp: bool = True
    embedded: float | None = None

    def __post_init__(self) -> None:
        """Check the scales."""
        for name in ("text", "image"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"Guidance.{name} must be finite, got {getattr(self, name)}")

    def scales(
        self, step: int, num_steps: int, num_frames: int, cond_type: str
    ) -> tuple[float, list[float]]:
        """The two scales in one step.

        Args:
            step: index of the step.
            num_steps: steps of the whole run.
            num_frames: latent frames.
            cond_type: the ramp is for "i2v_..." only.

        Returns:
            g_txt, and g_img for every latent frame.
        """
        guided = step < _ALWAYS_GUIDED_STEPS or step % 2 == 0
        text = self.text if guided or not self.text_oscillation else 1.0
        image = self.image if guided or not self.image_oscillation else 1.0
        if not (self.temporal_ramp and "i2v" in cond_type and image > 1.0):
            return text, [image] * num_frames
        upper = image + (1.0 - image) * step / num_steps
        rise = (upper - 1.0) / max(num_frames - 1, 1)
        return text, [1.0 + rise * frame for frame in range(num_frames)]


class DenoiseStep(NamedTuple):
    """What the callback of `denoise` is told after each step.

    Attributes:
        step: the step that was done, from 0.
        num_steps: steps of the whole run.
        t: time reached.
        evaluations: branch forwards so far; a batch of two branches counts as two.
    """

    step: int
    num_steps: int
    t: float
    evaluations: int


def schedule_shift(image_seq_len: int, num_frames: int) -> float:
    """The shift of the time schedule that suits a video's size.

    `alpha = (1 + 2 (S - 256) / (4096 - 256)) sqrt(T)`.

    Args:
        image_seq_len: tokens S of one latent frame.
        num_frames: latent frames T.

    Returns:
        alpha; 1 leaves the schedule as it is, and larger values spend more steps near the noise.

    Source:
        Esser et al. 2024, section 5.3.2, with the constants of Open-Sora v2.
    """
    return (1.0 + (image_seq_len - 256) * 2.0 / (4096 - 256)) * math.sqrt(num_frames)


def get_schedule(
    num_steps: int,
    image_seq_len: int,
    num_frames: int,
    shift: bool = True,
    shift_alpha: float | None = None,
) -> list[float]:
    """Times of the Euler steps, from 1 to 0.

    `t' = alpha t / (1 + (alpha - 1) t)` on evenly spaced t.

    Args:
        num_steps: Euler steps.
        image_seq_len: tokens of one latent frame.
        num_frames: latent frames.
        shift: apply the shift; else times are evenly spaced.
        shift_alpha: alpha; by default `schedule_shift(image_seq_len, num_frames)`.

    Returns:
        num_steps + 1 times.

    Numerics:
        Computed in fp32, as the original.

    Raises:
        ValueError: fewer than one step, or an alpha that is not positive.
    """
    if num_steps < 1:
        raise ValueError(f"get_schedule: num_steps must be at least 1, got {num_steps}")
    t = torch.linspace(1.0, 0.0, num_steps + 1, dtype=torch.float32, device="cpu")
    if shift:
        alpha = schedule_shift(image_seq_len, num_frames) if shift_alpha is None else shift_alpha
        if not alpha > 0:
            raise ValueError(
                f"get_schedule: the shift must be positive, got {alpha} for "
                f"{image_seq_len} tokens a frame"
            )
        t = alpha * t / (1 + (alpha - 1) * t)
    times: list[float] = t.tolist()
    return times


def denoise(
    model: Callable[..., Tensor],
    z: Tensor,
    *,
    txt: Tensor,
    y_vec: Tensor,
    neg_txt: Tensor,
    neg_y_vec: Tensor,
    masks: Tensor | None,
    masked_ref: Tensor | None,
    timesteps: Sequence[float],
    guidance: Guidance,
    patch_size: int = 2,
    cond_type: str = "t2v",
    callback: Callable[[DenoiseStep], None] | None = None,
    batch_branches: bool | None = None,
) -> Tensor:
    """Integrate the guided velocity from noise to a latent.

    `x <- x + (t[i+1] - t[i]) v(x, t[i])`, v as in `Guidance`.

    A branch whose factor in v is zero is not evaluated, and branches with the same inputs are
    evaluated once: at the defaults and 50 steps, 80 forwards for text-to-video and 110 for
    image-to-video instead of 150. `denoise.last_evaluations` holds the number of the latest run.

    Args:
        model: an `MMDiT`, or anything called like one.
        z: noise `[B, C, T, H, W]`, in the dtype of the model's inputs.
        txt: text tokens `[B, L, M]`.
        y_vec: pooled text `[B, M]`.
        neg_txt: tokens of the negative prompt, `[B, L, M]` or `[1, L, M]`.
        neg_y_vec: pooled negative prompt, `[B, M]` or `[1, M]`.
        masks: `[B, 1, T, H, W]` from `prepare_condition`; None is no condition.
        masked_ref: `[B, C, T, H, W]` from `prepare_condition`; None is no condition.
        timesteps: from `get_schedule`.
        guidance: the scales.
        patch_size: edge of the latent square that makes one token.
        cond_type: one of `conditioning.COND_TYPES`.
        callback: called after each step; an exception that it raises ends the run.
        batch_branches: evaluate the branches of a step as one batch; by default if the batch has
            at most 16384 tokens. The results differ by rounding only.

    Returns:
        The latent `[B, C, T, H, W]` of z's dtype. Between sampling and decoding the original puts
        the clean image references back into it: `restore_references`.

    Numerics:
        The state x and the guided velocity are kept in fp32 (fp64 for fp64), the model sees x and
        t rounded to z's dtype. The original keeps both in z's dtype.

    Raises:
        ValueError: shapes that do not fit each other, or fewer than two times.
    """
    if len(timesteps) < 2:
        raise ValueError(f"denoise: timesteps needs at least 2 times, got {len(timesteps)}")
    with torch.inference_mode():
        if masks is None or masked_ref is None:
            masks, masked_ref = prepare_condition(z, "t2v")
        branches = _Branches(
            model, z, (txt, y_vec), (neg_txt, neg_y_vec), torch.cat([masks, masked_ref], dim=1),
            guidance, patch_size, batch_branches,
        )  # fmt: skip
        x = pack(z.to(torch.promote_types(z.dtype, torch.float32)), patch_size)
        num_frames, num_steps = z.shape[2], len(timesteps) - 1
        for index, (t, t_next) in enumerate(itertools.pairwise(timesteps)):
            scales = guidance.scales(index, num_steps, num_frames, cond_type)
            x = x + (t_next - t) * branches.velocity(x, t, scales)
            if callback is not None:
                callback(DenoiseStep(index, num_steps, t_next, branches.evaluations))
        sampled = unpack(x, (num_frames, z.shape[3], z.shape[4]), patch_size).to(z.dtype)
    denoise.last_evaluations = branches.evaluations  # type: ignore[attr-defined]
    # A copy made outside of inference mode is an ordinary tensor again.
    return sampled.clone()


def forwards_needed(guidance: Guidance, num_steps: int, cond_type: str) -> int:
    """Branch forwards that `denoise` runs where prompts, reference and scales differ from nothing.

    Args:
        guidance: with its scales above 1.
        num_steps: Euler steps.
        cond_type: "t2v" has two different branches, everything else three.

    Returns:
        Their number: one in a step where both scales are 1, else two or three.
    """
    branches = 2 if cond_type == "t2v" else 3
    needed = 0
    for step in range(num_steps):
        text, image = guidance.scales(step, num_steps, 1, "t2v")
        needed += 1 if text == image[0] == 1.0 else branches
    return needed


class _Branches:
    """The conditional and the two unconditional branches of one run.

    Branch 0 has prompt and reference (v_c), 1 the negative prompt and the reference (v_u), 2 the
    negative prompt alone (v_0). Inputs that do not change over the steps are built once for each
    set of branches that is evaluated together.
    """

    def __init__(
        self,
        model: Callable[..., Tensor],
        z: Tensor,
        prompt: tuple[Tensor, Tensor],
        negative: tuple[Tensor, Tensor],
        condition: Tensor,
        guidance: Guidance,
        patch_size: int,
        batched: bool | None,
    ) -> None:
        self.evaluations = 0
        self._model, self._patch_size = model, patch_size
        self._size = (z.shape[2], z.shape[3], z.shape[4])
        self._dtype, self._batch_size = z.dtype, z.shape[0]
        self._embedded = guidance.text if guidance.embedded is None else guidance.embedded
        prompt = self._per_sample("txt", prompt)
        negative = self._per_sample("neg_txt", negative)
        cond = pack(condition.to(z.dtype), patch_size)
        self._texts = (prompt, negative, negative)
        self._conds = (cond, cond, torch.zeros_like(cond))
        # Which branch stands for each: the first one with equal inputs.
        takes_cond = getattr(getattr(model, "config", None), "cond_embed", True)
        same_cond = not takes_cond or not bool(cond.any())
        same_text = all(
            a.shape == b.shape and torch.equal(a, b) for a, b in zip(prompt, negative, strict=True)
        )
        second = 0 if same_text else 1
        self._stands_for = (0, second, second if same_cond else 2)
        tokens = (cond.shape[1] + prompt[0].shape[1]) * self._batch_size
        self._batched = tokens * 3 <= MAX_BATCHED_TOKENS if batched is None else batched
        self._batched = self._batched and prompt[0].shape == negative[0].shape
        self._inputs: dict[tuple[int, ...], dict[str, Any]] = {}

    def velocity(self, x: Tensor, t: float, scales: tuple[float, list[float]]) -> Tensor:
        """The guided velocity of the tokens x `[B, L, channels]`, in x's dtype."""
        text, image = scales
        factors = [[0.0] * len(image) for _ in range(3)]
        for frame, scale in enumerate(image):
            for branch, factor in enumerate((text, scale - text, 1.0 - scale)):
                factors[self._stands_for[branch]][frame] += factor
        needed = tuple(branch for branch in range(3) if any(factors[branch]))
        groups = [needed] if self._batched else [(branch,) for branch in needed]
        velocity = torch.zeros_like(x)
        for group in groups:
            for branch, part in zip(group, self._evaluate(group, x, t), strict=True):
                velocity = velocity + self._per_token(factors[branch], x) * part
        return velocity

    def _evaluate(self, group: tuple[int, ...], x: Tensor, t: float) -> tuple[Tensor, ...]:
        """Velocities of the branches of a group, in one forward."""
        self.evaluations += len(group)
        if group not in self._inputs:
            self._inputs[group] = self._constant_inputs(group)
        rows = len(group) * self._batch_size
        out = self._model(
            img=x.to(self._dtype).repeat(len(group), 1, 1),
            timesteps=torch.full((rows,), t, dtype=self._dtype, device=x.device),
            **self._inputs[group],
        )
        return out.to(x.dtype).chunk(len(group))

    def _constant_inputs(self, group: tuple[int, ...]) -> dict[str, Any]:
        """Arguments of the model that are the same in every step."""
        rows = len(group) * self._batch_size
        txt, y_vec = (torch.cat([self._texts[branch][part] for branch in group]) for part in (0, 1))
        inputs: dict[str, Any] = {
            "img_ids": latent_position_ids(rows, self._size, self._patch_size, device=txt.device),
            "txt": txt,
            "txt_ids": text_position_ids(rows, txt.shape[1], device=txt.device),
            "y_vec": y_vec,
            "cond": torch.cat([self._conds[branch] for branch in group]),
            "guidance": torch.full((rows,), self._embedded, dtype=txt.dtype, device=txt.device),
        }
        prepare = getattr(self._model, "prepare", None)
        if prepare is not None:
            inputs["context"] = prepare(**inputs)
        return inputs

    def _per_token(self, factors: list[float], x: Tensor) -> Tensor | float:
        """A factor per latent frame as a factor per token, or one number if all are equal."""
        if len(set(factors)) == 1:
            return factors[0]
        per_frame = torch.tensor(factors, dtype=x.dtype, device=x.device)
        return per_frame.repeat_interleave(x.shape[1] // len(factors))[:, None]

    def _per_sample(self, name: str, text: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens and pooled text for every sample; one row serves all."""
        tokens, pooled = text
        for part in text:
            if part.shape[0] not in (1, self._batch_size):
                raise ValueError(
                    f"denoise: {name} has {part.shape[0]} samples, z has {self._batch_size}"
                )
        return (
            tokens.expand(self._batch_size, -1, -1),
            pooled.expand(self._batch_size, -1),
        )
