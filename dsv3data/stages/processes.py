"""Tasks in processes of this machine.

    the caller ──spawns──▶ a nursery: loads what tasks share ──forks──▶ workers: do the tasks

What tasks share (modules, a tokenizer's tables) is loaded once, whatever the number of workers, and
is the same memory in all of them. It is loaded in a process of its own because a fork leaves the
threads of a process behind, and the caller may have any: a progress bar, connections.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from types import FrameType
from typing import Any, NoReturn, TypeVar

from dsv3data.contracts.progress import NullSink, Sink

_POLL_SECONDS = 0.1

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerDied(Exception):
    """A process died. `left` are the numbers of the first tasks that were not done, if it is known:
    tasks begin in their order, so that these were under way."""

    def __init__(self, left: Sequence[int]) -> None:
        super().__init__(left)
        self.left = left


def map_in_processes(
    work: Callable[[Task, Sink], Result],
    tasks: Sequence[Task],
    *,
    workers: int,
    prepare: Callable[[Sequence[Task]], None],
    sink: Sink,
) -> list[Result]:
    """`work` of each task, in their order; the first error of a task ends all.

    Args:
        work, prepare: functions of a module.
        prepare: called once, with the tasks, before the workers part. It may leave no thread.

    Raises:
        WorkerDied: the kernel or somebody killed a process.
    """
    context = multiprocessing.get_context("spawn")
    progress = context.SimpleQueue()
    with _pool(1, context, progress) as nursery:
        future = nursery.submit(_nurse, work, tasks, workers, prepare)
        try:
            _follow(future, progress, sink)
            return future.result()
        except BrokenProcessPool as error:
            raise WorkerDied(()) from error


def _nurse(
    work: Callable[[Task, Sink], Result],
    tasks: Sequence[Task],
    workers: int,
    prepare: Callable[[Sequence[Task]], None],
) -> list[Result]:
    prepare(tasks)
    gc.freeze()  # a collection would write to every object, and so copy the memory of all
    futures: list[Future[Result]] = []
    try:
        with _pool(workers, multiprocessing.get_context("fork"), _progress) as pool:
            futures.append(pool.submit(_do, work, tasks[0]))  # forks all workers
            signal.signal(signal.SIGTERM, _stop)  # they do not inherit it
            for task in tasks[1:]:
                futures.append(pool.submit(_do, work, task))
            return _results(futures)
    except BrokenProcessPool as error:
        raise WorkerDied(_left(futures)[:workers]) from error
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _results(futures: Sequence[Future[Result]]) -> list[Result]:
    for future in wait(futures, return_when=FIRST_EXCEPTION).done:
        future.result()
    return [future.result() for future in futures]


def _left(futures: Sequence[Future[Result]]) -> list[int]:
    return [
        number
        for number, future in enumerate(futures)
        if not future.done() or future.cancelled() or future.exception() is not None
    ]


@contextmanager
def _pool(workers: int, context: Any, progress: Any) -> Iterator[ProcessPoolExecutor]:
    """Processes that have ended when the block has, whatever they were doing."""
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(progress,)
    )
    try:
        yield pool
    finally:
        for child in multiprocessing.active_children():
            child.terminate()
        pool.shutdown(cancel_futures=True)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """End the workers first."""
    signal.signal(number, signal.SIG_IGN)
    raise WorkerDied(())


def _follow(future: Future[Any], progress: Any, sink: Sink) -> None:
    """Pass on progress and notes until all is done or something failed.

    Each worker says what is true of all: of notes that are the same up to a colon, the first.
    """
    said: set[str] = set()
    done = False
    while not done:
        done = bool(wait([future], timeout=_POLL_SECONDS).done)
        while not progress.empty():
            amount, counts, note = progress.get()
            if note is None:
                sink.advance(amount, **counts)
            elif (topic := note.partition(":")[0]) not in said:
                said.add(topic)
                sink.note(note)


class _QueueSink(NullSink):
    """A worker's sink: sends progress to the caller's process."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def advance(self, amount: int, **counts: int) -> None:
        self._queue.put((amount, counts, None))

    def note(self, text: str) -> None:
        self._queue.put((0, {}, text))


_progress: Any = None  # of the process, where it is one of ours


def _start(progress: Any) -> None:
    """Runs first in a process: Ctrl-C is the caller's affair, and the parent's death is ours."""
    global _progress
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _progress = progress
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _do(work: Callable[[Task, Sink], Result], task: Task) -> Result:
    return work(task, _QueueSink(_progress))
