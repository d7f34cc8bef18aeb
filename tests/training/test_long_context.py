"""Past the length it was trained on, a model extended by the recipe finds what the plain one loses.

The task: among 1,022 ids of noise stands one that is no noise; a mark at the end asks for it. It is
learned at 32 ids in seconds; at 32 times that length the plain model's attention is spread and
turned by angles it never saw.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dsv3data.contracts.errors import BadConfig, BadInput
from dsv3data.model.config import ModelConfig, YarnConfig
from dsv3data.model.init import init_weights
from dsv3data.model.transformer import Transformer
from dsv3data.training.checkpoint import newest_checkpoint
from dsv3data.training.config import OptimizerConfig
from dsv3data.training.optimizer import AdamW
from tiny_training import CONFIG as TINY
from tiny_training import Notes, train_tiny

SHORT, LONG = 32, 1024
NOISE, VALUES = 24, 16
MARK = NOISE + VALUES
CONFIG = ModelConfig(
    vocab_size=64, context=SHORT, n_layers=2, n_dense_layers=2, d_model=32, d_ff_dense=64,
    n_heads=2, q_lora_rank=32, kv_lora_rank=32, d_qk_nope=8, d_qk_rope=8, d_v=16,
    n_routed_experts=4, d_expert=16, top_k=2, n_groups=2, top_k_groups=1, mtp_depth=0, init_std=0.1,
)  # fmt: skip
EXTENDED = replace(CONFIG, context=LONG, yarn=YarnConfig(factor=32.0, original_context=SHORT))


def rows(n: int, length: int, chance: np.random.Generator) -> Tensor:
    """int64 [n, length]: noise with one value in it, the mark, the value again."""
    ids = chance.integers(0, NOISE, (n, length))
    values = NOISE + chance.integers(0, VALUES, n)
    ids[np.arange(n), chance.integers(0, length - 2, n)] = values
    ids[:, -2], ids[:, -1] = MARK, values
    return torch.from_numpy(ids)


def answers(model: Transformer, ids_BT: Tensor) -> Tensor:
    """Logits at the mark [B, V]."""
    return model.logits(model(ids_BT[:, :-1]).hidden_BTD[:, -1])


def train(model: Transformer, steps: int, n: int, length: int, lr: float) -> None:
    chance = np.random.default_rng(length)
    optimizer = AdamW(model.named_parameters(), OptimizerConfig(lr=lr, weight_decay=0.0))
    for step in range(steps):
        ids_BT = rows(n, length, chance)
        optimizer.zero_grad()
        F.cross_entropy(answers(model, ids_BT), ids_BT[:, -1]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(lr * min(1.0, (step + 1) / 10))


@torch.no_grad()
def found(model: Transformer, length: int) -> tuple[float, float]:
    """Share of values found in 24 rows, and the loss."""
    ids_BT = rows(24, length, np.random.default_rng(9))
    logits_BV = answers(model, ids_BT)
    right = logits_BV.argmax(dim=-1) == ids_BT[:, -1]
    return float(right.float().mean()), float(F.cross_entropy(logits_BV, ids_BT[:, -1]))


def copy_of(model: Transformer, config: ModelConfig) -> Transformer:
    other = Transformer(config)
    other.load_state_dict(model.state_dict())
    return other


def test_yarn_finds_past_the_original_length_what_the_plain_model_loses() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = Transformer(CONFIG)
        init_weights(model, seed=0)
        train(model, steps=80, n=32, length=SHORT, lr=1e-2)
        assert found(model, SHORT)[0] >= 0.9
        plain = copy_of(model, replace(CONFIG, context=LONG))
        extended = copy_of(model, EXTENDED)
        assert not plain.config.uses_yarn
        assert extended.config.uses_yarn
        before = found(extended, LONG)
        train(
            extended, steps=2, n=1, length=LONG, lr=1e-3
        )  # the phase's own training, in miniature
        share, loss = found(extended, LONG)
        plain_share, plain_loss = found(plain, LONG)
    finally:
        torch.set_num_threads(threads)
    # Weights that differ in their last digits, as on another CPU: 1.0 with YaRN, 0.38 to 0.67
    # without; losses differ by a factor of 190 or more.
    assert share >= 0.9
    assert plain_share < share
    assert loss < plain_loss / 5
    assert before[1] < plain_loss  # already by the stretched frequencies alone


# A phase that starts from the weights of the one before


def test_a_longer_phase_starts_from_the_weights_of_another_run(tmp_path: Path) -> None:
    train_tiny(tmp_path / "short", steps=4)
    yarn = YarnConfig(factor=2.0, original_context=16)
    model = replace(TINY.model, context=32, yarn=yarn)
    notes = Notes()
    start = {"model": model, "start_from": tmp_path / "short"}
    train_tiny(tmp_path / "long", notes, steps=1, optimizer=OptimizerConfig(lr=1e-30), **start)
    assert "starting from" in notes.text
    short, long = (newest_checkpoint(tmp_path / name) for name in ("short", "long"))
    assert long.config.model.uses_yarn
    weights = long.weights()
    for name, weight in short.weights().items():
        if "bias_E" not in name:  # which moves after each step
            torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-6)
    # Once it has a checkpoint of its own it goes on from that.
    notes = Notes()
    train_tiny(tmp_path / "long", notes, steps=2, **start)
    assert "resumed from" in notes.text
    assert "starting from" not in notes.text


def test_a_phase_of_another_model_is_refused(tmp_path: Path) -> None:
    train_tiny(tmp_path / "short", steps=1)
    other = replace(TINY.model, d_ff_dense=48)
    with pytest.raises(BadConfig) as caught:
        train_tiny(tmp_path / "long", steps=1, model=other, start_from=tmp_path / "short")
    assert caught.value.what == (
        "the weights to start from are of another model: model.d_ff_dense: 32 → 48"
    )
    assert "only context, yarn, rope_theta, init_std may differ" in caught.value.fix
    with pytest.raises(BadInput, match="there is no checkpoint of a training run"):
        train_tiny(tmp_path / "other", steps=1, start_from=tmp_path / "none")
