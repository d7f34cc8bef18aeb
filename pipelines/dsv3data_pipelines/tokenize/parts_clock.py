"""Where the time of a unit goes."""

from __future__ import annotations

import time


class PartsClock:
    """Microseconds spent in each part of the work, for the progress bar: what binds."""

    def __init__(self) -> None:
        self._microseconds: dict[str, int] = {}
        self._last = time.perf_counter_ns()

    def end(self, part: str) -> None:
        """What was done since the last call was `part`."""
        now = time.perf_counter_ns()
        name = f"{part}_us"
        self._microseconds[name] = self._microseconds.get(name, 0) + (now - self._last) // 1000
        self._last = now

    def take(self) -> dict[str, int]:
        """What came together since the last call of this."""
        taken, self._microseconds = self._microseconds, {}
        return taken
