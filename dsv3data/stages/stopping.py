"""Stopping on SIGTERM and SIGINT (Ctrl-C): exit code 75, and the same command goes on.

    with stop_on_signals():          a signal ends the block at once: planning, publishing
        with finish_units(sink, flag):
            for unit in units:       a signal waits for the end of the units under way,
                if flag.value:       and whoever does units asks before each;
                    break            a second one drops what is under way
                complete_unit(unit)

The flag is all that units need to know, wherever they are done: a number in this process; a number
in memory that worker processes share, which see no signals (`processes.py`); for tasks on other
machines, which have signals of their own, also a note in the folder of the run (`shared_run.py`).

A unit that takes longer than a batch system's patience is killed: then it is done again.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn, Protocol

from dsv3data.contracts.errors import Stopped
from dsv3data.contracts.progress import Sink

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# `timeout` sends its signal twice, and wrappers pass on what the terminal has sent already.
REPEAT_SECONDS = 0.5


class Flag(Protocol):
    """The number of the signal that asked to stop; 0 before."""

    value: int


@dataclass
class LocalFlag:
    """A `Flag` of this process."""

    value: int = 0


class _Signalled(BaseException):
    """Leaves a block because of a signal; no handler of errors in it is meant."""


def stopped(name: str) -> Stopped:
    """The error that ends a command on request. `name`: of a signal, or who asked."""
    return Stopped(
        f"stopped by {name}",
        where=" ".join(sys.argv[:3]),
        effect="all finished work is kept; nothing unfinished has a final name",
        fix="run the same command again to continue",
    )


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """`Stopped` on a signal while the block runs (main thread only)."""

    def stop(number: int) -> NoReturn:
        raise _Signalled(number)

    try:
        with _handled(SIGNALS, stop):
            yield
    except _Signalled as error:
        raise stopped(signal.Signals(error.args[0]).name) from None


@contextmanager
def finish_units(sink: Sink, flag: Flag) -> Iterator[None]:
    """While the block runs, a signal sets `flag`, which the block asks before it begins a unit.
    When the block has ended, the signal goes to whoever listened before.

    SIGUSR1 counts as well if somebody listened to it: it is a batch system's warning.

    Raises:
        Stopped: there was a signal, and nobody listened, or a listener let it pass.
    """
    telling: list[threading.Thread] = []

    def ask(number: int) -> None:
        if flag.value:
            raise _Signalled(number)
        flag.value = number
        # By a thread: the signal may have broken into the writing of another line.
        text = f"{signal.Signals(number).name}: finishing the units under way; once more drops them"
        telling.append(threading.Thread(target=sink.note, args=(text,), daemon=True))
        telling[0].start()

    warning = [signal.SIGUSR1] if callable(signal.getsignal(signal.SIGUSR1)) else []
    try:
        with suppress(_Signalled), _handled([*SIGNALS, *warning], ask):
            yield
    finally:
        for thread in telling:
            thread.join()
    if flag.value:
        if callable(signal.getsignal(flag.value)):
            signal.raise_signal(flag.value)
        raise stopped(signal.Signals(flag.value).name)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Processes that are started in the block never see the signals; this one sees them after it.

    Unlike handlers, that holds from their first moment on and for what they fork.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _handled(numbers: Sequence[int], handler: Callable[[int], None]) -> Iterator[None]:
    """Call the handler on signals; what comes right after another is a repetition of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = float("-inf")

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= REPEAT_SECONDS:
            last = now
            handler(number)

    old = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, previous in old.items():
            signal.signal(number, previous)
