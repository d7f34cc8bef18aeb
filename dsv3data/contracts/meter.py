"""The one object that computes rates and remaining times."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable


class Meter:
    """Counts work since its creation on a clock that never goes back.

    Args:
        total: units of work ahead, None if not known.
        clock: seconds from any origin, monotonic.
    """

    def __init__(
        self, *, total: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self.done = 0
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._started = clock()

    def advance(self, amount: int, **counts: int) -> None:
        """`amount` more units are done; `counts` add to named totals."""
        self.done += amount
        self.counts.update(counts)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return max(0.0, self._clock() - self._started)

    def rate(self, name: str = "") -> float:
        """Units (or a named count) per second so far; 0 before any time has passed."""
        amount = self.counts[name] if name else self.done
        return amount / self.seconds if self.seconds > 0 else 0.0

    def binding(self) -> tuple[str, float] | None:
        """The part of the work that takes longest and its share of all parts; None if no counts of
        microseconds (`read_us=…`) came. What takes longest is what to make faster."""
        parts = {name[:-3]: count for name, count in self.counts.items() if name.endswith("_us")}
        total = sum(parts.values())
        if not total:
            return None
        longest = max(parts, key=lambda name: parts[name])
        return longest, parts[longest] / total

    def remaining_seconds(self) -> float | None:
        """Seconds to the end at the rate so far; None when the total is unknown, or the rate: the
        first percent of the work says little about it."""
        if self.total is None or self.seconds <= 0 or self.done <= 0.01 * self.total:
            return None
        return max(0, self.total - self.done) / self.rate()
