"""Weights as the released files hold them: E4M3 with a scale per 128×128."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dsv3data.contracts.errors import BadInput
from dsv3data.model.config import ModelConfig, YarnConfig
from dsv3data.model.hf_config import hf_config, model_config
from dsv3data.model.hf_fp8 import decoded, from_fp8, in_fp8, is_in_fp8
from dsv3data.model.hf_names import released_names
from tiny_models import small_config

LAYER = "model.layers.3.mlp.experts.7.up_proj.weight"


def test_a_matrix_comes_back_within_its_rounding() -> None:
    weight = torch.randn(200, 300, generator=torch.Generator().manual_seed(0))
    weight[:128, :128] *= 1e-3  # a block with a scale of its own
    codes, scales = in_fp8(weight)
    assert (codes.dtype, codes.shape) == (torch.float8_e4m3fn, (200, 300))
    assert (scales.dtype, scales.shape) == (torch.float32, (2, 3))
    again = from_fp8(codes, scales)
    error = (again - weight).norm() / weight.norm()
    assert 0.01 < error < 0.04
    # Three bits of mantissa: at most a sixteenth of a number, or half of the smallest step.
    steps = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)[:200, :300] * 2.0**-10
    assert ((again - weight).abs() <= (weight.abs() / 16).maximum(steps) * 1.001).all()
    twice, _ = in_fp8(again)
    assert torch.equal(twice.float(), codes.float())


def test_which_tensors_are_in_fp8() -> None:
    config = small_config(mtp_depth=1)
    names = {name for name in released_names(config) if is_in_fp8(name)}
    assert {LAYER.replace(".3.", ".1."), "model.layers.0.mlp.down_proj.weight"} <= names
    assert "model.layers.3.self_attn.kv_a_proj_with_mqa.weight" in names
    # 5 matrices of attention a layer; 3 of the dense layer; 3 a MoE layer's expert or shared one.
    assert len(names) == 4 * 5 + 3 + 3 * 3 * (16 + 1)
    others = {name.rsplit(".", 2)[-2] for name in set(released_names(config)) - names}
    assert {"embed_tokens", "lm_head", "eh_proj", "gate", "q_a_layernorm"} <= others


@pytest.mark.parametrize(
    ("tensors", "what", "where"),
    [
        (
            {LAYER: torch.zeros(200, 300, dtype=torch.float8_e4m3fn)},
            "a matrix in FP8 needs scales of [2, 3], there are none",
            f"{LAYER}_scale_inv",
        ),
        (
            {
                LAYER: torch.zeros(200, 300, dtype=torch.float8_e4m3fn),
                f"{LAYER}_scale_inv": torch.ones(3, 2),
            },
            "a matrix in FP8 needs scales of [2, 3], there are [3, 2]",
            f"{LAYER}_scale_inv",
        ),
        (
            {LAYER: torch.zeros(2, 3), f"{LAYER}_scale_inv": torch.ones(1, 1)},
            "there are scales without a matrix in FP8",
            f"{LAYER}_scale_inv",
        ),
    ],
)
def test_scales_that_do_not_fit(tensors: dict[str, torch.Tensor], what: str, where: str) -> None:
    with pytest.raises(BadInput) as caught:
        decoded(tensors)
    assert (caught.value.what, caught.value.where) == (what, where)


# Config


@pytest.mark.parametrize(
    "changes",
    [{}, {"yarn": YarnConfig(factor=4.0, original_context=24, beta=8.0)}],
    ids=["plain", "yarn"],
)
def test_a_config_comes_back(changes: dict[str, Any]) -> None:
    config = small_config(mtp_depth=1, init_std=ModelConfig().init_std, **changes)
    assert model_config(hf_config(config), where="here") == config


def test_the_published_way_to_write_yarn_is_read() -> None:
    config = ModelConfig(context=131_072)
    settings = hf_config(config)
    del settings["rope_parameters"]
    settings |= {
        "rope_theta": 10000,
        "rope_scaling": {
            "beta_fast": 32,
            "beta_slow": 1,
            "factor": 40,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096,
            "type": "yarn",
        },
    }
    read = model_config(settings, where="here")
    assert read.uses_yarn
    assert (read.yarn.factor, read.yarn.beta, read.rope_theta) == (40.0, 32.0, 10_000.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "model_type is 'llama', not 'deepseek_v3'"),
        ({"scoring_func": "softmax"}, "scoring_func is 'softmax', not 'sigmoid'"),
        ({"n_group": None}, "n_group is missing"),
    ],
)
def test_another_architecture_is_refused(changes: dict[str, object], message: str) -> None:
    settings = hf_config(small_config()) | changes
    settings = {name: value for name, value in settings.items() if value is not None}
    with pytest.raises(BadInput, match="is not of a DeepSeek-V3 that is built here") as caught:
        model_config(settings, where="here")
    assert caught.value.what.endswith(message)
