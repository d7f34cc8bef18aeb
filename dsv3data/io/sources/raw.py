"""The raw bytes that a span's documents come from, and their hash, taken while they are read.

Exactly these bytes decide whether a finished unit may be taken as done, so they are hashed as they
pass to the reader: there is no second pass, and no moment at which other bytes could be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dsv3data.io.sources.parquet_footer import footer_range, row_groups
from dsv3data.io.sources.place import Place
from dsv3data.io.sources.units import Span


class RawBytes(NamedTuple):
    """Bytes of a span as they lie in the file, the first of them at `offset`."""

    offset: int
    chunks: Iterator[bytes]


class InputLog:
    """What reading a unit leaves behind beside its documents.

    Attributes:
        n_bytes: raw bytes read so far.
        lines: for each span that was read, its lines (0 where there are none).
    """

    def __init__(self) -> None:
        self.n_bytes = 0
        self.lines: list[int] = []
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) over, for each span, its raw bytes, NUL, file name, NUL, their number, NUL.

        For Parquet the bytes are those of the row groups' column chunks.
        """
        return self._digest.hexdigest()

    def reading(self, span: Span, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass on the raw bytes of a span while they are hashed; they must be read to their end."""
        n_bytes = 0
        for chunk in chunks:
            self._digest.update(chunk)
            self.n_bytes += len(chunk)
            n_bytes += len(chunk)
            yield chunk
        self._digest.update(f"\0{span.file.name}\0{n_bytes}\0".encode())


class UnhashedLog(InputLog):
    """For those who only want documents: counts, and leaves hashing out."""

    def reading(self, span: Span, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass on the raw bytes of a span."""
        for chunk in chunks:
            self.n_bytes += len(chunk)
            yield chunk


def raw_bytes(span: Span) -> RawBytes:
    """The bytes that belong to the span: each byte of a file to one span, and no line to two."""
    place = span.file.place
    if span.file.kind == "parquet":
        return RawBytes(0, _bytes_in(place, _ranges(span)))
    if (span.start, span.stop) == (0, place.size):
        return RawBytes(0, place.chunks())
    return _lines_of(span)


def _lines_of(span: Span) -> RawBytes:
    """From the first line that begins in the span to the end of the last one that does."""
    if span.start == 0:
        return RawBytes(0, _until_line_end(span.file.place.chunks(stop=span.stop), 0, span.stop))
    offset = span.start - 1
    chunks = span.file.place.chunks(offset, stop=span.stop)
    for chunk in chunks:
        end = chunk.find(b"\n")
        if end >= 0:
            offset += end + 1
            return RawBytes(
                offset, _until_line_end(_with(chunk[end + 1 :], chunks), offset, span.stop)
            )
        offset += len(chunk)
    return RawBytes(offset, iter(()))


def _with(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from chunks


def _until_line_end(chunks: Iterator[bytes], offset: int, stop: int) -> Iterator[bytes]:
    """Bytes up to the first line end at or after `stop` - 1, if there are any before `stop`."""
    if offset >= stop:
        return
    for chunk in chunks:
        if offset + len(chunk) >= stop:
            end = chunk.find(b"\n", max(0, stop - 1 - offset))
            if end >= 0:
                yield chunk[: end + 1]
                return
        yield chunk
        offset += len(chunk)


def _ranges(span: Span) -> list[tuple[int, int]]:
    """Where the bytes of a span lie in its file, in the order of `raw_bytes`: each column chunk of
    Parquet, all of an Arrow file."""
    if span.file.kind != "parquet":
        return [(0, span.file.place.size)]
    groups = row_groups(span.file.place)[span.start : span.stop]
    return [chunk for group in groups for chunk in group.chunks]


def parts(span: Span, log: InputLog) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of all that a reader of the span's file looks at; the span's are hashed."""
    place, ranges = span.file.place, _ranges(span)
    coming, offset, stop = iter(ranges), 0, 0
    for chunk in log.reading(span, _bytes_in(place, ranges)):
        while offset == stop:
            offset, stop = next(coming)
        yield offset, chunk
        offset += len(chunk)
    if span.file.kind == "parquet":
        start, stop = footer_range(place)
        for chunk in _exactly(place, start, stop):
            yield start, chunk
            start += len(chunk)


def _bytes_in(place: Place, ranges: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    for start, stop in ranges:
        yield from _exactly(place, start, stop)


def _exactly(place: Place, start: int, stop: int) -> Iterator[bytes]:
    if start == stop:
        return
    for chunk in place.chunks(start, stop=stop):
        yield chunk[: stop - start]
        start += len(chunk)
        if start >= stop:  # a reader that asks once more makes a request for it
            return
