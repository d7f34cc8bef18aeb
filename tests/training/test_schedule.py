"""Learning rate, bias speed and MTP weight at the borders the paper names."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from dsv3data.contracts.config import load_config
from dsv3data.training.config import TrainConfig
from dsv3data.training.schedule import knobs

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
