"""opensora-fast: fast, faithful implementations of the Open-Sora video generation systems.

Importing this package loads no room and no torch: public names are resolved on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# A wheel holds the rooms inside this folder; a checkout holds them beside it.
if not (Path(__file__).parent / "kernels").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

_PUBLIC = {
    "VideoPipeline": "opensora_fast.pipeline",
    "VideoPipelineOutput": "opensora_fast.pipeline",
}

__all__ = ["VideoPipeline", "VideoPipelineOutput", "__version__"]

if TYPE_CHECKING:
    from opensora_fast.pipeline import VideoPipeline, VideoPipelineOutput


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'opensora_fast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
