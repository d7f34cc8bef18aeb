"""Where words go: results to stdout, everything else to stderr, in the way that was asked for."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dsv3data.contracts.meter import Meter
from dsv3data.contracts.progress import NullSink, Sink
from dsv3data.contracts.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod
    from rich.progress import Progress, TaskID
    from rich.table import Table

_LINE_SECONDS = 10.0
_UNITS = ("", "K", "M", "G", "T", "P")


class Output:
    """The one place that decides between people, programs and silence.

    Args:
        json_mode: print the result as one JSON object instead of a table.
        quiet: no progress and no notes (errors still show).
    """

    def __init__(self, *, json_mode: bool, quiet: bool) -> None:
        self._json = json_mode
        self.sink: Sink = NullSink()
        if not quiet:
            self.sink = LiveSink() if sys.stderr.isatty() else LineSink()

    def result(self, tree: Mapping[str, Any], render: Callable[[Console], None]) -> None:
        """Print a result: `tree` as JSON, or what `render` prints on a console."""
        self.close()
        if self._json:
            text = json.dumps(_finite(tree), ensure_ascii=False, indent=2, allow_nan=False)
            sys.stdout.write(text + "\n")
            return
        from rich.console import Console

        # No markup: paths and names of the user may hold brackets.
        render(Console(highlight=False, emoji=False, markup=False))

    def heading(self, text: str) -> None:
        """A line above the phases that follow; the last one before it ends."""
        self.close()
        self.sink.note(text)

    def close(self, *, finished: bool = True) -> None:
        """End the last phase, which an error may have cut short."""
        if isinstance(self.sink, _PhaseSink):
            self.sink.close(finished=finished)


class _PhaseSink(ABC):
    """Keeps the meter of the current phase, and says how it went when it ends."""

    def __init__(self) -> None:
        self.name = ""
        self.unit = ""
        self.meter = Meter()

    def phase(self, name: str, *, total: int | None = None, unit: str = "") -> None:
        self.close()
        self.name, self.unit, self.meter = name, unit, Meter(total=total)
        self._begin()

    def advance(self, amount: int, **counts: int) -> None:
        self.meter.advance(amount, **counts)
        self._show()

    def close(self, *, finished: bool = True) -> None:
        if self.name:
            self._end(finished)
            self.name = ""

    @abstractmethod
    def note(self, text: str) -> None: ...

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _show(self) -> None: ...

    @abstractmethod
    def _end(self, finished: bool) -> None: ...

    def summary(self) -> str:
        """`15.2 MB · 1.2 MB/s · 3.9 M tokens · 316 K tokens/s · encode takes 62 % · 0:12`."""
        meter, parts = self.meter, []
        if meter.done and self.unit:
            done = min(meter.done, meter.total) if meter.total else meter.done
            parts += [quantity(done, self.unit), f"{quantity(meter.rate(), self.unit)}/s"]
        for name, count in meter.counts.items():
            if name.endswith("_us"):
                continue
            parts.append(quantity(count, name))
            if name in ("documents", "tokens"):
                parts.append(f"{quantity(meter.rate(name), name)}/s")
        if (binding := meter.binding()) is not None:
            parts.append(f"{binding[0]} takes {binding[1]:.0%}".replace("%", " %"))
        return " · ".join([*parts, duration(meter.seconds)])


class LineSink(_PhaseSink):
    """For logs and pipes: whole lines, at most one every few seconds, no cursor tricks."""

    def __init__(self) -> None:
        super().__init__()
        self._last = time.monotonic()

    def note(self, text: str) -> None:
        # Work goes on when the reader of its progress has gone (`2>&1 | head`).
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(printable(text) + "\n")
            sys.stderr.flush()

    def _begin(self) -> None:
        self._last = time.monotonic()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last >= _LINE_SECONDS:
            self._last = now
            left = self.meter.remaining_seconds()
            eta = f" · ETA {duration(left)}" if left is not None else ""
            self.note(f"{self.name}: {self.summary()}{eta}")

    def _end(self, finished: bool) -> None:
        self.note(f"{self.name}: {self.summary()}{'' if finished else ' · not finished'}")


class LiveSink(_PhaseSink):
    """For terminals: one live bar, then one line that stays."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, emoji=False)
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def note(self, text: str) -> None:
        self._console.print(printable(text), markup=False)

    def _begin(self) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
        from rich.table import Column

        # What does not fit the terminal is cut off the text, not off the bar.
        rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[text]}", markup=False, table_column=rest),
            console=self._console,
            expand=True,
            transient=True,
        )
        self._task = self._progress.add_task(self.name, total=self.meter.total, text="")
        self._progress.start()

    def _show(self) -> None:
        if self._progress is not None and self._task is not None:
            left = self.meter.remaining_seconds()
            eta = f"ETA {duration(left)} · " if left is not None else ""
            text = eta + self.summary()
            self._progress.update(self._task, completed=self.meter.done, text=text)

    def _end(self, finished: bool) -> None:
        if self._progress is not None:
            self._progress.stop()
        mark = "[green]✓[/green]" if finished else "[red]✗[/red]"
        self._console.print(f"{mark} {self.name}  [dim]{self.summary()}[/dim]")


def _finite(tree: Any) -> Any:
    """The same values for JSON, which has no NaN (a loss that was never measured): null."""
    if isinstance(tree, Mapping):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def quantity(amount: float, unit: str) -> str:
    """`15.2 MB`, `3.94 M tokens`: three significant digits with a decimal prefix."""
    index = 0
    while abs(amount) >= 999.5 and index < len(_UNITS) - 1:
        amount /= 1000
        index += 1
    number = f"{amount:.0f}" if index == 0 and amount == int(amount) else f"{amount:.3g}"
    if unit == "B":
        return f"{number} {_UNITS[index]}B"
    return f"{number} {_UNITS[index]} {unit}" if index else f"{number} {unit}"


def duration(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def peak_memory_bytes() -> int:
    """Largest resident set of this process or of any process that it started and waited for."""
    import resource

    kilobytes = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return kilobytes << 10


def table(*columns: str) -> Table:
    """A plain table; columns that start with `>` are right-aligned numbers."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        number = column.startswith(">")
        justify: JustifyMethod = "right" if number else "left"
        made.add_column(column.removeprefix(">"), justify=justify, overflow="fold")
    return made
