"""Reading and writing weights: round trips, shards, and one clear sentence for every fault."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from opensora_fast.kernels.atomic import replacing
from opensora_fast.models import CheckpointError, HunyuanVAE, HunyuanVAEConfig, MMDiT, MMDiTConfig
from opensora_fast.models.checkpoint import (
    check_checkpoint,
    load_safetensors,
    read_header,
    read_metadata,
    save_safetensors,
    save_tensors,
)

CONFIG = MMDiTConfig(
    in_channels=8, vec_in_dim=4, context_in_dim=6, hidden_size=12, num_heads=2, depth=1,
    depth_single_blocks=1, axes_dim=(2, 2, 2),
)  # fmt: skip


@pytest.fixture
def model() -> MMDiT:
    torch.manual_seed(0)
    return MMDiT(CONFIG)


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_safetensors(model, path)
    return path


def same(a, b) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(torch.equal(a[key], b[key]) for key in a)


def test_round_trip_with_the_configuration_in_the_file(model, tmp_path) -> None:
    path = tmp_path / "tiny.safetensors"
    model.save_checkpoint(path)
    loaded = MMDiT.from_checkpoint(path)
    assert loaded.config == CONFIG
    assert same(loaded, model)
    assert not loaded.training
    assert all(p.requires_grad and not p.is_meta for p in loaded.parameters())


def test_dtype_and_device(model, saved) -> None:
    loaded = MMDiT.from_checkpoint(saved, CONFIG, device="cpu", dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert torch.equal(loaded.txt_in.weight, model.txt_in.weight.bfloat16())


def test_loading_into_a_model_keeps_its_parameters(model, saved) -> None:
    other = MMDiT(CONFIG).double()
    weight = other.txt_in.weight
    load_safetensors(other, saved)
    assert other.txt_in.weight is weight
    assert weight.dtype == torch.float64
    assert torch.equal(weight.float(), model.txt_in.weight)


@pytest.mark.parametrize("whole_folder", [True, False])
def test_sharded_folder(model, tmp_path, whole_folder) -> None:
    keys = list(model.state_dict())
    shards = {"a-00001.safetensors": keys[:9], "a-00002.safetensors": keys[9:]}
    for name, part in shards.items():
        save_file({key: model.state_dict()[key] for key in part}, tmp_path / name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {k: n for n, ks in shards.items() for k in ks}}))
    assert same(MMDiT.from_checkpoint(tmp_path if whole_folder else index, CONFIG), model)

    save_file({keys[0]: torch.zeros(1)}, tmp_path / "a-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"a-00002\.safetensors lacks .* its index promises"):
        read_header(tmp_path)
    (tmp_path / "a-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="there is no checkpoint file"):
        read_header(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}',
     '{"weight_map": {"x": "../secret.safetensors"}}', '{"weight_map": {"x": 1}}'],
)  # fmt: skip
def test_faulty_index(tmp_path, content) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"index of safetensors shards|outside its folder"):
        read_header(tmp_path)


def test_folder_with_one_file_and_with_too_many(model, saved) -> None:
    only = saved.rename(saved.with_name("diffusion.safetensors"))
    assert same(MMDiT.from_checkpoint(only.parent, CONFIG), model)
    save_tensors({"x": torch.zeros(1)}, only.with_name("other.safetensors"))
    with pytest.raises(CheckpointError, match=r"holds neither .* and 2 \.safetensors files"):
        MMDiT.from_checkpoint(only.parent, CONFIG)


def test_a_checkpoint_that_does_not_fit_names_every_key(model, saved) -> None:
    state = load_file(saved)
    del state["img_in.bias"]
    state["extra.weight"] = torch.zeros(2)
    state["txt_in.bias"] = torch.zeros(3)
    save_tensors(state, saved)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    said = (
        r"model\.safetensors does not fit MMDiT: 1 missing: img_in\.bias; "
        r"1 unexpected: extra\.weight; 1 misshapen: txt_in\.bias \(file \[3\], model \[12\]\)"
    )
    with pytest.raises(CheckpointError, match=said):
        load_safetensors(model, saved)
    with pytest.raises(CheckpointError, match=r"does not fit MMDiT: 1 misshapen: txt_in\.bias"):
        load_safetensors(model, saved, strict=False)
    # Nothing was touched before the whole header had been checked.
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_long_lists_are_cut(model, saved) -> None:
    with pytest.raises(CheckpointError) as error:
        check_checkpoint(HunyuanVAE(HunyuanVAEConfig(block_out_channels=(32,) * 4)), saved)
    assert " and " in str(error.value)
    assert len(str(error.value)) < 2000


def test_not_strict_reports_and_loads_the_rest(model, saved) -> None:
    state = load_file(saved)
    del state["cond_in.weight"], state["cond_in.bias"]
    save_tensors({**state, "extra": torch.zeros(1)}, saved)
    other = MMDiT(CONFIG)
    report = load_safetensors(other, saved, strict=False)
    assert report.missing == ("cond_in.weight", "cond_in.bias")
    assert report.unexpected == ("extra",)
    assert same(other, model)  # cond_in starts at zero in both


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_truncated_file(saved, length) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[:length])
    with pytest.raises(CheckpointError, match="is no complete safetensors file"):
        MMDiT.from_checkpoint(saved, CONFIG)


def test_other_kinds_of_file(tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"PK\x03\x04" * 1000)
    with pytest.raises(CheckpointError, match="is no complete safetensors file"):
        MMDiT.from_checkpoint(path, CONFIG)
    with pytest.raises(CheckpointError, match="there is no checkpoint file"):
        MMDiT.from_checkpoint(tmp_path / "none.safetensors", CONFIG)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds neither"):
        MMDiT.from_checkpoint(tmp_path / "empty", CONFIG)


def test_the_wrong_class_and_a_faulty_configuration(model, tmp_path) -> None:
    path = tmp_path / "model.safetensors"
    model.save_checkpoint(path)
    with pytest.raises(CheckpointError, match="holds a MMDiT, not a HunyuanVAE"):
        HunyuanVAE.from_checkpoint(path)
    save_tensors({"x": torch.zeros(1)}, path, {"class": "MMDiT", "config": '{"hidden_sise": 4}'})
    with pytest.raises(CheckpointError, match="no field 'hidden_sise'; did you mean 'hidden_size'"):
        MMDiT.from_checkpoint(path)


def test_saving_is_all_or_nothing(saved, tmp_path, monkeypatch) -> None:
    before = saved.read_bytes()

    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("opensora_fast.models.checkpoint.save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        save_tensors({"x": torch.zeros(1)}, saved)
    assert saved.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [saved.name]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        save_tensors({"x": torch.zeros(1)}, tmp_path / "none" / "x.safetensors")


def test_a_file_that_is_being_written_is_not_read(saved, tmp_path) -> None:
    only = saved.rename(tmp_path / "weights.safetensors")
    with replacing(tmp_path / "other.safetensors") as temporary:
        temporary.write_bytes(b"half")
        assert {info.file for info in read_header(tmp_path).values()} == {only}


def test_metadata_and_views(tmp_path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors({"x": torch.arange(6).view(2, 3).T}, path, {"fps": "8"})
    assert read_metadata(path) == {"format": "pt", "fps": "8"}
    assert torch.equal(load_file(path)["x"], torch.arange(6).view(2, 3).T)
