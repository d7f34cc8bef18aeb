"""Writing beside training: what it may not change, what it may not lose.

Nothing here depends on who is faster: a write is held until the run says that it waits for it.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dsv3data.contracts.errors import BadInput, Dsv3DataError, EnvironmentFault, Stopped
from dsv3data.training import checkpoint as checkpoint_module
from dsv3data.training import checkpoint_writer as writer_module
from dsv3data.training import host_copy as host_copy_module
from dsv3data.training import loop as loop_module
from dsv3data.training.checkpoint import (
    Contents,
    Progress,
    contents_of,
    list_checkpoints,
    verify_checkpoint,
)
from dsv3data.training.checkpoint_writer import CheckpointWriter
from dsv3data.training.config import CheckpointConfig, OptimizerConfig
from dsv3data.training.stop import StopRequest
from fake_training_data import FakeBatch, FakeDataset, FakeStream
from held import wait_until
from tiny_training import CONFIG, Notes, train_tiny

WAITING = "waiting until the checkpoint is written"
ON_GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)
SYNCHRONOUS = replace(CONFIG.checkpoint, asynchronous=False)


class HeldWrites(Notes):
    """Holds every write until `release`, and answers lines of the run with what a test does: the
    first of a kind only, since a slow machine may wait for other writes too."""

    def __init__(self, patch: pytest.MonkeyPatch, answers: dict[str, Callable[[], object]]) -> None:
        super().__init__()
        self._free, self._answers = threading.Event(), answers
        real = writer_module.write_checkpoint

        def held(*args: Any, **kwargs: Any) -> Path:
            assert self._free.wait(600), "nobody waited for the checkpoint"
            return real(*args, **kwargs)

        patch.setattr(writer_module, "write_checkpoint", held)

    def release(self) -> None:
        self._free.set()

    def note(self, text: str) -> None:
        super().note(text)
        for beginning in [*self._answers]:
            if text.startswith(beginning):
                self._answers.pop(beginning)()


@pytest.fixture
def writers(tmp_path: Path) -> Callable[[bool], CheckpointWriter]:
    """Writers into a folder each, named by whether they are asynchronous."""

    def make(asynchronous: bool) -> CheckpointWriter:
        config = CheckpointConfig(asynchronous=asynchronous)
        folder = tmp_path / str(asynchronous)
        return CheckpointWriter(folder, config, stop=StopRequest(), sink=Notes())

    return make


def contents(*values: float, device: str = "cpu") -> Contents:
    tensors = {"a": {"x": torch.tensor(values, device=device), "steps": torch.tensor(3)}}
    return Contents(step=1, tensors=tensors, state={"format": 2})


def names(out: Path) -> list[str]:
    """Of the checkpoints, all of them verified, newest first."""
    found = list_checkpoints(out / "checkpoints")
    for path in found:
        verify_checkpoint(path)
    return [path.name for path in found]


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in lines(out)]


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class StoppedStream(FakeStream):
    """Asks the run to stop while it reads the rows of a step."""

    def __init__(self, step: int) -> None:
        super().__init__(FakeDataset(), seed=0)
        self._step = step

    def next(self, n: int) -> FakeBatch:
        if self.consumed == (self._step - 1) * n:
            ask_to_stop()
        return super().next(n)


# What is written


@pytest.mark.parametrize("moments", ["fp32", "bf16"])
def test_the_files_are_the_same_bytes_as_written_in_place(moments: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "ema_decay": 0.5,
        "optimizer": replace(OptimizerConfig(lr=1e-2), moments=moments),
    }
    train_tiny(tmp_path / "beside", **changes)
    train_tiny(tmp_path / "in-place", checkpoint=SYNCHRONOUS, **changes)
    assert names(tmp_path / "beside") == ["step-00000008", "step-00000004"]
    for beside in list_checkpoints(tmp_path / "beside" / "checkpoints"):
        in_place = tmp_path / "in-place" / "checkpoints" / beside.name
        for file in ("model", "optimizer", "average"):
            name = f"{file}.safetensors"
            assert (beside / name).read_bytes() == (in_place / name).read_bytes()
        ours, theirs = (
            json.loads((path / "state.json").read_text()) for path in (beside, in_place)
        )
        assert ours["config"]["checkpoint"].pop("asynchronous") is True
        assert theirs["config"]["checkpoint"].pop("asynchronous") is False
        differ = {key for key in ours if ours[key] != theirs[key]}
        assert differ == {"config_hash", "state_sha256"}


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
def test_steps_after_it_do_not_reach_the_copy(
    device: str,
    writers: Callable[[bool], CheckpointWriter],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = HeldWrites(monkeypatch, {})
    values = contents(1.0, 2.0, device=device)
    with writers(True) as writer:
        writer.save(values)
        values.tensors["a"]["x"] += 7
        held.release()
    monkeypatch.undo()
    with writers(False) as writer:
        writer.save(contents(1.0, 2.0, device=device))
    beside, in_place = (tmp_path / name / "step-00000001" for name in ("True", "False"))
    for file in ("a", "state.json"):
        assert (beside / file).read_bytes() == (in_place / file).read_bytes()


def test_the_state_is_a_copy() -> None:
    model = torch.nn.Linear(1, 1)
    optimizer: Any = type("NoMoments", (), {"state": dict})
    progress = Progress(step=3, recent=[[1.0, 2.0]], loader={"consumed": 4})
    state = contents_of(model, optimizer, progress, CONFIG).state  # type: ignore[arg-type]
    progress.recent[0][0], progress.loader["consumed"], progress.step = 9.0, 9, 9
    torch.rand(1)
    assert (state["step"], state["recent"], state["loader"]) == (3, [[1.0, 2.0]], {"consumed": 4})


def test_steps_go_on_while_a_checkpoint_is_written_and_the_next_one_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, list[str]]] = []

    def look_and_release() -> None:
        seen.append((len(lines(tmp_path)), names(tmp_path)))
        sink.release()

    sink = HeldWrites(monkeypatch, {WAITING: look_and_release})
    train_tiny(tmp_path, sink)
    assert seen[0] == (8, [])  # steps 5 to 8 were done while that of step 4 was held
    assert names(tmp_path) == ["step-00000008", "step-00000004"]
    assert sum(line.startswith("saved ") for line in sink.lines) == 2


def test_the_metrics_say_how_long_a_step_waited_for_a_checkpoint(tmp_path: Path) -> None:
    for mode in (CONFIG.checkpoint, SYNCHRONOUS):
        out = tmp_path / str(mode.asynchronous)
        train_tiny(out, checkpoint=mode)
        waited = [line["step"] for line in lines(out) if line["checkpoint_wait_s"] > 0]
        assert waited == [5]


# What is not lost


def test_two_requests_to_stop_while_one_is_written_lose_neither_it_nor_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = HeldWrites(monkeypatch, {WAITING: ask_to_stop, "second signal": lambda: sink.release()})
    with pytest.raises(Stopped) as caught:
        # The first one comes in step 6, while the checkpoint of step 4 is written.
        train_tiny(tmp_path / "out", sink, stream=StoppedStream(6))
    monkeypatch.undo()
    assert caught.value.exit_code == 75
    assert caught.value.what == "stopped by SIGTERM after step 6 of 8"
    assert names(tmp_path / "out") == ["step-00000006", "step-00000004"]
    (answer,) = (line for line in sink.lines if line.startswith("second signal (SIGTERM): "))
    assert "the run still ends with its checkpoint" in answer
    assert "a third ends it at once" in answer

    train_tiny(tmp_path / "out")
    train_tiny(tmp_path / "whole")
    assert losses(tmp_path / "out") == losses(tmp_path / "whole")


def test_a_run_that_fails_ends_what_it_began_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = HeldWrites(monkeypatch, {WAITING: lambda: sink.release()})
    fail_in_step(monkeypatch, 6)
    with pytest.raises(BadInput, match="step 6 failed"):
        train_tiny(tmp_path, sink)
    assert names(tmp_path) == ["step-00000004"]


def test_a_write_that_fails_beside_a_run_that_fails_is_named_and_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_the_disk(monkeypatch)
    sink = HeldWrites(monkeypatch, {WAITING: lambda: sink.release()})
    fail_in_step(monkeypatch, 6)
    with pytest.raises(BadInput, match="step 6 failed"):
        train_tiny(tmp_path, sink)
    (warning,) = (line for line in sink.lines if line.startswith("WARNING "))
    assert "no room to write: No space left on device" in warning
    assert names(tmp_path) == []


# What fails


def fail_in_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    real, calls = loop_module.train_step, iter(range(1, 100))

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == step:
            raise BadInput(f"step {step} failed")
        return real(*args, **kwargs)

    monkeypatch.setattr(loop_module, "train_step", failing)


def fill_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    real = checkpoint_module.write_tensors

    def full(path: Path, tensors: Any) -> dict[str, Any]:
        if path.name == "optimizer.safetensors":
            raise OSError(28, "No space left on device", str(path))
        return real(path, tensors)

    monkeypatch.setattr(checkpoint_module, "write_tensors", full)


@pytest.mark.parametrize("mode", [CONFIG.checkpoint, SYNCHRONOUS], ids=["beside", "in place"])
def test_a_full_disk_leaves_the_previous_checkpoint_and_exit_code_5(
    mode: CheckpointConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_tiny(tmp_path, steps=4, checkpoint=mode)
    fill_the_disk(monkeypatch)
    with pytest.raises(EnvironmentFault) as caught:
        train_tiny(tmp_path, steps=8, checkpoint=mode)
    monkeypatch.undo()
    assert caught.value.what.startswith("no room to write: No space left on device")
    assert caught.value.where.endswith("step-00000008")
    assert caught.value.effect.endswith("everything finished before it is kept")
    assert caught.value.fix.startswith("free space ")
    assert caught.value.exit_code == 5
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]
    assert train_tiny(tmp_path, steps=8, checkpoint=mode).steps == 8


class AtOnce:
    """An executor whose work is done when it is handed over."""

    def __init__(self, *args: object, **options: object) -> None: ...

    def submit(self, work: Callable[..., Path], *args: Any, **kwargs: Any) -> Future[Path]:
        done: Future[Path] = Future()
        try:
            done.set_result(work(*args, **kwargs))
        except Dsv3DataError as error:
            done.set_exception(error)
        return done

    def shutdown(self) -> None: ...


def test_a_write_that_failed_ends_the_run_before_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_the_disk(monkeypatch)
    monkeypatch.setattr(writer_module, "ThreadPoolExecutor", AtOnce)
    with pytest.raises(EnvironmentFault, match="no room to write"):
        train_tiny(tmp_path)
    assert len(lines(tmp_path)) == 4


def test_a_failed_write_is_raised_by_the_thread_that_asks(
    writers: Callable[[bool], CheckpointWriter], tmp_path: Path
) -> None:
    (tmp_path / "True").write_text("a file where the folder should be")
    with writers(True) as writer:
        writer.save(contents(1.0))
        with pytest.raises(EnvironmentFault, match="a file is where a folder should be"):
            wait_until(writer.check)


def test_no_memory_for_the_copy_names_the_switch(
    writers: Callable[[bool], CheckpointWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*args: object, **options: object) -> None:
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(host_copy_module.torch, "empty", no_memory)
    with writers(True) as writer, pytest.raises(EnvironmentFault) as caught:
        writer.save(contents(1.0, 2.0))
    assert caught.value.what == (
        "no memory for a copy of 16 bytes that a checkpoint is written from: can't allocate memory"
    )
    assert caught.value.fix.endswith("--set checkpoint.asynchronous=false")
