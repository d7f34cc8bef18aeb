"""How long work tells what it is doing, without knowing who listens.

Stages call a `Sink`; the command line decides whether that is a live bar, plain lines or silence.
"""

from __future__ import annotations

from typing import Protocol


class Sink(Protocol):
    """Listener of a stage. Calls are cheap and may be frequent."""

    def phase(self, name: str, *, total: int | None = None, unit: str = "") -> None:
        """A phase begins: `total` units of work are ahead (None: not known)."""

    def advance(self, amount: int, **counts: int) -> None:
        """`amount` more of the phase's unit is done; `counts` add to named totals (tokens=…). Names
        that end in `_us` are microseconds spent in a part of the work (encode_us=…)."""

    def note(self, text: str) -> None:
        """One line that a person should read."""


class NullSink:
    """Listens to nothing: for tests and for use as a library."""

    def phase(self, name: str, *, total: int | None = None, unit: str = "") -> None: ...

    def advance(self, amount: int, **counts: int) -> None: ...

    def note(self, text: str) -> None: ...
