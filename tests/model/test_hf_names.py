"""Names of the released weights, both ways."""

from __future__ import annotations

import pytest
import torch

from dsv3data.contracts.errors import BadInput
from dsv3data.model.config import ModelConfig
from dsv3data.model.hf_names import export_state, import_state, released_names
from tiny_models import random_model, small_config


@pytest.mark.parametrize("order", ["hidden_embedding", "embedding_hidden"])
def test_export_and_import_return_the_same_weights(order: str) -> None:
    config = small_config(mtp_depth=1, mtp_input_order=order)
    state = random_model(config).state_dict()
    exported = export_state(state, config)
    assert set(exported) == set(released_names(config))
    restored = import_state(exported, config)
    assert restored.keys() == state.keys()
    assert all(torch.equal(restored[name], state[name]) for name in state)


def test_the_released_projection_multiplies_the_embedding_first() -> None:
    config = small_config(mtp_depth=1, mtp_input_order="hidden_embedding")
    state = random_model(config).state_dict()
    exported = export_state(state, config)["model.layers.3.eh_proj.weight"]
    assert torch.equal(exported[:, :48], state["mtp.projection.weight"][:, 48:])


def test_names_of_the_full_model_are_the_released_ones() -> None:
    names = set(released_names(ModelConfig()))
    assert {
        "model.embed_tokens.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.3.mlp.gate.e_score_correction_bias",
        "model.layers.60.mlp.experts.255.down_proj.weight",
        "model.layers.60.self_attn.kv_a_proj_with_mqa.weight",
        "model.layers.61.eh_proj.weight",
        "model.layers.61.shared_head.head.weight",
        "model.layers.61.mlp.experts.0.up_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
    } <= names


def test_every_expert_has_three_matrices_and_mtp_its_own_copies() -> None:
    config = small_config(mtp_depth=1)
    ours = len(random_model(config).state_dict())
    # 3 MoE layers: 16 experts of three matrices where we hold two stacked tensors; 2 copies.
    assert len(set(released_names(config))) == ours + 3 * (16 * 3 - 2) + 2


def test_foreign_weights_are_refused_by_name() -> None:
    config = small_config()
    exported = export_state(random_model(config).state_dict(), config)
    del exported["model.norm.weight"]
    exported["model.layers.9.extra"] = torch.zeros(1)
    with pytest.raises(BadInput) as caught:
        import_state(exported, config)
    assert caught.value.what == (
        "the weights do not fit the model: 1 tensors missing, 1 without a place"
    )
    assert caught.value.where == "model.norm.weight, model.layers.9.extra"
