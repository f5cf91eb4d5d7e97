"""`python -m opensora_fast.train PRESET [section.field=value ...] [stages=text,...]`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from opensora_fast.models.overrides import apply_overrides, split_words

from .config import RunConfig
from .presets import PRESETS
from .tiny import STAGES, train

USAGE = f"""usage: opensora-fast train PRESET [section.field=value ...] [stages={",".join(STAGES)}]

presets: {", ".join(PRESETS)}
sections: run, text, autoencoder, diffusion; for example run.out=runs/mine diffusion.num_steps=8000
A run that was stopped goes on from its last checkpoint when it is started again."""


def configure(words: Sequence[str]) -> tuple[RunConfig, tuple[str, ...]]:
    """Read preset, overrides and stages.

    Raises:
        ValueError: an unknown preset, section, field or stage, or a bad value.
    """
    stages = [word.removeprefix("stages=") for word in words if word.startswith("stages=")]
    plain, overrides = split_words(word for word in words if not word.startswith("stages="))
    if len(plain) != 1 or plain[0] not in PRESETS:
        raise ValueError(
            f"expected one preset ({', '.join(PRESETS)}), got {' '.join(plain) or 'none'}"
        )
    config = PRESETS[plain[0]]()
    for section in ("text", "autoencoder", "diffusion"):
        mine = [word for word in overrides if word.startswith(f"{section}.")]
        part = apply_overrides(getattr(config, section), section, mine)
        config = dataclasses.replace(config, **{section: part})
        overrides = [word for word in overrides if word not in mine]
    config = apply_overrides(config, "run", overrides)
    return config, tuple(stages[-1].split(",")) if stages else STAGES


def main(words: Sequence[str]) -> int:
    """Train; returns the exit status."""
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else 2
    try:
        config, stages = configure(words)
        folder = train(config, stages)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped: start the same command again to go on", file=sys.stderr)
        return 130
    print(f"pipeline folder: {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
