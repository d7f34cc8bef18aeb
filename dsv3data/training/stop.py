"""Stopping on request: the first signal asks, the second is asked to wait, the third ends all."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

from dsv3data.contracts.progress import Sink

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Context manager that listens to SIGTERM and SIGINT; `signal_name` tells which came first.

    The loop finishes its step, writes a checkpoint and stops. A second signal changes nothing, so
    that a scheduler which sends two, or an impatient Ctrl-C, does not cost the checkpoint that is
    being written; the loop says so. A third exits with 128 plus its number: checkpoints appear by
    rename and are deleted after one, so the newest complete one is intact at any moment.
    Outside the main thread, where Python allows no handlers, it listens to nothing.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._again: str | None = None  # the second signal
        self._told = False
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def answer(self, sink: Sink) -> None:
        """Say once what becomes of a second signal. A handler could break into another line."""
        if self._again is not None and not self._told:
            self._told = True
            sink.note(
                f"second signal ({self._again}): the run still ends with its checkpoint; a third "
                "ends it at once, with the checkpoint before"
            )

    def _receive(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.signal_name is None:
            self.signal_name = name
        elif self._again is None:
            self._again = name
        else:
            os._exit(128 + number)
