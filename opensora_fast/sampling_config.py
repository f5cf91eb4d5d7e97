"""What a video is sampled with: the fields behind `model_index.json`, the call and the flags."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opensora_fast.models.frame_grid import FrameGrid
    from opensora_fast.models.sampling import Guidance

MAX_STEPS = 1000
MAX_SIDE = 8192
MAX_GUIDANCE = 100.0

# The released model's longest, largest video (129 frames at 768x768) has 76,032 tokens. Four times
# that is past what any one device can hold or finish; a size beyond it is a slip of the keyboard.
MAX_TOKENS = 4 * 76_032


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How a video is sampled. The defaults are the original's, for its released model.

    Args:
        num_frames: frames of the video; the released model accepts 4 k + 1.
        height: pixels.
        width: pixels.
        fps: frames per second of the saved file (and of the prompt, where the model reads it).
        num_inference_steps: Euler steps from noise to video.
        guidance_scale: how far the prompt pulls; 1 is off.
        image_guidance_scale: how far a reference image or clip pulls; 1 is off.
        text_oscillation: use `guidance_scale` in the first 10 steps and every other one after.
        image_oscillation: the same for `image_guidance_scale`.
        temporal_ramp: let the image guidance grow along the frames (image-to-video only).
        shift: spend more steps near the noise, the more the longer and larger the video.
        shift_alpha: strength of the shift; None: from the size.
        motion_score: amount of motion named to the model in the prompt; None: not named.

    Raises:
        ValueError: a value out of range.
    """

    num_frames: int = 129
    height: int = 192
    width: int = 336
    fps: float = 24.0
    num_inference_steps: int = 50
    guidance_scale: float = 7.5
    image_guidance_scale: float = 3.0
    text_oscillation: bool = True
    image_oscillation: bool = True
    temporal_ramp: bool = True
    shift: bool = True
    shift_alpha: float | None = None
    motion_score: int | None = None

    def __post_init__(self) -> None:
        """Check every number against its range."""
        _whole("num_frames", self.num_frames, 1, None)
        _whole("height", self.height, 1, MAX_SIDE)
        _whole("width", self.width, 1, MAX_SIDE)
        _real("fps", self.fps, above=0, at_most=1000)
        _whole("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        _real("guidance_scale", self.guidance_scale, at_least=0, at_most=MAX_GUIDANCE)
        _real("image_guidance_scale", self.image_guidance_scale, at_least=0, at_most=MAX_GUIDANCE)
        for name in ("text_oscillation", "image_oscillation", "temporal_ramp", "shift"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")
        if self.shift_alpha is not None:
            _real("shift_alpha", self.shift_alpha, above=0, at_most=1000)
        if self.motion_score is not None:
            _whole("motion_score", self.motion_score, 0, 100)

    def guidance(self) -> Guidance:
        """The scales as the sampler takes them."""
        from opensora_fast.models.sampling import Guidance

        return Guidance(
            text=self.guidance_scale,
            image=self.image_guidance_scale,
            text_oscillation=self.text_oscillation,
            image_oscillation=self.image_oscillation,
            temporal_ramp=self.temporal_ramp,
        )

    def check_geometry(self, *, multiple: int, frames: FrameGrid) -> None:
        """Check frames and size against what a model can represent.

        Args:
            multiple: pixels of a token's side; height and width must be multiples of it.
            frames: numbers of frames that the autoencoder gives back.

        Raises:
            ValueError: names the nearest values that are accepted.
        """
        if self.num_frames not in frames:
            raise ValueError(
                f"num_frames must be {frames}, got {self.num_frames}; the nearest are "
                f"{frames.at_most(self.num_frames)} and {frames.at_least(self.num_frames)}"
            )
        for name in ("height", "width"):
            size = getattr(self, name)
            if size % multiple:
                below = size // multiple * multiple
                nearest = f"are {below} and {below + multiple}" if below else f"is {multiple}"
                raise ValueError(
                    f"{name} must be a multiple of {multiple}, got {size}; the nearest {nearest}"
                )
        tokens = (
            frames.latent_frames(self.num_frames)
            * (self.height // multiple)
            * (self.width // multiple)
        )
        if tokens > MAX_TOKENS:
            raise ValueError(
                f"{self.num_frames} frames of {self.width}x{self.height} are {tokens:,} tokens, "
                f"more than the {MAX_TOKENS:,} accepted: ask for fewer frames or a smaller size"
            )


def with_size(
    given: dict[str, Any], resolution: str | None, aspect_ratio: str | None, multiple: int
) -> dict[str, Any]:
    """Put height and width for a resolution and a ratio among the given fields.

    Args:
        given: fields of `SamplingConfig` that the user named, none of them None.
        resolution: pixel budget such as "256px", or None.
        aspect_ratio: width to height such as "16:9"; belongs to `resolution`.
        multiple: pixels of a token's side.

    Returns:
        The fields.

    Raises:
        ValueError: one without the other, or a height or width as well.
    """
    from opensora_fast.models.sizes import image_size

    if (resolution is None) != (aspect_ratio is None):
        raise ValueError("resolution and aspect_ratio belong together: give both or neither")
    if resolution is None or aspect_ratio is None:
        return given
    if "height" in given or "width" in given:
        raise ValueError("give either height and width, or resolution and aspect_ratio")
    height, width = image_size(resolution, aspect_ratio, multiple)
    return given | {"height": height, "width": width}


def _whole(name: str, value: object, low: int, high: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if value < low or (high is not None and value > high):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be {limits}, got {value}")


def _real(
    name: str, value: object, *, above: float | None = None, at_least: float = 0, at_most: float
) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, got {value!r}")
    low_is_met = value > above if above is not None else value >= at_least
    if not (math.isfinite(value) and low_is_met and value <= at_most):
        low = f"above {above}" if above is not None else f"from {at_least}"
        raise ValueError(f"{name} must be {low} to {at_most:g}, got {value}")
