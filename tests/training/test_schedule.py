"""Learning rate, bias speed and MTP weight at the borders the paper names."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from dsv3data.contracts.config import load_config
from dsv3data.model.config import ModelConfig
from dsv3data.training.config import TrainConfig
from dsv3data.training.schedule import batch_rows, knobs, planned_tokens

TERA, GIGA = 10**12, 10**9
V3 = load_config(TrainConfig, Path(__file__).parents[2] / "configs" / "671b.toml")


def lr(step: int, tokens: int) -> float:
    return knobs(V3, step=step, tokens=tokens).lr


@pytest.mark.parametrize(
    ("step", "tokens", "expected"),
    [
        (0, 0, 2.2e-4 / 2000),
        (999, 0, 1.1e-4),
        (1999, 0, 2.2e-4),
        (2000, GIGA, 2.2e-4),
        (10**5, 10 * TERA, 2.2e-4),
        (10**5, 10 * TERA + 2150 * GIGA, (2.2e-4 + 2.2e-5) / 2),
        (10**5, 14_300 * GIGA, 2.2e-5),
        (10**5, 14_632 * GIGA, 2.2e-5),
        (10**5, 14_633 * GIGA, 7.3e-6),
        (10**5, 14_800 * GIGA, 7.3e-6),
    ],
)
def test_learning_rate_of_v3(step: int, tokens: int, expected: float) -> None:
    assert lr(step, tokens) == pytest.approx(expected)


def test_learning_rate_never_rises_after_warm_up() -> None:
    rates = [lr(10**5, tokens) for tokens in range(0, 15 * TERA, 50 * GIGA)]
    assert all(later <= earlier for earlier, later in pairwise(rates))


def test_a_schedule_without_cosine_stays_at_its_peak() -> None:
    flat = TrainConfig()
    assert knobs(flat, step=10**6, tokens=10**15).lr == flat.optimizer.lr


def test_bias_speed_and_mtp_weight_change_when_the_paper_says() -> None:
    early, late = (
        knobs(V3, step=3000, tokens=10 * TERA - 1),
        knobs(V3, step=3000, tokens=10 * TERA),
    )
    assert (early.mtp_weight, late.mtp_weight) == (0.3, 0.1)
    end = knobs(V3, step=3000, tokens=14_300 * GIGA)
    assert (late.gamma, end.gamma) == (0.001, 0.0)


def test_batches_grow_as_the_paper_says() -> None:
    grown = [batch_rows(V3, int(tokens)) for tokens in (0, 469e9 / 2, 468.99e9, 469e9, 14e12)]
    assert grown == [3072, 9216, 15_359, 15_360, 15_360]
    assert planned_tokens(V3) == pytest.approx(14.8e12, rel=0.001)


def test_a_growing_batch_is_of_whole_micro_batches() -> None:
    config = TrainConfig(
        model=ModelConfig(context=10),
        steps=50,
        batch_rows=12,
        micro_batch_rows=4,
        batch_start_rows=4,
        batch_ramp_tokens=1000,
    )
    tokens, rows = 0, []
    for _ in range(config.steps):
        rows.append(batch_rows(config, tokens))
        tokens += rows[-1] * 10
    assert sorted(set(rows)) == [4, 8, 12]
    assert rows == sorted(rows)
    assert tokens == planned_tokens(config)
    assert planned_tokens(replace(config, batch_start_rows=0, batch_ramp_tokens=0)) == 6000
