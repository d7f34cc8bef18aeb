"""Cost figures against the published ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dsv3data.contracts.errors import BadConfig
from dsv3data.training.config import CostConfig
from dsv3data.training.cost import device_hours, dollars, tflop_per_s, utilisation
from tiny_training import CONFIG, Notes, train_tiny


def test_published_figures() -> None:
    assert tflop_per_s(1541.7, 250.4e9) == pytest.approx(386, abs=0.5)
    assert dollars(2.788e6, 2.0) == pytest.approx(5.576e6)
    assert device_hours(14.8e12, 1541.7) == pytest.approx(2.664e6, rel=0.002)  # pre-training
    assert utilisation(386, 989) == pytest.approx(0.39, abs=0.001)
    assert utilisation(386, 0.0) is None
    assert dollars(1.0, 0.0) is None


def test_a_run_states_its_cost(tmp_path: Path) -> None:
    notes = Notes()
    cost = CostConfig(peak_tflop_per_s=0.01, dollars_per_hour=3600.0)
    result = train_tiny(tmp_path, notes, steps=4, cost=cost)
    assert "  MFU " in notes.text
    assert result.mfu == pytest.approx(result.tflop_per_s / 0.01)
    assert result.dollars == pytest.approx(result.tokens / result.tokens_per_s)
    with pytest.raises(BadConfig, match=r"cost\.dollars_per_hour must be 0 \(not known\) or more"):
        replace(CONFIG, cost=CostConfig(dollars_per_hour=-1.0))
