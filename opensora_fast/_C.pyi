"""Signatures of the native extension. Tensors are passed as addresses; sizes are in elements."""

FLOAT32: int
BFLOAT16: int
FLOAT16: int
HAS_CUDA: bool

def cpu_isa() -> str: ...
def cpu_isas() -> list[str]: ...
def group_norm_silu_cpu(
    x: int,
    y: int,
    weight: int,
    bias: int,
    mean: int,
    rstd: int,
    batch: int,
    channels: int,
    spatial: int,
    groups: int,
    eps: float,
    silu: bool,
    channels_last: bool,
    dtype: int,
    affine_dtype: int,
) -> None: ...
def group_norm_silu_backward_cpu(
    grad: int,
    x: int,
    weight: int,
    bias: int,
    mean: int,
    rstd: int,
    dx: int,
    dweight: int,
    dbias: int,
    batch: int,
    channels: int,
    spatial: int,
    groups: int,
    silu: bool,
    channels_last: bool,
    dtype: int,
    affine_dtype: int,
) -> None: ...

# The CUDA functions exist where HAS_CUDA is true.
def group_norm_silu_cuda_workspace(
    x: int,
    y: int,
    weight: int,
    bias: int,
    mean: int,
    rstd: int,
    batch: int,
    channels: int,
    spatial: int,
    groups: int,
    eps: float,
    silu: bool,
    channels_last: bool,
    dtype: int,
    affine_dtype: int,
) -> int: ...
def group_norm_silu_cuda(
    workspace: int,
    stream: int,
    x: int,
    y: int,
    weight: int,
    bias: int,
    mean: int,
    rstd: int,
    batch: int,
    channels: int,
    spatial: int,
    groups: int,
    eps: float,
    silu: bool,
    channels_last: bool,
    dtype: int,
    affine_dtype: int,
) -> None: ...
