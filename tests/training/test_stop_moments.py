"""A stop request at every moment of a run: while preparing, waiting, stepping, saving, ending."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsv3data.contracts.errors import Stopped
from dsv3data.training import loop as loop_module
from dsv3data.training import run as run_module
from dsv3data.training.checkpoint import list_checkpoints, verify_checkpoint
from fake_training_data import FakeStream
from signal_at import signal_at_call
from tiny_training import train_tiny

# Calls during which the signal arrives, and the step that is then in the newest checkpoint.
MOMENTS = {
    "preparing": (run_module, "init_weights", 1, 0),
    "waiting for data": (FakeStream, "next", 2, 2),
    "in a step": (loop_module, "train_step", 3, 3),
    "writing metrics": (loop_module, "step_record", 6, 6),
    "saving": (loop_module, "contents_of", 1, 4),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken run."""
    out = tmp_path_factory.mktemp("whole")
    train_tiny(out)
    return out


@pytest.mark.parametrize(("module", "name", "call", "step"), MOMENTS.values(), ids=MOMENTS.keys())
def test_whatever_it_interrupts_the_run_continues_as_if_unbroken(
    module: Any,
    name: str,
    call: int,
    step: int,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signal_at_call(monkeypatch, module, name, call)
    with pytest.raises(Stopped) as caught:
        train_tiny(tmp_path / "out")
    monkeypatch.undo()
    assert caught.value.what == f"stopped by SIGTERM after step {step} of 8"
    assert caught.value.effect == "every finished step is in the newest checkpoint"
    checkpoints = list_checkpoints(tmp_path / "out" / "checkpoints")
    newest = [verify_checkpoint(path)["step"] for path in checkpoints][:1]
    assert newest == ([step] if step else [])

    train_tiny(tmp_path / "out")
    ours, theirs = (
        list_checkpoints(out / "checkpoints")[0] / "model.safetensors"
        for out in (tmp_path / "out", whole)
    )
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_request_during_the_last_step_finds_the_run_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal_at_call(monkeypatch, loop_module, "train_step", 8)
    assert train_tiny(tmp_path).steps == 8
