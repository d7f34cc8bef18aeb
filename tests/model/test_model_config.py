"""ModelConfig refuses sizes that make no model, and says which and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsv3data.contracts.config import load_config
from dsv3data.contracts.errors import BadConfig
from dsv3data.model.config import ModelConfig, YarnConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layers": 0}, "model.n_layers must be at least 1, not 0"),
        ({"vocab_size": -1}, "model.vocab_size must be 0 (from data) or more, not -1"),
        ({"n_dense_layers": 62}, "model.n_dense_layers must be between 0 and n_layers, not 62"),
        ({"mtp_depth": 2}, "model.mtp_depth must be 0 or 1, not 2"),
        ({"init_std": 0.0}, "model.init_std must be above 0, not 0.0"),
        ({"d_qk_rope": 63}, "model.d_qk_rope must be an even number, at least 2, not 63"),
        ({"rope_theta": 1.0}, "model.rope_theta must be above 1, not 1.0"),
        ({"n_routed_experts": 250}, "model.n_routed_experts must be a multiple of 8, not 250"),
        ({"n_groups": 256}, "model.n_groups must be small enough for 2 experts a group, not 256"),
        ({"top_k_groups": 9}, "model.top_k_groups must be between 1 and n_groups, not 9"),
        ({"top_k": 129}, "model.top_k must be between 1 and 128, not 129"),
        ({"routed_scale": 0.0}, "model.routed_scale must be above 0, not 0.0"),
    ],
)
def test_bad_sizes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig) as caught:
        ModelConfig(**changes)
    assert caught.value.what == message
    assert all((caught.value.where, caught.value.effect, caught.value.fix))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor": 0.5}, "model.yarn.factor must be at least 1 (1 is off), not 0.5"),
        ({"alpha": 64.0}, "model.yarn.alpha must be in (0, yarn.beta), not 64.0"),
        ({"original_context": 0}, "model.yarn.original_context must be >= 1, not 0"),
    ],
)
def test_bad_yarn_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig) as caught:
        YarnConfig(**changes)
    assert caught.value.what == message


def test_yarn_cannot_stay_on_at_the_original_context() -> None:
    with pytest.raises(BadConfig, match=r"yarn.factor must be 1 while context \(4096\) is within"):
        ModelConfig(yarn=YarnConfig(factor=40.0), context=4096)
    assert ModelConfig(yarn=YarnConfig(factor=40.0), context=131_072).uses_yarn
    assert not ModelConfig(context=131_072).uses_yarn


def test_mtp_input_order_is_read_from_a_closed_list(tmp_path: Path) -> None:
    file = tmp_path / "model.toml"
    file.write_text('mtp_input_order = "either"')
    with pytest.raises(BadConfig, match="mtp_input_order must be one of 'embedding_hidden'"):
        load_config(ModelConfig, file)
