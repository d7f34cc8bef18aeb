"""Tasks in processes: loaded once, ended together, in order."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import ClassVar

import pytest

from dsv3data.contracts.progress import NullSink, Sink
from dsv3data.stages import processes
from dsv3data.stages.processes import WorkerDied, map_in_processes

_loaded_by = 0


def load(tasks: Sequence[object]) -> None:
    global _loaded_by
    _loaded_by = os.getpid()


def who(task: int, sink: Sink) -> tuple[int, int, int]:
    sink.advance(1)
    time.sleep(0.02)  # for the other worker's share
    return task, _loaded_by, os.getpid()


class Total(NullSink):
    done = 0

    def advance(self, amount: int, **counts: int) -> None:
        self.done += amount


def test_what_tasks_share_is_loaded_once_and_results_come_in_order() -> None:
    sink = Total()
    results = map_in_processes(who, range(40), workers=2, prepare=load, sink=sink)
    assert [task for task, _, _ in results] == list(range(40))
    (nursery,) = {loaded_by for _, loaded_by, _ in results}
    workers = {pid for _, _, pid in results}
    assert not workers & {0, nursery, os.getpid()}
    assert len(workers) <= 2
    assert sink.done == 40


def end_the_nursery(task: tuple[Path, int], sink: Sink) -> None:
    """Leave this worker's pid; when both have, one of them sends the nursery the signal."""
    folder, number = task
    nursery = os.getppid()
    (folder / str(os.getpid())).touch()
    while len(pids := [int(path.name) for path in folder.iterdir()]) < 2:
        time.sleep(0.001)
    if os.getpid() == min(pids):
        os.kill(nursery, number)
    signal.pause()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_process_that_forked_them(tmp_path: Path, number: int) -> None:
    with pytest.raises(WorkerDied):
        map_in_processes(
            end_the_nursery, [(tmp_path, number)] * 3, workers=2, prepare=load, sink=NullSink()
        )
    end = time.monotonic() + 60
    while any(map(_is_alive, tmp_path.iterdir())) and time.monotonic() < end:
        time.sleep(0.01)
    assert [path.name for path in tmp_path.iterdir() if _is_alive(path)] == []


def _is_alive(path: Path) -> bool:
    try:
        state = (Path("/proc") / path.name / "stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # nobody may be there to wait for it


def test_what_each_worker_notes_is_told_once() -> None:
    class Listener(Total):
        notes: ClassVar[list[str]] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    progress: SimpleQueue[tuple[int, dict[str, int], str | None]] = SimpleQueue()
    for message in (
        (0, {}, "an engine encodes: 95 MB/s"),
        (7, {"things": 1}, None),
        (0, {}, "an engine encodes: 97 MB/s"),
        (0, {}, "something else"),
    ):
        progress.put(message)
    done: Future[None] = Future()
    done.set_result(None)
    sink = Listener()
    processes._follow(done, progress, sink)
    assert sink.done == 7
    assert sink.notes == ["an engine encodes: 95 MB/s", "something else"]
