"""Properties of the transformer beyond the golden cases."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opensora_fast.kernels import attention
from opensora_fast.models import MMDiT, MMDiTConfig
from opensora_fast.models.configuration import config_from_dict, config_to_dict
from opensora_fast.models.mmdit import latent_position_ids, pack, text_position_ids, unpack
from opensora_fast.models.mmdit.position import rope_tables, timestep_embedding

CONFIG = MMDiTConfig(
    in_channels=8, vec_in_dim=6, context_in_dim=10, hidden_size=48, num_heads=3, depth=1,
    depth_single_blocks=1, axes_dim=(4, 6, 6), mlp_ratio=2.0,
)  # fmt: skip
GRID = (2, 3, 4)


def arguments(batch: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(batch, *shape, generator=generator).to(dtype)

    return {
        "img": draw(24, 8),
        "img_ids": latent_position_ids(batch, GRID, patch_size=1),
        "txt": draw(5, 10),
        "txt_ids": text_position_ids(batch, 5),
        "timesteps": torch.linspace(0.9, 0.2, batch).to(dtype),
        "y_vec": draw(6),
        "cond": draw(24, 12),
        "guidance": torch.full((batch,), 4.0, dtype=dtype),
    }


@pytest.mark.parametrize(
    "variant",
    [{}, {"fused_qkv": True}, {"use_liger_rope": False}, {"guidance_embed": True},
     {"qkv_bias": False}, {"depth": 0}, {"depth_single_blocks": 0}],
)  # fmt: skip
def test_gradients_reach_every_parameter_and_input(fill_randomly, variant) -> None:
    model = fill_randomly(MMDiT(dataclasses.replace(CONFIG, **variant)))
    inputs = {k: v.requires_grad_() if k in ("img", "txt", "y_vec", "cond") else v
              for k, v in arguments().items()}  # fmt: skip
    model(**inputs).square().sum().backward()
    for name, tensor in (*model.named_parameters(), *inputs.items()):
        if not tensor.requires_grad or _is_last_text_part(model, name):
            continue
        assert tensor.grad is not None, name
        assert bool(tensor.grad.any()), name


def _is_last_text_part(model: MMDiT, name: str) -> bool:
    """Text after the last attention reaches no image token."""
    last_only = model.config.depth_single_blocks == 0
    parts = ("txt_attn.proj", "txt_mlp", "txt_attn.norm.query_norm", "txt_attn.q_proj")
    return last_only and any(part in name for part in parts)


@torch.no_grad()
def test_bf16_is_close_to_fp32(fill_randomly) -> None:
    model = fill_randomly(MMDiT(CONFIG))
    exact = model.bfloat16().float()(**{
        k: v.float() for k, v in arguments(dtype=torch.bfloat16).items()
    })  # fmt: skip
    rounded = model.bfloat16()(**arguments(dtype=torch.bfloat16))
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().max() < 0.05 * exact.std()


@torch.no_grad()
def test_batch_items_do_not_meet_and_have_positions_of_their_own(fill_randomly) -> None:
    model = fill_randomly(MMDiT(CONFIG))
    inputs = arguments()
    shifted = torch.stack([inputs["img_ids"][0], inputs["img_ids"][0] * 3 + 1])
    together = model(**{**inputs, "img_ids": shifted})
    for sample in range(2):
        one = {k: v[sample : sample + 1] for k, v in {**inputs, "img_ids": shifted}.items()}
        torch.testing.assert_close(together[sample : sample + 1], model(**one))
    assert not torch.allclose(together[1], model(**inputs)[1])


@torch.no_grad()
def test_shared_and_repeated_positions_agree(fill_randomly) -> None:
    model = fill_randomly(MMDiT(CONFIG))
    inputs = arguments()
    repeated = {k: v.clone() if "ids" in k else v for k, v in inputs.items()}
    assert torch.equal(model(**inputs), model(**repeated))


@torch.no_grad()
def test_layouts_of_projections_and_rotation_can_be_converted(fill_randomly) -> None:
    """Fused, interleaved weights, permuted and split, give the other variant's output."""
    flux = fill_randomly(MMDiT(dataclasses.replace(CONFIG, fused_qkv=True, use_liger_rope=False)))
    size, dim = CONFIG.hidden_size, CONFIG.head_dim
    order = torch.cat([torch.arange(0, dim, 2), torch.arange(1, dim, 2)])

    def permute(rows: torch.Tensor) -> torch.Tensor:
        return rows.unflatten(0, (-1, dim))[:, order].flatten(0, 1)

    state = {}
    for key, value in flux.state_dict().items():
        head, _, kind = key.rpartition(".")
        if head.endswith("qkv"):
            q, k, v = value.split(size)
            for name, rows in (("q", permute(q)), ("k", permute(k)), ("v", v)):
                state[f"{head[:-3]}{name}_proj.{kind}"] = rows
        elif head.endswith("linear1"):
            q, k, rest = value.split([size, size, value.shape[0] - 2 * size])
            state[f"{head[:-7]}q_proj.{kind}"] = permute(q)
            state[f"{head[:-7]}k_proj.{kind}"] = permute(k)
            state[f"{head[:-7]}v_mlp.{kind}"] = rest
        else:
            state[key] = value[order] if kind == "scale" else value
    split = MMDiT(CONFIG)
    split.load_state_dict(state)
    torch.testing.assert_close(split(**arguments()), flux(**arguments()), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_attention_can_be_replaced(fill_randomly) -> None:
    shapes = []

    def counted(q, k, v):
        shapes.append(q.shape)
        return attention(q, k, v)

    model = fill_randomly(MMDiT(CONFIG, attention_fn=counted))
    plain = fill_randomly(MMDiT(CONFIG))
    assert torch.equal(model(**arguments()), plain(**arguments()))
    assert shapes == [(2, 29, 3, 16)] * 2


@torch.no_grad()
def test_text_order_does_not_matter_because_text_has_no_position(fill_randomly) -> None:
    model = fill_randomly(MMDiT(CONFIG))
    inputs = arguments()
    shuffled = {**inputs, "txt": inputs["txt"][:, torch.tensor([3, 1, 4, 0, 2])]}
    torch.testing.assert_close(model(**shuffled), model(**inputs), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_conditions_start_without_effect() -> None:
    model = MMDiT(CONFIG)
    inputs = arguments()
    assert torch.equal(model(**inputs), model(**{**inputs, "cond": inputs["cond"] * 0}))


def test_timestep_embedding() -> None:
    t = torch.tensor([0.0, 0.3])
    embedded = timestep_embedding(t, 8)
    angles = 300.0 * 10000.0 ** (-torch.arange(4) / 4)
    assert embedded[0].tolist() == [1.0] * 4 + [0.0] * 4
    torch.testing.assert_close(
        embedded[1], torch.cat([angles.cos(), angles.sin()]), rtol=0, atol=1e-4
    )
    # A bf16 time is scaled in fp32: 1000 t is not rounded to bf16.
    low = torch.tensor([0.7]).bfloat16()
    assert torch.equal(timestep_embedding(low), timestep_embedding(low.float()).bfloat16())
    assert timestep_embedding(t, 7).shape == (2, 7)
    assert timestep_embedding(torch.tensor([1])).dtype == torch.float32


def test_rope_tables_are_rotations_by_position() -> None:
    ids = torch.tensor([[[0, 0, 0], [1, 2, 3]]])
    cos, sin = rope_tables(ids, (4, 2, 2), theta=100.0)
    assert cos[0, 0].tolist() == [1.0] * 4
    angles = torch.tensor([1.0, 0.1, 2.0, 3.0])
    torch.testing.assert_close(cos[0, 1], angles.cos())
    torch.testing.assert_close(sin[0, 1], angles.sin())


@settings(deadline=None, max_examples=20, derandomize=True)
@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)
)
def test_packing_and_unpacking(batch: int, t: int, rows: int, columns: int, p: int) -> None:
    z = torch.randn(batch, 2, t, rows * p, columns * p)
    tokens = pack(z, p)
    assert torch.equal(unpack(tokens, z.shape[2:], p), z)
    ids = latent_position_ids(batch, z.shape[2:], p)
    assert ids.shape == (batch, tokens.shape[1], 3)
    frame, row, column = (int(i) for i in ids[-1, -1])
    patch = z[-1, :, frame, row * p : (row + 1) * p, column * p : (column + 1) * p]
    assert torch.equal(tokens[-1, -1], patch.flatten())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"img": torch.zeros(24, 8)}, r"img must be \[B, L, channels\], got shape \[24, 8\]"),
        ({"txt": torch.zeros(5, 10)}, r"txt must be \[B, L, channels\]"),
        ({"cond": None}, r"\(cond_embed\) needs cond, got None"),
        ({"guidance": None}, r"\(guidance_embed\) needs guidance, got None"),
    ],
)
def test_missing_and_misshapen_inputs(change, said) -> None:
    model = MMDiT(dataclasses.replace(CONFIG, guidance_embed=True))
    with pytest.raises(ValueError, match=said):
        model(**{**arguments(), **change})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"hidden_size": 50}, "hidden_size 50 is not a multiple of num_heads 3"),
        ({"axes_dim": (4, 6, 8)}, "add up to 18, the head size is 16"),
        ({"axes_dim": (8, 8)}, "must be three even numbers"),
        ({"axes_dim": (3, 6, 7)}, "must be three even numbers"),
        ({"axes_dim": "466"}, "axes_dim must be a list of integers"),
        ({"in_channels": 6}, "in_channels 6 is not a multiple of patch_size squared 4"),
        ({"depth": -1}, "must not be negative"),
        ({"theta": 0}, "theta must be positive, got 0"),
    ],
)
def test_configurations_that_contradict_themselves(values, said) -> None:
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(CONFIG, **values)


def test_configuration_survives_json() -> None:
    assert config_from_dict(MMDiTConfig, config_to_dict(CONFIG)) == CONFIG
    with pytest.raises(ValueError, match="no field 'num_head'; did you mean 'num_heads'"):
        config_from_dict(MMDiTConfig, {"num_head": 3})


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: pack(torch.zeros(1, 2, 3, 5, 4)), "latent 5 x 4 is not a multiple of the patch"),
        (lambda: pack(torch.zeros(2, 3, 4, 4)), r"must be \[B, C, T, H, W\]"),
        (lambda: unpack(torch.zeros(1, 5, 8), (1, 4, 4)), "do not make a latent of 1 x 4 x 4"),
    ],
)
def test_latents_that_make_no_tokens(call, said) -> None:
    with pytest.raises(ValueError, match=said):
        call()
