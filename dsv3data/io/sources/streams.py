"""Decompression that notices a cut.

The usual stream readers return the bytes before the cut of a truncated .zst (and, for some, .gz)
without an error. Here the end of every frame is demanded.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import zstandard

from dsv3data.contracts.errors import BadInput
from dsv3data.io.sources.discover import Compression
from dsv3data.io.sources.place import Place

# Compressed bytes given to a decompressor at once. The densest input expands 1032-fold in gzip and
# about 2^15-fold in Zstandard, so at most some 40 MiB come out of one step of a bomb.
_STEP_BYTES = 1 << 10
_GZIP = 31  # zlib window bits for a gzip wrapper


class DamagedStream(Exception):
    """A compressed file ends too early or holds garbage, at this offset of the compressed file."""

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.offset = offset


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def decompressed(chunks: Iterable[bytes], compression: Compression) -> Iterator[bytes]:
    """Decompressed bytes, all members or frames, in pieces of bounded size; `chunks` as they are
    if there is no compression.

    Raises:
        DamagedStream: truncated, corrupt, or followed by bytes that are no frame.
    """
    if not compression:
        yield from chunks
        return
    consumed, frame = 0, _new_frame(compression)
    fresh = True  # between frames: nothing of the next one was read
    for data in _steps(chunks):
        while data:
            try:
                output = frame.decompress(data)
            except (zlib.error, zstandard.ZstdError) as error:
                raise DamagedStream(
                    _problem(error, compression, fresh, consumed), consumed
                ) from error
            if output:
                yield output
            left = frame.unused_data if frame.eof else b""
            consumed += len(data) - len(left)
            fresh = frame.eof
            if frame.eof:
                frame = _new_frame(compression)
            data = left
    if not fresh:
        raise DamagedStream("the file ends inside a compressed frame", consumed)


def _problem(error: Exception, compression: Compression, fresh: bool, consumed: int) -> str:
    if not fresh:
        return f"corrupt: {error}"
    return "no frame begins here" if consumed else f"it is not .{compression} at all: {error}"


def _steps(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), _STEP_BYTES):
            yield chunk[start : start + _STEP_BYTES]


def _new_frame(compression: Compression) -> _Decompressor:
    if compression == "gz":
        return zlib.decompressobj(_GZIP)
    frame: _Decompressor = zstandard.ZstdDecompressor().decompressobj()
    return frame


def damaged_file(place: Place, damage: DamagedStream) -> BadInput:
    """The error for a user whose compressed file is damaged."""
    return BadInput(
        f"the compressed file is damaged: {damage.problem}",
        where=f"{place}, byte {damage.offset:,} of the compressed file",
        effect="no document of this file was taken",
        fix="fetch the file again, or add --keep-prefix to keep the complete documents before it",
    )
