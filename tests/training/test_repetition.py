"""Repetition measures against their slow twin, and on texts whose values are plain."""

from __future__ import annotations

import numpy as np
import pytest

from dsv3data.training.repetition import repetition, repetition_reference


def test_equals_the_slow_twin_on_random_ids() -> None:
    chance = np.random.default_rng(5)
    seen_repeated = 0
    for _ in range(300):
        ids = chance.integers(0, chance.integers(1, 6), chance.integers(0, 60)).astype(np.int32)
        if chance.random() < 0.5:
            ids = np.tile(ids, 2)
        found, expected = repetition(ids), repetition_reference(ids)
        assert found.repeated == pytest.approx(expected.repeated)
        assert found.commonest == pytest.approx(expected.commonest)
        assert found.longest_run == expected.longest_run
        seen_repeated += found.repeated > 0
    assert seen_repeated > 100


def test_plain_cases() -> None:
    nothing = repetition(np.array([], np.int32))
    assert (nothing.repeated, nothing.commonest, nothing.longest_run) == (0, 0, 0)
    different = repetition(np.arange(100, dtype=np.int32))
    assert (different.repeated, different.commonest, different.longest_run) == (0, 0.01, 1)
    same = repetition(np.full(100, 7, np.int32))
    assert (same.repeated, same.commonest, same.longest_run) == (1 - 1 / 93, 1, 100)
    short = repetition(np.array([4, 4, 5], np.int32))
    assert (short.repeated, short.longest_run) == (0, 2)
