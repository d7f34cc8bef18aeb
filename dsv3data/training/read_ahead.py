"""The loader's reading ahead for a trainer whose batch may grow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dsv3data.loader.packed_dataset import Batch
from dsv3data.loader.prefetch import Prefetcher
from dsv3data.loader.stream import SequenceStream


@contextmanager
def read_ahead(stream: SequenceStream, depth: int) -> Iterator[SequenceStream | ReadAhead]:
    """`stream` with a thread that reads up to `depth` batches ahead; with depth 0 the stream."""
    if not depth:
        yield stream
        return
    ahead = ReadAhead(stream, depth)
    try:
        yield ahead
    finally:
        ahead.close()


class ReadAhead:
    """A stream of batches that are read while the caller computes.

    Rows and states are those of the stream without it, however far reading has gone. A batch of
    another size than the last throws away what was read ahead.
    """

    def __init__(self, stream: SequenceStream, depth: int) -> None:
        self._stream, self._depth = stream, depth
        self._ahead: Prefetcher | None = None
        self._n = 0

    def next(self, n: int) -> Batch:
        """The next `n` rows.

        Raises:
            IntegrityError: a damaged row; the stream stays in front of it.
        """
        if self._ahead is None or n != self._n:
            state = self.state()
            self.close()
            self._stream.restore(state)
            self._ahead, self._n = Prefetcher(self._stream, n, depth=self._depth), n
        return self._ahead.next()

    def state(self) -> dict[str, int | str]:
        """As `SequenceStream.state`, after the last batch that `next` gave."""
        return self._stream.state() if self._ahead is None else self._ahead.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """As `SequenceStream.restore`."""
        self.close()
        self._stream.restore(state)

    def close(self) -> None:
        """End the reading; the stream is wherever reading had come."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
