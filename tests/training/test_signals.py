"""SIGTERM and SIGINT in a real process: exit 75 with a complete checkpoint, then continue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dsv3data.io.failpoints import VARIABLE
from dsv3data.training.checkpoint import list_checkpoints, verify_checkpoint
from dsv3data.training.stop import StopRequest
from held import is_held, let_go, wait_until
from tiny_training import train_tiny

ROOT = Path(__file__).parents[2]
HELPER = ROOT / "tests" / "helpers" / "tiny_training.py"


def start(
    out: Path, steps: int, *signals: signal.Signals, failpoint: str = ""
) -> subprocess.Popen[str]:
    """A process that trains; before its sixth batch it gets these signals."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HELPER.parent}"}
    environment |= {VARIABLE: failpoint}
    return subprocess.Popen(
        [sys.executable, str(HELPER), str(out), str(steps), *map(str, map(int, signals))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def steps_saved(out: Path) -> list[int]:
    """Of the checkpoints, all of them verified, newest first."""
    return [verify_checkpoint(path)["step"] for path in list_checkpoints(out / "checkpoints")]


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_finishes_the_step_saves_and_exits_75(
    number: signal.Signals, tmp_path: Path
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    process = start(out, 40, number)
    _, stderr = process.communicate()
    assert process.returncode == 75, stderr
    assert f"error: stopped by {number.name} after step " in stderr
    assert "fix: run the same command again to continue" in stderr
    steps = steps_saved(out)[0]
    assert steps == len(losses(out)) == 6

    train_tiny(out, steps=steps + 3)
    train_tiny(whole, steps=steps + 3)
    assert losses(out) == losses(whole)


def test_third_signal_exits_at_once_and_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    process = start(tmp_path, 40, *[signal.SIGTERM] * 3)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert steps_saved(tmp_path) == [4]
    assert train_tiny(tmp_path, steps=6).steps == 6


def test_signals_while_a_checkpoint_is_written_beside_training_lose_nothing(
    tmp_path: Path,
) -> None:
    """The process holds still in the writing thread, the loop wherever it is by then."""
    process = start(tmp_path, 40, failpoint="atomic_folder.before_rename@2:STOP")
    wait_until(lambda: is_held(process.pid))
    assert steps_saved(tmp_path) == [4]
    for number in (signal.SIGTERM, signal.SIGINT):  # two of one kind would arrive as one
        process.send_signal(number)
    let_go(process.pid)
    _, stderr = process.communicate()
    assert process.returncode == 75, stderr
    last, second = steps_saved(tmp_path)[:2]
    assert 8 <= last == len(losses(tmp_path))
    assert second in (4, 8)
    assert not any(path.name.startswith(".") for path in (tmp_path / "checkpoints").iterdir())


def test_kill_9_while_a_checkpoint_is_written_beside_training(tmp_path: Path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    process = start(out, 40, failpoint="atomic_folder.before_rename@2")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert steps_saved(out) == [4]
    assert any(path.name.endswith(".partial") for path in (out / "checkpoints").iterdir())
    assert train_tiny(out, steps=8).steps == 8
    assert not any(path.name.startswith(".") for path in (out / "checkpoints").iterdir())

    train_tiny(whole, steps=8)
    assert losses(out) == losses(whole)
    for name in ("model.safetensors", "optimizer.safetensors"):
        ours, theirs = (run / "checkpoints" / "step-00000008" / name for run in (out, whole))
        assert ours.read_bytes() == theirs.read_bytes()


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert signal.getsignal(signal.SIGTERM) != before
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal_name == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) == before


def test_outside_the_main_thread_it_listens_to_nothing() -> None:
    seen: list[str | None] = []

    def listen() -> None:
        with StopRequest() as stop:
            seen.append(stop.signal_name)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [None]
