"""Tasks in processes: loaded once, ended together, in order."""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import ClassVar

import pytest

from dsv3data.contracts.errors import Stopped
from dsv3data.contracts.progress import NullSink, Sink
from dsv3data.stages import processes
from dsv3data.stages.processes import WorkerDied, map_in_processes, shared_flag
from dsv3data.stages.stopping import finish_units
from held import is_alive, wait_until

_loaded_by = 0


_begun_by = 0


def begin() -> None:
    global _begun_by
    assert not hasattr(sys.modules["__main__"], "__file__")  # not the caller's script
    _begun_by = os.getpid()


def load() -> None:
    global _loaded_by
    _loaded_by = _begun_by


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
    flag = shared_flag()
    done = map_in_processes(who, range(40), workers=2, prepare=[begin, load], sink=sink, flag=flag)
    results = [result for result in done if result is not None]
    assert [task for task, _, _ in results] == list(range(40))
    (nursery,) = {loaded_by for _, loaded_by, _ in results}
    workers = {pid for _, _, pid in results}
    assert not workers & {0, nursery, os.getpid()}
    assert len(workers) <= 2
    assert sink.done == 40


def kill_the_nursery(folder: Path, sink: Sink) -> None:
    """When both workers are here, one of them kills the nursery."""
    if os.getpid() == min(both_workers(folder)):
        os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def both_workers(folder: Path) -> list[int]:
    """Leave this worker's pid, and wait for the other's."""
    (folder / str(os.getpid())).touch()
    wait_until(lambda: len([*folder.iterdir()]) == 2)
    return [int(path.name) for path in folder.iterdir()]


def test_workers_end_with_the_process_that_forked_them(tmp_path: Path) -> None:
    tasks, flag = [tmp_path] * 3, shared_flag()
    with pytest.raises(WorkerDied):
        map_in_processes(
            kill_the_nursery, tasks, workers=2, prepare=[load], sink=NullSink(), flag=flag
        )
    workers = [int(path.name) for path in tmp_path.iterdir()]
    wait_until(lambda: not any(map(is_alive, workers)))


def signal_to_all(folder: Path, sink: Sink) -> int:
    """What a batch system does to the processes of a job. Ends when the caller has set the flag."""
    if os.getpid() == min(pids := both_workers(folder)):
        for pid in (*pids, os.getppid()):
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        os.kill(int(folder.name), signal.SIGTERM)
    wait_until(lambda: processes._flag.value)
    return os.getpid()


def test_a_signal_to_all_processes_lets_tasks_end_and_none_begin(tmp_path: Path) -> None:
    folder = tmp_path / str(os.getpid())
    folder.mkdir()
    tasks, flag = [folder] * 50, shared_flag()
    with pytest.raises(Stopped, match="stopped by SIGTERM"), finish_units(NullSink(), flag):
        done = map_in_processes(
            signal_to_all, tasks, workers=2, prepare=[load], sink=NullSink(), flag=flag
        )
    assert sorted(done[:2]) == sorted(int(path.name) for path in folder.iterdir())
    assert done[2:] == [None] * 48


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
