"""Event files as TensorBoard itself reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsv3data.contracts.errors import EnvironmentFault
from tiny_training import train_tiny


def test_event_files_hold_the_metrics_also_of_a_resumed_run(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps in (3, 6):
        train_tiny(tmp_path, steps=steps, tensorboard=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for tag, name in (("loss/next token", "main_loss"), ("step/learning rate", "lr")):
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert found == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines]
    assert {"loss by domain/even", "loss by domain/odd"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("experts/violation of layer 1")) == 6


def test_without_the_package_nothing_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsv3data.training.tensorboard.find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault) as caught:
        train_tiny(tmp_path / "run", steps=1, tensorboard=True)
    assert caught.value.what == "--tensorboard needs the package tensorboard, not installed here"
    assert "pip install 'dsv3data[tensorboard]'" in caught.value.fix
    assert not (tmp_path / "run").exists()
