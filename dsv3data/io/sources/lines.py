"""Lines of a byte stream with their offsets, in bounded memory.

Only `\\n` ends a line: `str.splitlines` would also cut at U+2028, U+0085 and others that are
ordinary characters inside JSON strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


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
    for chunk in chunks:
        begin = 0
        while (end := chunk.find(b"\n", begin)) >= 0:
            size += end - begin
            if mark:
                marks += chunk.count(mark, begin, end)
            if size <= max_bytes:
                parts.append(chunk[begin:end])
                yield Line(offset, size, b"".join(parts), marks)
            else:
                yield Line(offset, size, None, marks)
            offset, size, marks, parts, begin = offset + size + 1, 0, 0, [], end + 1
        size += len(chunk) - begin
        if mark:
            marks += chunk.count(mark, begin)
        if size <= max_bytes:
            parts.append(chunk[begin:])
        else:
            parts.clear()
    if size:
        yield Line(offset, size, b"".join(parts) if size <= max_bytes else None, marks)
