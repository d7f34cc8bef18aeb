"""Lines of a byte stream with their offsets, in bounded memory.

Only `\\n` ends a line: `str.splitlines` would also cut at U+2028, U+0085 and others that are
ordinary characters inside JSON strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its `\\n`. Past the limit `data` is None and only `size` is known."""

    offset: int
    size: int
    data: bytes | None


def iterate_lines(
    chunks: Iterable[bytes], *, start: int = 0, stop: int | None = None, max_bytes: int
) -> Iterator[Line]:
    """Lines that begin in [start, stop), `chunks` being the bytes from `start` on.

    Lines longer than `max_bytes` are skipped over without being held. The last line need not end
    with `\\n`; an empty rest after the last `\\n` is no line.
    """
    offset, size = start, 0  # of the line being gathered
    parts: list[bytes] = []
    for chunk in chunks:
        if stop is not None and offset >= stop:
            return
        begin = 0
        while (end := chunk.find(b"\n", begin)) >= 0:
            if stop is not None and offset >= stop:
                return
            size += end - begin
            if size <= max_bytes:
                parts.append(chunk[begin:end])
                yield Line(offset, size, b"".join(parts))
            else:
                yield Line(offset, size, None)
            offset, size, parts, begin = offset + size + 1, 0, [], end + 1
        size += len(chunk) - begin
        if size <= max_bytes:
            parts.append(chunk[begin:])
        else:
            parts.clear()
    if size and (stop is None or offset < stop):
        yield Line(offset, size, b"".join(parts) if size <= max_bytes else None)
