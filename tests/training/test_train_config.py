"""TrainConfig refuses what cannot be trained, and the shipped configs are valid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsv3data.contracts.config import load_config
from dsv3data.contracts.errors import BadConfig
from dsv3data.model.accounting import count_parameters
from dsv3data.model.config import ModelConfig, YarnConfig
from dsv3data.training import presets
from dsv3data.training.config import (
    BalanceConfig,
    CheckpointConfig,
    MTPConfig,
    OptimizerConfig,
    ScheduleConfig,
    SpikeConfig,
    TrainConfig,
)
from dsv3data.training.schedule import learning_rate

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"threads": -1}, "threads must be 0 (torch's choice) or more, not -1"),
        (
            {"attention": "flex"},
            "attention must be sdpa or math on a CPU (flex has no gradient there), not flex",
        ),
        ({"batch_rows": 4, "micro_batch_rows": 3}, "micro_batch_rows must be 0 or a divisor of 4"),
        ({"optimizer": OptimizerConfig(lr=0.0)}, "optimizer.lr must be above 0, not 0.0"),
        ({"optimizer": OptimizerConfig(beta2=1.0)}, "optimizer.beta2 must be in [0, 1), not 1.0"),
        (
            {"optimizer": OptimizerConfig(weight_decay=-0.1)},
            "optimizer.weight_decay must be 0 or more, not -0.1",
        ),
        (
            {"schedule": ScheduleConfig(warmup_steps=-1)},
            "schedule.warmup_steps must be 0 or more, not -1",
        ),
        (
            {"schedule": ScheduleConfig(cosine_tokens=1, min_lr=1.0)},
            "schedule.min_lr must be between 0 and optimizer.lr (0.00022), not 1.0",
        ),
        (
            {"schedule": ScheduleConfig(final_lr=-1.0)},
            "schedule.final_lr must be 0 or more, not -1.0",
        ),
        ({"balance": BalanceConfig(gamma=-1.0)}, "balance.gamma must be 0 or more, not -1.0"),
        (
            {"mtp": MTPConfig(loss_weight=0.0)},
            "mtp.loss_weight must be above 0 while model.mtp_depth is 1, not 0.0",
        ),
        ({"checkpoint": CheckpointConfig(keep=0)}, "checkpoint.keep must be at least 1, not 0"),
    ],
)
def test_bad_values_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig) as caught:
        TrainConfig(**changes)
    assert caught.value.what.startswith(message)
    assert all((caught.value.where, caught.value.effect, caught.value.fix))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_start_rows": 3}, "batch_start_rows must be from 0 to batch_rows"),
        ({"batch_rows": 8, "batch_start_rows": 2}, "batch_ramp_tokens must be above 0 with"),
        ({"batch_ramp_tokens": 5}, "batch_ramp_tokens must be above 0 with"),
        ({"nudge": 1.0}, r"nudge must be in \[0, 1\)"),
        ({"ema_decay": 1.0}, r"ema_decay must be in \[0, 1\)"),
        ({"spike": SpikeConfig(z=-1)}, "spike.z must be 0"),
        ({"spike": SpikeConfig(window=3)}, "spike.window must be at least 4"),
    ],
)
def test_bad_values_of_ramp_average_and_spikes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        TrainConfig(**changes)


def test_mtp_weight_may_be_0_without_the_module() -> None:
    TrainConfig(model=ModelConfig(mtp_depth=0), mtp=MTPConfig(loss_weight=0.0))


def test_yarn_stays_off_where_the_rows_are_no_longer_than_the_original_context() -> None:
    """Also where the context comes from the data."""
    early = TrainConfig(model=ModelConfig(context=0, yarn=YarnConfig(factor=40.0)))
    with pytest.raises(BadConfig, match=r"yarn\.factor must be 1 while context \(4096\) is within"):
        early.with_model(vocab_size=1000, context=4096)
    assert early.with_model(vocab_size=1000, context=32_768).model.uses_yarn


def test_a_misspelt_key_names_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text("[balance]\nalfa = 1e-4\n")
    with pytest.raises(BadConfig, match=r"unknown key 'balance\.alfa'") as caught:
        load_config(TrainConfig, file)
    assert caught.value.fix == "did you mean 'balance.alpha'?"


def test_tiny_config_takes_its_sizes_from_the_data() -> None:
    config = load_config(TrainConfig, CONFIGS / "tiny.toml")
    assert (config.model.vocab_size, config.model.context) == (0, 0)
    filled = config.with_model(vocab_size=17_280, context=1024)
    assert filled.model == replace(config.model, vocab_size=17_280, context=1024)
    assert 4e6 < count_parameters(filled.model).total < 8e6


def test_the_gate_has_every_part_and_fills_whole_tiles() -> None:
    config = load_config(TrainConfig, CONFIGS / "gate.toml")
    model = config.model
    assert model.d_model % 128 == 0
    assert min(model.n_dense_layers, model.n_moe_layers, model.mtp_depth) == 1
    assert 1 < model.top_k_groups < model.n_groups
    # Rows of 128 ids: the learning rate ends near its least.
    tokens = config.steps * config.batch_rows * 128
    assert learning_rate(config, step=config.steps, tokens=tokens) < 1e-5


def test_every_config_is_a_preset_that_loads() -> None:
    files = sorted(CONFIGS.glob("*.toml"))
    assert {"needle", "tiny", "small", "16b", "671b"} <= {file.stem for file in files}
    for file in files:
        load_config(TrainConfig, file)
        assert file.resolve().parent == Path(presets.__file__).parent


def test_671b_config_is_deepseek_v3() -> None:
    config = load_config(TrainConfig, CONFIGS / "671b.toml")
    assert config.model == ModelConfig()
    assert count_parameters(config.model).main == 671_026_419_200


@pytest.mark.parametrize(("name", "context"), [("671b-32k", 32_768), ("671b-128k", 131_072)])
def test_the_phases_of_long_context(name: str, context: int) -> None:
    config = load_config(TrainConfig, CONFIGS / f"{name}.toml")
    yarn = YarnConfig(factor=40.0)
    assert config.model == replace(ModelConfig(), context=context, yarn=yarn)
    assert config.model.uses_yarn
    steps = [learning_rate(config, step=step, tokens=step * 10**9) for step in (0, 999)]
    assert steps == [7.3e-6, 7.3e-6]


@pytest.mark.parametrize(
    ("name", "total", "active"), [("small", 1.72e9, 0.46e9), ("16b", 15.8e9, 2.7e9)]
)
def test_sizes_stated_in_the_presets(name: str, total: float, active: float) -> None:
    config = load_config(TrainConfig, CONFIGS / f"{name}.toml")
    size = count_parameters(config.model)
    assert size.main == pytest.approx(total, rel=0.005)
    assert size.active == pytest.approx(active, rel=0.01)
    schedule = config.schedule
    tokens = config.steps * config.batch_rows * config.model.context
    # The cosine ends where training does, give or take a rounded figure.
    assert schedule.constant_tokens + schedule.cosine_tokens == pytest.approx(tokens, rel=0.05)
