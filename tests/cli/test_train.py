"""`dsv3data train` beyond a plain run, as a user gives it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dsv3data.training import loop as loop_module
from run_cli import CliResult
from signal_at import signal_at_call

Cli = Callable[..., CliResult]
GATE = Path(__file__).parents[2] / "configs" / "gate.toml"


def test_compare_stops_and_goes_on(
    cli: Cli, tiny_packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "compared"
    command = ["train", "--config", GATE, "--data", tiny_packed, "--out", out]
    command += ["--compare", "fp8,fp32", "--seeds", "1"]
    command += ["--set", "steps=2", "--set", "batch_rows=1"]
    steps = signal_at_call(monkeypatch, loop_module, "train_step", 3)
    stopped = cli(*command)
    assert stopped.code == 75
    assert "stopped by SIGTERM after step 1 of 2" in stopped.err
    assert "fix: run the same command again to continue" in stopped.err

    done = cli(*command)
    assert done.code == 0, done.err
    assert "run 2 of 3: fp32, seed 0" in done.err
    assert "resumed from" in done.err
    assert "gate of 0.25%" in done.out
    assert len(steps) == 3 * 2  # no step twice
    result = json.loads(cli(*command, "--json").out)
    assert len(steps) == 3 * 2
    assert result["verdict"] in ("passed", "failed", "undecided")
    assert (
        result["differences"] == json.loads((out / "comparison.json").read_bytes())["differences"]
    )

    other = cli(*command, "--set", "optimizer.lr=1e-3")
    assert other.code == 3
    assert "the folder holds another comparison: config.optimizer.lr: 0.002 → 0.001" in other.err
    wrong = cli(*command[:-2], "--compare", "fp8", "--dry-run")
    assert wrong.code == 3
    assert "--compare takes two different precisions" in wrong.err
