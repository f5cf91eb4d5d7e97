"""Reading and writing weights as safetensors: strict, tensor by tensor, atomically."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from opensora_fast.kernels.atomic import replacing

from .configuration import config_from_dict, config_to_dict

_INDEX_NAME = "model.safetensors.index.json"
_SINGLE_NAME = "model.safetensors"
_MAX_LISTED = 8


class CheckpointError(ValueError):
    """A file that cannot be read as weights, or weights that do not fit the model."""


class KeyReport(NamedTuple):
    """Keys that the model has and the file lacks, and the other way round."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


class TensorInfo(NamedTuple):
    """Where a stored tensor lies and what shape it has."""

    file: Path
    shape: tuple[int, ...]


def read_header(path: str | os.PathLike[str]) -> dict[str, TensorInfo]:
    """List the tensors of a checkpoint without reading their data.

    Args:
        path: a `.safetensors` file, a `.safetensors.index.json`, or a folder that holds
            `model.safetensors.index.json`, `model.safetensors` or a single `.safetensors` file.

    Returns:
        Key to file and shape, in the order of the files.

    Raises:
        CheckpointError: nothing is there, a file is truncated or is no safetensors file, or the
            index names a tensor that its shard lacks.
    """
    tensors: dict[str, TensorInfo] = {}
    for file, expected in _shards(Path(path)).items():
        with _open(file) as stored:
            keys = set(stored.keys())
            lost = sorted((expected or keys) - keys)
            if lost:
                raise CheckpointError(
                    f"{file.name} lacks {_listed(lost)}, which its index promises"
                )
            for key in sorted(expected or keys):
                tensors[key] = TensorInfo(file, tuple(stored.get_slice(key).get_shape()))
    return tensors


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the text entries in the header of a checkpoint's first file.

    Args:
        path: as for `read_header`.

    Returns:
        Name to text; empty if there are none.

    Raises:
        CheckpointError: as for `read_header`.
    """
    with _open(next(iter(_shards(Path(path))))) as stored:
        return dict(stored.metadata() or {})


def check_checkpoint(
    model: nn.Module, path: str | os.PathLike[str], strict: bool = True
) -> KeyReport:
    """Check that a checkpoint fits a model, from its header alone.

    Args:
        model: any module; it may lie on the meta device.
        path: as for `read_header`.
        strict: missing and unexpected keys are errors too, not only wrong shapes.

    Returns:
        Missing and unexpected keys; both empty if `strict`.

    Raises:
        CheckpointError: the checkpoint does not fit; the message lists the keys.
    """
    return _compare(model, read_header(path), Path(path), strict)


def load_safetensors(
    model: nn.Module,
    path: str | os.PathLike[str],
    strict: bool = True,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> KeyReport:
    """Fill a model with the tensors of a checkpoint.

    The whole header is checked before the first tensor is touched, so a checkpoint that does not
    fit leaves the model as it was.

    Args:
        model: parameters on the meta device are replaced by the stored tensors; others are
            overwritten in place and keep their device and dtype.
        path: as for `read_header`.
        strict: missing and unexpected keys are errors.
        device: of parameters that replace meta ones; CPU by default.
        dtype: of floating parameters that replace meta ones; the stored dtype by default.

    Returns:
        Missing and unexpected keys; both empty if `strict`.

    Numerics:
        A change of dtype rounds to nearest even.

    Raises:
        CheckpointError: as for `check_checkpoint`.
    """
    header = read_header(path)
    report = _compare(model, header, Path(path), strict)
    targets = _tensors(model)
    by_file: dict[Path, list[str]] = {}
    for key, info in header.items():
        if key in targets:
            by_file.setdefault(info.file, []).append(key)
    for file, keys in by_file.items():
        with _open(file, device) as stored:
            for key in keys:
                _place(model, key, targets[key], stored.get_tensor(key), dtype)
    return report


def save_tensors(
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors to one safetensors file, which appears complete or not at all.

    Args:
        tensors: key to tensor.
        path: the file to write; an existing one is replaced in one step.
        metadata: text entries for the header.

    Raises:
        OSError: the folder does not exist or cannot be written; nothing is left behind.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot save {path.name}: there is no folder {path.parent}")
    try:
        with replacing(path) as temporary:
            save_file(
                {key: tensor.detach().contiguous() for key, tensor in tensors.items()},
                temporary,
                metadata={"format": "pt", **(metadata or {})},
            )
    except SafetensorError as error:
        raise OSError(f"cannot save {path}: {error}") from error


def save_safetensors(
    model: nn.Module,
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the weights of any module; `save_checkpoint` of our models adds their configuration.

    Args:
        model: whose state dict is written.
        path: the file to write; an existing one is replaced in one step.
        metadata: text entries for the header.

    Raises:
        OSError: as for `save_tensors`.
    """
    save_tensors(model.state_dict(), path, metadata)


ConfigT = TypeVar("ConfigT")


