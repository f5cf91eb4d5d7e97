"""VideoPipeline: a prompt, perhaps with pictures or a clip, becomes a video.

Axes: B videos, C channels, T frames, H height, W width; t, h, w are those of latents.
"""

from __future__ import annotations

import dataclasses
import secrets
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from opensora_fast.components import read_index
from opensora_fast.device import resolve_device, resolve_dtype
from opensora_fast.models.sampling import (
    denoise,
    get_schedule,
    prepare_condition,
    restore_references,
)
from opensora_fast.pipeline_output import OutputType, VideoPipelineOutput
from opensora_fast.prompts import add_suffixes, check_negative_prompt, check_prompts
from opensora_fast.quality import check_quality, with_quality
from opensora_fast.references import Picture, References, read_references
from opensora_fast.sampling_config import SamplingConfig, with_size
from opensora_fast.stages import Stages
from opensora_fast.video import Frames, to_frames

MAX_VIDEOS = 64
MAX_SEED = 2**63 - 1

_OUTPUT_TYPES = ("np", "pt", "latent")


class VideoPipeline:
    """Text (and image or video) to video; make one with `VideoPipeline.from_pretrained`.

    Args:
        vae: the video autoencoder.
        transformer: the diffusion transformer.
        t5: encoder of the prompt's tokens.
        clip: encoder of the prompt as a whole.
        defaults: what a call uses for arguments left out; replace it to change them all at once.
        device: where the work is done.
        dtype: of the transformer's and autoencoder's parameters.
        offload: None, or "cpu": components wait in main memory and visit the device in turn.
        prompt_suffix: name frame rate and motion to the model in the prompt, as it was trained.
        memory_budget: bytes that the autoencoder may hold beside its parameters; None: no bound.
    """

    def __init__(
        self,
        *,
        vae: Any,
        transformer: Any,
        t5: Any,
        clip: Any,
        defaults: SamplingConfig,
        device: torch.device,
        dtype: torch.dtype,
        offload: Literal["cpu"] | None = None,
        prompt_suffix: bool = False,
        memory_budget: int | None = None,
    ) -> None:
        self.vae, self.transformer, self.t5, self.clip = vae, transformer, t5, clip
        self.defaults = defaults
        self.device, self.dtype = device, dtype
        self.offload = offload
        self.prompt_suffix = prompt_suffix
        self.memory_budget = memory_budget

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "tiny",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        offload: str | None = None,
        quality: str = "lossless",
        memory_budget: int | None = None,
    ) -> VideoPipeline:
        """Load a pipeline.

        Args:
            source: "tiny" (shipped with this package), a folder with a `model_index.json`, or a
                Hugging Face id "owner/name", which is downloaded.
            device: "auto" takes a CUDA device where there is one, else the CPU.
            dtype: "bfloat16", "float16", "float32" or the torch dtype; "auto" is bfloat16 on a
                CUDA device and float32 on the CPU.
            offload: "cpu" keeps components in main memory and moves each to the device for its
                stage; without effect where the device is the CPU.
            quality: "lossless" (the original's mathematics; rounding may differ) or "high" (8-bit
                linear layers in the transformer; their error: `models.mmdit.quantize`).
            memory_budget: bytes that the autoencoder may hold at one time beside its parameters:
                exact, without tiles, but the less the slower; None: no bound.

        Returns:
            The pipeline, ready to be called.

        Raises:
            ValueError: an argument is not accepted, or weights do not fit (CheckpointError).
            FileNotFoundError: a folder or file is missing.
            ConnectionError: the model must be downloaded and cannot be.
        """
        check_quality(quality)
        if offload not in (None, "cpu"):
            raise ValueError(f'offload must be None or "cpu", got {offload!r}')
        if memory_budget is not None and memory_budget <= 0:
            raise ValueError(f"memory_budget must be above 0 bytes, got {memory_budget}")
        target = resolve_device(device)
        number = resolve_dtype(dtype, target)
        index = read_index(source)
        home = torch.device("cpu") if offload else target
        return cls(
            vae=index.load_vae(home, number),
            transformer=with_quality(index.load_transformer(home, number), quality, target),
            t5=index.load_text_encoder("t5", home, number),
            clip=index.load_text_encoder("clip", home, number),
            defaults=index.defaults,
            device=target,
            dtype=number,
            offload="cpu" if offload else None,
            prompt_suffix=index.prompt_suffix,
            memory_budget=memory_budget,
        )

    def __call__(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str = "",
        image: Picture | None = None,
        last_image: Picture | None = None,
        video: str | Path | Frames | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        resolution: str | None = None,
        aspect_ratio: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        image_guidance_scale: float | None = None,
        motion_score: int | None = None,
        seed: int | None = None,
        num_videos_per_prompt: int = 1,
        output_type: OutputType = "np",
        progress: bool = True,
    ) -> VideoPipelineOutput:
        """Generate videos. Arguments left at None take the model's own defaults.

        Args:
            prompt: what is to be seen; several prompts give several videos.
            negative_prompt: what is not.
            image: the first frame: a path, or pixels `[H, W, 3]` uint8; scaled and cropped.
            last_image: the last frame, likewise; with `image` the video joins the two.
            video: a clip to continue: a path, or frames `[T, H, W, 3]` uint8.
            num_frames: 4 k + 1.
            height: multiple of 16, pixels; not together with `resolution`.
            width: likewise.
            resolution: e.g. "256px", "768px", "720p"; needs `aspect_ratio`.
            aspect_ratio: width to height, e.g. "16:9"; needs `resolution`.
            num_inference_steps: Euler steps.
            guidance_scale: how far the prompt pulls; 1 is off.
            image_guidance_scale: how far `image`, `last_image` or `video` pulls; 1 is off.
            motion_score: amount of motion, about 1 to 15, for models trained with it.
            seed: same seed, same video; video i of a call is drawn with `seed + i`. Drawn and
                returned when left out.
            num_videos_per_prompt: videos of each prompt, from 1 to 64; they lie side by side.
            output_type: "np" frames uint8 `[B, T, H, W, 3]`; "pt" pixels `[B, 3, T, H, W]` fp32 in
                about [-1, 1] on the device; "latent" `[B, C, t, h, w]`.
            progress: bars on the terminal.

        Returns:
            The videos, the seed, and the seconds of each stage.

        Numerics:
            Noise is drawn in fp32 on the CPU, so that a seed means the same on every device.

        Raises:
            ValueError: an argument is not accepted; the message names what is.
            FileNotFoundError: an image or video file is missing.
        """
        texts = check_prompts(prompt)
        negative = check_negative_prompt(negative_prompt)
        config = self.resolve(
            num_frames=num_frames,
            height=height,
            width=width,
            resolution=resolution,
            aspect_ratio=aspect_ratio,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            image_guidance_scale=image_guidance_scale,
            motion_score=motion_score,
        )
        _check_choices(num_videos_per_prompt, len(texts), output_type)
        seed = _checked_seed(seed)
        references = read_references(image, last_image, video, config, self.vae.frame_grid)
        texts = [text for text in texts for _ in range(num_videos_per_prompt)]
        with torch.inference_mode(), Stages(self.device, progress) as stages:
            z = self._sample(texts, negative, config, references, seed, stages)
            videos = z if output_type == "latent" else self._decode(z, config, output_type, stages)
        return VideoPipelineOutput(videos, config, seed, stages.timings, output_type)

    def resolve(
        self, *, resolution: str | None = None, aspect_ratio: str | None = None, **given: Any
    ) -> SamplingConfig:
        """Fill what a call left out, and check the whole.

        Args:
            resolution: pixel budget such as "256px"; replaces height and width.
            aspect_ratio: width to height such as "16:9"; needs `resolution`.
            **given: fields of `SamplingConfig`; None takes the model's default.

        Returns:
            The checked configuration of the call.

        Raises:
            ValueError: a value is out of range, contradicts another, or does not fit the model.
        """
        multiple = self.vae.spatial_compression_ratio * self.transformer.config.patch_size
        given = {name: value for name, value in given.items() if value is not None}
        given = with_size(given, resolution, aspect_ratio, multiple)
        if "motion_score" in given and not self.prompt_suffix:
            raise ValueError(
                "this model was not trained with motion scores: leave motion_score out"
            )
        config = dataclasses.replace(self.defaults, **given)
        config.check_geometry(multiple=multiple, frames=self.vae.frame_grid)
        return config

    def _encode_text(self, texts: list[str], negative: str, stages: Stages) -> dict[str, Any]:
        """Token and pooled embeddings of every video's prompt and of the negative prompt."""
        # Each text is encoded once, however many videos share it.
        unique = [*dict.fromkeys(texts), negative]
        _warn_of_cut_prompts(self.t5, unique)
        rows = [unique.index(text) for text in texts]
        with stages.stage("text", 2) as advance:
            with self._visiting(self.t5):
                tokens = self.t5.encode(unique).to(self.device, self.dtype)
                advance()
            with self._visiting(self.clip):
                pooled = self.clip.encode(unique).to(self.device, self.dtype)
                advance()
        return {
            "txt": tokens[rows],
            "y_vec": pooled[rows],
            "neg_txt": tokens[-1:],
            "neg_y_vec": pooled[-1:],
        }

    def _sample(
        self,
        texts: list[str],
        negative: str,
        config: SamplingConfig,
        references: References,
        seed: int,
        stages: Stages,
    ) -> Tensor:
        """Latents `[B, C, t, h, w]`, one for each text."""
        if self.prompt_suffix:
            texts = [add_suffixes(text, config.fps, config.motion_score) for text in texts]
        encoded = self._encode_text(texts, negative, stages)
        generators = [torch.Generator().manual_seed((seed + i) % 2**63) for i in range(len(texts))]
        patch = self.transformer.config.patch_size
        size = self.vae.latent_size(config.num_frames, config.height, config.width)
        shape = (self.vae.z_channels, *size)
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators])
        z = noise.to(self.device, self.dtype)
        latents = self._encode_references(references, generators, stages)
        masks, masked_ref = prepare_condition(
            z, references.cond_type, latents, causal=self.vae.is_causal
        )
        timesteps = get_schedule(
            config.num_inference_steps,
            image_seq_len=size[1] * size[2] // patch**2,
            num_frames=size[0],
            shift=config.shift,
            shift_alpha=config.shift_alpha,
        )
        with (
            self._visiting(self.transformer),
            stages.stage("denoise", config.num_inference_steps) as advance,
        ):
            z = denoise(
                self.transformer,
                z,
                **encoded,
                masks=masks,
                masked_ref=masked_ref,
                timesteps=timesteps,
                guidance=config.guidance(),
                patch_size=patch,
                cond_type=references.cond_type,
                callback=_ignoring_arguments(advance),
            )
        return restore_references(z, masks, masked_ref, references.cond_type)

    def _encode_references(
        self, references: References, generators: list[torch.Generator], stages: Stages
    ) -> list[list[Tensor]]:
        """Latents `[C, t, h, w]` of each video's references; each video draws its own posterior."""
        if not references.pixels:
            return [[] for _ in generators]
        with self._visiting(self.vae), stages.stage("encode", len(generators)) as advance:
            latents = []
            for generator in generators:
                pixels = [p[None].to(self.device, self.dtype) for p in references.pixels]
                given = {"generator": generator, "memory_budget": self.memory_budget}
                latents.append([self.vae.encode(p, **given)[0] for p in pixels])
                advance()
        return latents

    def _decode(
        self, z: Tensor, config: SamplingConfig, output_type: OutputType, stages: Stages
    ) -> Any:
        """Decode video by video: one at a time bounds the memory."""
        videos: list[Any] = []
        with self._visiting(self.vae), stages.stage("decode", len(z)) as advance:
            for latent in z:
                given = latent[None].to(self.dtype)
                pixels = self.vae.decode(given, memory_budget=self.memory_budget)[0]
                pixels = pixels[:, : config.num_frames, : config.height, : config.width]
                videos.append(to_frames(pixels) if output_type == "np" else pixels.float())
                advance()
        return torch.stack(videos) if output_type == "pt" else np.stack(videos)

    @contextmanager
    def _visiting(self, component: nn.Module) -> Iterator[None]:
        """Have the component on the device; with offload only for the time of the block."""
        if self.offload is None or self.device.type == "cpu":
            yield
            return
        component.to(self.device)
        try:
            yield
        finally:
            component.to("cpu")
            torch.cuda.empty_cache()


def _checked_seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbelow(2**31)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed must be a whole number from 0 to {MAX_SEED}, got {seed!r}")
    return seed


def _check_choices(num_videos_per_prompt: int, num_prompts: int, output_type: str) -> None:
    count = num_videos_per_prompt
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"num_videos_per_prompt must be at least 1, got {count!r}")
    if count * num_prompts > MAX_VIDEOS:
        raise ValueError(f"one call makes at most {MAX_VIDEOS} videos, got {count * num_prompts}")
    if output_type not in _OUTPUT_TYPES:
        raise ValueError(f"output_type must be one of {_OUTPUT_TYPES}, got {output_type!r}")


def _warn_of_cut_prompts(t5: Any, texts: list[str]) -> None:
    """Say which part of a prompt the model will not see."""
    for text in texts:
        length = len(t5.tokenizer(text)["input_ids"])
        if length > t5.max_length:
            warnings.warn(
                f"the model reads {t5.max_length} tokens, the prompt has {length}: "
                f"its end is not seen: ...{text[-40:]!r}",
                stacklevel=2,
            )


def _ignoring_arguments(function: Callable[[], None]) -> Callable[..., None]:
    return lambda *args, **kwargs: function()
