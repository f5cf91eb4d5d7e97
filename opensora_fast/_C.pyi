"""Signatures of the native extension. Tensors are passed as addresses; sizes are in elements."""

FLOAT32: int
BFLOAT16: int
FLOAT16: int
HAS_CUDA: bool

class Conv3d:
    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int],
        scale: tuple[int, int, int],
        padding: int,
        dtype: int,
    ) -> None: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def packed_bytes(self) -> int: ...
    def pack(self, weight: int, packed: int) -> None: ...
    def run(
        self,
        x: int,
        y: int,
        packed: int,
        bias: int,
        residual: int,
        mean: int,
        scale: int,
        shift: int,
        moments: int,
        batch: int,
        size: tuple[int, int, int],
        out_size: tuple[int, int, int],
    ) -> None: ...

def cpu_isa() -> str: ...
def cpu_isas() -> list[str]: ...
def frame_causal_attention_cpu(
    q: tuple[int, int, int],
    k: tuple[int, int, int],
    v: tuple[int, int, int],
    y: int,
    lse: int,
    batch: int,
    length: int,
    num_frames: int,
    head_dim: int,
    dtype: int,
) -> None: ...
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
def group_norm_affine_cpu(
    x: int,
    weight: int,
    bias: int,
    affine: int,
    batch: int,
    channels: int,
    spatial: int,
    groups: int,
    eps: float,
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
def layer_norm_modulate_cpu(
    x: int,
    y: int,
    shift: int,
    scale: int,
    batch: int,
    length: int,
    width: int,
    sample_stride: int,
    token_stride: int,
    eps: float,
    dtype: int,
    modulation_dtype: int,
) -> None: ...
def rms_norm3d_cpu(
    x: int,
    y: int,
    weight: int,
    bias: int,
    batch: int,
    channels: int,
    positions: int,
    eps: float,
    activation: int,
    channels_last: bool,
    dtype: int,
    affine_dtype: int,
) -> None: ...
def rms_norm3d_backward_cpu(
    grad: int,
    x: int,
    weight: int,
    bias: int,
    dx: int,
    dweight: int,
    dbias: int,
    batch: int,
    channels: int,
    positions: int,
    eps: float,
    activation: int,
    channels_last: bool,
    dtype: int,
    affine_dtype: int,
) -> None: ...
def gate_residual_cpu(
    x: int,
    gate: int,
    branch: int,
    y: int,
    batch: int,
    length: int,
    width: int,
    dtype: int,
    branch_dtype: int,
) -> None: ...
def gelu_cpu(
    x: int, y: int, rows: int, width: int, x_stride: int, y_stride: int, dtype: int
) -> None: ...
def gelu_backward_cpu(
    grad: int,
    x: int,
    dx: int,
    rows: int,
    width: int,
    grad_stride: int,
    x_stride: int,
    dtype: int,
) -> None: ...

# q and k: addresses of the input, the output and the scale; strides of samples, tokens and heads.
def qk_norm_rope_cpu(
    q: tuple[int, int, int],
    k: tuple[int, int, int],
    q_strides: tuple[int, int, int],
    k_strides: tuple[int, int, int],
    cos: int,
    sin: int,
    batch: int,
    length: int,
    heads: int,
    head_dim: int,
    eps: float,
    interleaved: bool,
    table_per_sample: bool,
    dtype: int,
    scale_dtype: int,
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
