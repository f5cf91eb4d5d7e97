"""The launches that group_norm_silu_conv3d adds to those of its two ops, to be compiled.

Statistics and activation are group_norm_silu's launches; packing and narrow outputs are those of
causal_conv3d.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..causal_conv3d.compiled import LAST, MIDDLE, Layer, plan
from ..common.catalogue import Compiled

ODD = Layer(channels=20, out_channels=24, size=(5, 37, 53))


def launches(capability: int) -> Iterator[Compiled]:
    """The released blocks, with sums for the norm behind; channels without descriptors; fp32."""
    hopper = ("wgmma.mma_async", "cp.async.bulk.tensor") if capability == 90 else ()
    for name, layer in (("128", LAST), ("512", MIDDLE)):
        launch = plan(layer, capability, "given", residual=True)
        yield Compiled(name=f"residual.{name}", launch=launch, promises=hopper)
        for residual in (False, True):
            launch = plan(layer, capability, "given", residual=residual, statistics=True)
            case = f"residual={residual}.{name}.sums"
            yield Compiled(name=case, launch=launch, promises=hopper)
    launch = plan(ODD, capability, "given", residual=True)
    yield Compiled(name="residual.20.pointers", launch=launch)
    launch = plan(LAST, capability, "given", residual=True, dtype=torch.float32)
    yield Compiled(name="residual.128.fp32", launch=launch)
