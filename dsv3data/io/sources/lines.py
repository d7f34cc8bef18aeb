"""Lines of a byte stream with their offsets, in bounded memory.

Only `\\n` ends a line: `str.splitlines` would also cut at U+2028, U+0085 and others that are
ordinary characters inside JSON strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dsv3data.io.sources.place import CHUNK_BYTES


class Line(NamedTuple):
    """A line without its `\\n`. Past the limit `data` is None and only the numbers are known.

    `marks` says how often the byte that `iterate_lines` was asked to count stands in it.
    """

    offset: int
    size: int
    data: bytes | None
    marks: int


def iterate_lines(
    chunks: Iterable[bytes], *, start: int = 0, max_bytes: int, mark: bytes = b""
) -> Iterator[Line]:
    """Lines of `chunks`, whose first byte has the offset `start`.

    Lines longer than `max_bytes` are skipped over without being held. The last line need not end
    with `\\n`; an empty rest after the last `\\n` is no line.
    """
    offset, size, marks = start, 0, 0  # of the line being gathered
    parts: list[bytes] = []
    for step in _steps(chunks):
        *ends, rest = step.split(b"\n")
        for end in ends:
            if size:
                size += len(end)
                data = b"".join([*parts, end]) if size <= max_bytes else None
                parts.clear()
            else:
                size = len(end)
                data = end if size <= max_bytes else None
            yield Line(offset, size, data, marks + end.count(mark) if mark else 0)
            offset, size, marks = offset + size + 1, 0, 0
        size += len(rest)
        if mark:
            marks += rest.count(mark)
        if size <= max_bytes:
            parts.append(rest)
        else:
            parts.clear()
    if size:
        yield Line(offset, size, b"".join(parts) if size <= max_bytes else None, marks)


def _steps(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Small enough to be all line ends."""
    for chunk in chunks:
        for start in range(0, len(chunk), CHUNK_BYTES):
            yield chunk[start : start + CHUNK_BYTES]
