"""Work units: the pieces of input that are done, or done again, as a whole.

Units are fixed by the data and `unit_bytes`, never by the number of workers. A big JSONL file is
cut at fixed byte offsets; a line belongs to the range in which it begins. Parquet is cut at row
groups. Small files share a unit. What cannot be cut (compressed, Arrow streams) is one span.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dsv3data.io.sources.discover import SourceFile
from dsv3data.io.sources.parquet_footer import row_groups


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of one file: [start, stop) in bytes, or in row groups for Parquet.

    `first_row` is the row number of the first row group's first row (Parquet).
    """

    file: SourceFile
    start: int
    stop: int
    size: int
    first_row: int = 0


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Spans that are read one after the other by one worker."""

    number: int
    spans: tuple[Span, ...]

    @property
    def size(self) -> int:
        """Input bytes, as they lie on disk."""
        return sum(span.size for span in self.spans)

    @property
    def name(self) -> str:
        """Five digits or more, in the order of the input."""
        return f"{self.number:05d}"


def plan_units(files: Sequence[SourceFile], *, unit_bytes: int) -> list[Unit]:
    """Cut files into spans of about `unit_bytes` and group small ones up to that size."""
    units: list[Unit] = []
    group: list[Span] = []
    size = 0
    for span in _spans(files, unit_bytes):
        if group and size + span.size > unit_bytes:
            units.append(Unit(number=len(units), spans=tuple(group)))
            group, size = [], 0
        group.append(span)
        size += span.size
    if group:
        units.append(Unit(number=len(units), spans=tuple(group)))
    return units


def _spans(files: Iterable[SourceFile], unit_bytes: int) -> Iterator[Span]:
    for file in files:
        if file.kind == "parquet":
            yield from _row_group_spans(file, unit_bytes)
        elif file.kind == "jsonl" and not file.compression and file.size > unit_bytes:
            for start in range(0, file.size, unit_bytes):
                stop = min(start + unit_bytes, file.size)
                yield Span(file=file, start=start, stop=stop, size=stop - start)
        else:
            yield Span(file=file, start=0, stop=file.size, size=file.size)


def _row_group_spans(file: SourceFile, unit_bytes: int) -> Iterator[Span]:
    groups = row_groups(file.place)
    if not groups:
        yield Span(file=file, start=0, stop=0, size=0)
    start = size = row = first_row = 0
    for number, group in enumerate(groups, start=1):
        size += group.size
        row += group.n_rows
        if size >= unit_bytes or number == len(groups):
            yield Span(file=file, start=start, stop=number, size=size, first_row=first_row)
            start, size, first_row = number, 0, row
