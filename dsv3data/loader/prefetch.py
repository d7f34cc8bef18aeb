"""Reading ahead in one thread, in bounded memory.

Reading a row waits for the disk and computes a CRC, both without the interpreter's lock, so that a
thread reads while the caller computes. Nothing is shared between processes: no worker, no
/dev/shm.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from dsv3data.contracts.errors import BadConfig
from dsv3data.loader.packed_dataset import Batch
from dsv3data.loader.stream import SequenceStream, check_share

# A batch, or what went wrong, and the state after it.
_Item = tuple[Batch | BaseException, dict[str, int | str]]


class Prefetcher:
    """The batches of a stream's rank, read up to `depth` ahead.

    A drop-in for the stream itself: the same batches, and a state that is that of the last batch
    that was given out, however far reading has gone. Use it as a context manager, or `close` it.
    Memory: at most depth + 2 batches.

    Raises:
        BadConfig: ranks that would get different numbers of rows; no depth.
        IntegrityError: from `next`, a damaged row; the stream stays in front of it.
    """

    def __init__(
        self, stream: SequenceStream, n: int, *, rank: int = 0, world: int = 1, depth: int = 2
    ) -> None:
        check_share(n, rank, world)
        if depth < 1:
            raise BadConfig(
                f"{depth} batches cannot be read ahead",
                where="depth",
                effect="nothing was started",
                fix="give 1 or more, or use the stream itself",
            )
        self._stream, self._n, self._rank, self._world = stream, n, rank, world
        self._depth = depth
        self._state = stream.state()
        self._start()

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def next(self, n: int | None = None) -> Batch:
        """This rank's rows of the next global batch, of `n` rows from now on if `n` is given.

        With another `n` than before, what was read ahead is thrown away.
        """
        if self._stop.is_set():
            raise ValueError("next batch of a closed prefetcher; `restore` opens it again")
        if n is not None and n != self._n:
            check_share(n, self._rank, self._world)
            self._n = n
            self.restore(self._state)
        result, state = self._ready.get()
        if isinstance(result, BaseException):
            self.restore(self._state)
            raise result
        self._state = state
        return result

    def state(self) -> dict[str, int | str]:
        """As `SequenceStream.state`, after the last batch that `next` gave."""
        return dict(self._state)

    def restore(self, state: Mapping[str, Any]) -> None:
        """As `SequenceStream.restore`; what was read ahead is thrown away."""
        self.close()
        self._stream.restore(state)
        self._state = self._stream.state()
        self._start()

    def close(self) -> None:
        """End the reading."""
        self._stop.set()
        with contextlib.suppress(queue.Empty):
            while True:  # makes room for the batch in hand
                self._ready.get_nowait()
        self._thread.join()

    def _start(self) -> None:
        self._ready: queue.Queue[_Item] = queue.Queue(self._depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                result: Batch | BaseException = self._stream.next(
                    self._n, rank=self._rank, world=self._world
                )
            except BaseException as error:
                result = error
            self._ready.put((result, self._stream.state()))
            if isinstance(result, BaseException):
                return