class CheckpointMixin(Generic[ConfigT]):
    """`from_checkpoint` and `save_checkpoint` for a module that is built from one configuration."""

    config_class: ClassVar[type[Any]]
    config: ConfigT

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        config: ConfigT | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Any:
        """Build the model and fill it from a checkpoint, strictly.

        No weight is initialised or held twice: the model is laid out on the meta device, and each
        stored tensor goes straight to its place. With `device="meta"` only the header is checked.

        Args:
            path: a `.safetensors` file or a folder (see `read_header`).
            config: of the model; by default what `save_checkpoint` wrote into the file, else the
                released model's.
            device: of the parameters; CPU by default.
            dtype: of the parameters; by default as stored.

        Returns:
            The model, in evaluation mode.

        Raises:
            CheckpointError: the file cannot be read, or keys are missing, unexpected or misshapen.
        """
        if config is None:
            config = cls._stored_config(path)
        with torch.device("meta"):
            model = cast(nn.Module, cls(config))  # type: ignore[call-arg]
        if device is not None and torch.device(device) == torch.device("meta"):
            check_checkpoint(model, path)
            return model.to(dtype=dtype).eval()
        load_safetensors(model, path, device=device, dtype=dtype)
        return model.eval()

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write the weights, with the configuration in the header, to one safetensors file.

        Args:
            path: the file to write; replaced in one step.

        Raises:
            OSError: the folder does not exist or cannot be written.
        """
        metadata = {"class": type(self).__name__, "config": json.dumps(config_to_dict(self.config))}
        save_safetensors(cast(nn.Module, self), path, metadata)

    @classmethod
    def _stored_config(cls, path: str | os.PathLike[str]) -> ConfigT:
        """The configuration in the header, or the default one."""
        metadata = read_metadata(path)
        if "config" not in metadata:
            return cast(ConfigT, cls.config_class())
        name = metadata.get("class", cls.__name__)
        if name != cls.__name__:
            raise CheckpointError(f"{Path(path).name} holds a {name}, not a {cls.__name__}")
        try:
            return cast(ConfigT, config_from_dict(cls.config_class, json.loads(metadata["config"])))
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{Path(path).name} holds a faulty config: {error}") from error


def _open(file: Path, device: torch.device | str | None = None) -> Any:
    """Open a safetensors file, or say in one sentence why not."""
    if not file.is_file():
        raise CheckpointError(f"there is no checkpoint file {file}")
    try:
        return safe_open(file, framework="pt", device=str(device or "cpu"))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is no complete safetensors file ({file.stat().st_size} bytes): {error}"
        ) from error


def _shards(path: Path) -> dict[Path, set[str] | None]:
    """The files of a checkpoint and, where an index says so, the keys of each."""
    if path.is_dir():
        # A hidden file is one that is still being written.
        single = sorted(path.glob("[!.]*.safetensors"))
        if (path / _INDEX_NAME).is_file():
            path = path / _INDEX_NAME
        elif (path / _SINGLE_NAME).is_file():
            path = path / _SINGLE_NAME
        elif len(single) == 1:
            path = single[0]
        else:
            raise CheckpointError(
                f"{path} holds neither {_INDEX_NAME} nor {_SINGLE_NAME}, and "
                f"{len(single)} .safetensors files where one was expected"
            )
    if not path.name.endswith(".index.json"):
        return {path: None}
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        items = list(weight_map.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no index of safetensors shards: {error!r}") from error
    shards: dict[Path, set[str] | None] = {}
    for key, name in items:
        # A shard lies beside its index; anything else would let an index reach other files.
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{path} names a shard outside its folder: {name!r}")
        cast("set[str]", shards.setdefault(path.parent / name, set())).add(key)
    if not shards:
        raise CheckpointError(f"{path} is no index of safetensors shards: it names no tensor")
    return shards


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint of the model holds: parameters and persistent buffers."""
    return dict(model.state_dict(keep_vars=True))


def _compare(
    model: nn.Module, header: Mapping[str, TensorInfo], path: Path, strict: bool
) -> KeyReport:
    """Compare keys and shapes; raise if they do not fit."""
    targets = _tensors(model)
    report = KeyReport(
        tuple(key for key in targets if key not in header),
        tuple(key for key in header if key not in targets),
    )
    misshapen = [
        f"{key} (file {list(header[key].shape)}, model {list(tensor.shape)})"
        for key, tensor in targets.items()
        if key in header and header[key].shape != tuple(tensor.shape)
    ]
    faults: list[tuple[str, Sequence[str]]] = [("misshapen", misshapen)]
    if strict:
        faults = [("missing", report.missing), ("unexpected", report.unexpected), *faults]
    said = [f"{len(keys)} {kind}: {_listed(keys)}" for kind, keys in faults if keys]
    if said:
        raise CheckpointError(f"{path.name} does not fit {type(model).__name__}: {'; '.join(said)}")
    return report


def _place(
    model: nn.Module, key: str, target: Tensor, stored: Tensor, dtype: torch.dtype | None
) -> None:
    """Put one stored tensor into the model."""
    if not target.is_meta:
        with torch.no_grad():
            target.copy_(stored)
        return
    if dtype is not None and stored.is_floating_point():
        stored = stored.to(dtype)
    owner_name, _, name = key.rpartition(".")
    owner = model.get_submodule(owner_name)
    if isinstance(target, nn.Parameter):
        owner.register_parameter(name, nn.Parameter(stored, requires_grad=target.requires_grad))
    else:
        owner.register_buffer(name, stored)


def _listed(keys: Iterable[str]) -> str:
    """The first few keys, and how many more there are."""
    keys = list(keys)
    more = f" and {len(keys) - _MAX_LISTED} more" if len(keys) > _MAX_LISTED else ""
    return ", ".join(keys[:_MAX_LISTED]) + more
