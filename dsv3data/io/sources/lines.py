"""Lines of a byte stream with their offsets, in bounded memory: one by one, or many in a block.

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


class Block(NamedTuple):
    """Whole lines, about a megabyte of them: the first `size` bytes of `data`.

    The last of them may lack its `\n`. At least `beyond` bytes of anything follow.
    """

    offset: int
    size: int
    data: bytes


def line_blocks(
    chunks: Iterable[bytes], *, start: int = 0, max_bytes: int, beyond: int
) -> Iterator[Block | Line]:
    """The lines of `iterate_lines`, for a reader that takes many at once; longer ones than
    `max_bytes` stand alone, without their bytes. `max_bytes` is not below CHUNK_BYTES."""
    offset, size = start, 0  # of what is gathered: the beginning of a line
    parts: list[bytes] = []
    padding = bytes(beyond)
    for piece in _pieces(chunks):
        first = piece.find(b"\n")
        if size and first >= 0 and size + first > max_bytes:
            yield Line(offset, size + first, None, 0)
            offset, size = offset + size + first + 1, 0
            parts.clear()
            piece = piece[first + 1 :]
        cut = piece.rfind(b"\n") + 1
        if cut:
            yield Block(offset, size + cut, b"".join([*parts, piece, padding]))
            offset, size = offset + size + cut, 0
            parts.clear()
            piece = piece[cut:]
        size += len(piece)
        if size > max_bytes:
            parts.clear()
        elif piece:
            parts.append(piece)
    if size > max_bytes:
        yield Line(offset, size, None, 0)
    elif size:
        yield Block(offset, size, b"".join([*parts, padding]))


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, CHUNK_BYTES or a little more or less at once; also those before an error."""
    parts: list[bytes] = []
    size = 0
    try:
        for step in _steps(chunks):
            parts.append(step)
            size += len(step)
            if size >= CHUNK_BYTES // 2:
                yield parts[0] if len(parts) == 1 else b"".join(parts)
                parts, size = [], 0
    except Exception:  # of a cut file the documents before the cut may be wanted
        yield b"".join(parts)
        raise
    yield b"".join(parts)


def _steps(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Small enough to be all line ends."""
    for chunk in chunks:
        for start in range(0, len(chunk), CHUNK_BYTES):
            yield chunk[start : start + CHUNK_BYTES]
