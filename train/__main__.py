"""`python -m opensora_fast.train PRESET [section.field=value ...] [stages=text,...]`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from opensora_fast import mistakes
from opensora_fast.models.overrides import apply_overrides, split_words

from .config import RunConfig
from .presets import PRESETS
from .tiny import STAGES, check_stages, train

SECTIONS = ("run", "text", "autoencoder", "diffusion")
USAGE = f"""usage: opensora-fast train PRESET [section.field=value ...] [stages={",".join(STAGES)}]

presets: {", ".join(PRESETS)}
sections: {", ".join(SECTIONS)}; for example run.out=runs/mine diffusion.num_steps=8000
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
    chosen = tuple(stages[-1].split(",")) if stages else STAGES
    check_stages(chosen)
    by_section: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for word in overrides:
        section = word.partition(".")[0]
        if section not in by_section:
            raise ValueError(
                f"there is no section {section!r} in {word!r}; there are {', '.join(SECTIONS)}"
            )
        by_section[section].append(word)
    config = PRESETS[plain[0]]()
    parts = {
        section: apply_overrides(getattr(config, section), section, by_section[section])
        for section in SECTIONS[1:]
    }
    return apply_overrides(dataclasses.replace(config, **parts), "run", by_section["run"]), chosen


def main(words: Sequence[str]) -> int:
    """Train.

    Args:
        words: of the command line, after the program's name.

    Returns:
        The exit status: 0 success; 2 bad input, with one line on stderr; 130 after Ctrl-C. An
        internal error is not caught.
    """
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else mistakes.USAGE_ERROR
    try:
        config, stages = configure(words)
        folder = train(config, stages)
    except KeyboardInterrupt:
        print("\nstopped: start the same command again to go on", file=sys.stderr)
        return mistakes.INTERRUPTED
    except Exception as error:
        return mistakes.report(error, less_memory="lower the batch sizes")
    print(f"pipeline folder: {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
