"""Limits of a step: what stands out is skipped, what merely varies is not."""

from __future__ import annotations

import json
import math
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsv3data.training import step as step_module
from dsv3data.training.config import SpikeConfig
from dsv3data.training.spikes import NO_LIMITS, step_limits
from fake_training_data import FakeDataset
from tiny_training import Notes, train_tiny

CONFIG = SpikeConfig()


def recent(losses: Any) -> list[list[float]]:
    return [[float(loss), 1.0 + 0.1 * math.sin(number)] for number, loss in enumerate(losses)]


def test_ordinary_noise_never_reaches_the_limit() -> None:
    chance = np.random.default_rng(1)
    losses = 3 + 0.2 * chance.standard_normal(20_000)
    for start in range(0, 19_000, 50):
        limits = step_limits(recent(losses[start : start + 128]), CONFIG)
        assert limits.allow(losses[start + 128], 1.1)


def test_a_spike_is_beyond_it_also_after_another_one() -> None:
    losses = [3 + 0.2 * math.sin(number) for number in range(128)]
    losses[100:104] = [30.0, 40.0, 50.0, 60.0]
    limits = step_limits(recent(losses), CONFIG)
    assert limits.allow(3.4, 1.1)
    assert not limits.allow(7.0, 1.1)
    assert not limits.allow(3.4, 9.0)


def test_a_falling_loss_is_no_spike() -> None:
    losses = [10 * 0.97**number for number in range(128)]
    assert step_limits(recent(losses[:127]), CONFIG).allow(losses[127], 1.0)


def test_steps_that_are_all_alike_leave_some_room() -> None:
    limits = step_limits([[2.0, 1.0]] * 128, CONFIG)
    assert limits.allow(2.1, 1.0)
    assert not limits.allow(2.3, 1.0)


def test_a_gradient_norm_may_double_and_triple_for_a_while() -> None:
    limits = step_limits([[2.0, 0.6 + 0.01 * (number % 3)] for number in range(128)], CONFIG)
    assert limits.allow(2.0, 3 * 0.61)
    assert not limits.allow(2.0, 5 * 0.61)


@pytest.mark.parametrize(("n_steps", "z"), [(31, 12.0), (128, 0.0)])
def test_no_limits_at_the_start_or_when_off(n_steps: int, z: float) -> None:
    assert step_limits(recent([1.0] * n_steps), SpikeConfig(z=z)) == NO_LIMITS


def test_a_run_passes_over_a_spike_and_says_which_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = count(1), step_module.torch.nn.utils.clip_grad_norm_

    def spiking(*args: Any, **kwargs: Any) -> Any:
        norm = real(*args, **kwargs)
        return norm * 1000 if next(calls) == 12 else norm

    monkeypatch.setattr(step_module.torch.nn.utils, "clip_grad_norm_", spiking)
    notes = Notes()
    train_tiny(tmp_path, notes, steps=16, spike=SpikeConfig(window=16))
    skipped = json.loads((tmp_path / "skipped_steps.jsonl").read_text())
    assert (skipped["step"], skipped["reason"]) == (12, "spike")
    assert skipped["grad_norm"] > 10 * skipped["grad_norm_limit"]
    assert len(skipped["row_losses"]) == len(skipped["row_ids"]) == 4
    assert all(row < FakeDataset().n_rows for row in skipped["row_ids"])
    assert "WARNING step 12 skipped (spike)" in notes.text
