"""Tasks in processes of this machine.

    the caller ──spawns──▶ a nursery: loads what tasks share ──forks──▶ workers: do the tasks

What tasks share (modules, a tokenizer's tables) is loaded once, whatever the number of workers, and
is the same memory in all of them. It is loaded in a process of its own because a fork leaves the
threads of a process behind, and the caller may have any: a progress bar, connections. It loads by
calls that the caller makes one after the other. So the caller can hand over what it has of it, and
the first call can leave to a thread what takes long, while the modules of the next are imported.

Stopping is the caller's affair. SIGTERM and SIGINT are blocked in all others, so that a terminal or
a batch system may send them to everybody; a flag in shared memory, which a worker asks before each
task, says that no further one begins. The kernel kills whoever loses its parent.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.sharedctypes import RawValue
from types import ModuleType
from typing import Any, TypeVar

from dsv3data.contracts.progress import NullSink, Sink
from dsv3data.stages.stopping import Flag, signals_blocked

_POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerDied(Exception):
    """A process died. `left` are the numbers of the first tasks that were not done, if it is known:
    tasks begin in their order, so that these were under way."""

    def __init__(self, left: Sequence[int]) -> None:
        super().__init__(left)
        self.left = left


class _NotBegun(Exception):
    """The flag was set before the task was begun."""


def shared_flag() -> Flag:
    """A flag that processes started later share."""
    return RawValue(ctypes.c_int, 0)


def map_in_processes(
    work: Callable[[Task, Sink], Result],
    tasks: Sequence[Task],
    *,
    workers: int,
    prepare: Sequence[Callable[[], None]],
    sink: Sink,
    flag: Flag,
) -> list[Result | None]:
    """`work` of each task, in their order; the first error of a task ends all.

    Args:
        work: a function of a module.
        prepare: called in their order before the workers part; plain data. Each travels by itself:
            the modules of the next one are imported when this one is done, so that one may leave
            loading to a thread. The last one may leave no thread.
        flag: of `shared_flag`. Once it is set no task is begun; the result of the others is None.

    Raises:
        WorkerDied: the kernel or somebody killed a process.
    """
    context = multiprocessing.get_context("spawn")
    progress = context.SimpleQueue()
    with _pool(1, context, progress, flag) as nursery:
        try:
            for step in prepare:
                _call(nursery, step).result()
            future = _call(nursery, _nurse, work, tasks, workers)
            _follow(future, progress, sink)
            results: list[Result | None] = future.result()
            return results
        except BrokenProcessPool as error:
            raise WorkerDied(()) from error


def _call(nursery: ProcessPoolExecutor, function: Callable[..., Any], *args: Any) -> Future[Any]:
    with signals_blocked(), _without_main():  # the first call starts the process
        return nursery.submit(function, *args)


@contextmanager
def _without_main() -> Iterator[None]:
    """A spawned process begins with the import of the caller's main module: a script, and all that
    a command line needs. Nothing of it is needed here."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _nurse(
    work: Callable[[Task, Sink], Result],
    tasks: Sequence[Task],
    workers: int,
) -> list[Result | None]:
    gc.freeze()  # a collection would write to every object, and so copy the memory of all
    futures: list[Future[Result]] = []
    try:
        with _pool(workers, multiprocessing.get_context("fork"), _progress, _flag) as pool:
            for task in tasks:
                futures.append(pool.submit(_do, work, task))
            return _results(futures)
    except BrokenProcessPool as error:
        raise WorkerDied(_left(futures)[:workers]) from error


def _results(futures: Sequence[Future[Result]]) -> list[Result | None]:
    done = wait(futures, return_when=FIRST_EXCEPTION).done
    if _flag.value:
        for future in futures:
            future.cancel()  # but for those that workers have
    else:
        for future in done:
            future.result()
    return [_result(future) for future in futures]


def _result(future: Future[Result]) -> Result | None:
    try:
        return future.result()
    except (CancelledError, _NotBegun):
        return None


def _left(futures: Sequence[Future[Result]]) -> list[int]:
    return [
        number
        for number, future in enumerate(futures)
        if not future.done() or future.cancelled() or future.exception() is not None
    ]


@contextmanager
def _pool(workers: int, context: Any, progress: Any, flag: Any) -> Iterator[ProcessPoolExecutor]:
    """Processes that end when the block does, whatever they are doing."""
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(progress, flag, os.getpid())
    )
    try:
        yield pool
    finally:
        for child in multiprocessing.active_children():
            if child not in others:
                child.kill()
        pool.shutdown(cancel_futures=True)


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
_flag: Any = None


def _start(progress: Any, flag: Any, parent: int) -> None:
    """Runs first in a process."""
    global _progress, _flag
    _progress, _flag = progress, flag
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os._exit(1)


def _do(work: Callable[[Task, Sink], Result], task: Task) -> Result:
    if _flag.value:
        raise _NotBegun
    return work(task, _QueueSink(_progress))
