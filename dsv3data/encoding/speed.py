"""How fast an engine is on given texts: a short measurement, by which `--engine auto` chooses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from dsv3data.encoding.engine import DocumentEncoder

# An engine is stopped after so much CPU time, or when it has encoded so many characters.
_SECONDS = 0.03
_MOST_CHARACTERS = 2 << 20
# Characters that are encoded at once, and most of one text: some 8 ms of the reference.
_AT_ONCE = 1 << 13


def bytes_per_second(
    engine: DocumentEncoder,
    texts: Sequence[str],
    *,
    clock: Callable[[], float] = time.process_time,
) -> float:
    """Bytes of UTF-8 that the engine encodes in a second of CPU time, whatever else the machine
    does: of the beginnings of these texts, in their order, as many as it manages in 0.03 s."""
    engine.encode([text[:8] for text in texts[:1]])  # the first call of an engine is slow
    n_bytes, seconds = 0, 0.0
    for part in _parts(texts):
        n_bytes += sum(len(text.encode("utf-8")) for text in part)
        started = clock()
        engine.encode(part)
        seconds += clock() - started
        if seconds >= _SECONDS:
            break
    return n_bytes / max(seconds, 1e-9)


def _parts(texts: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    size = total = 0
    for text in texts:
        part.append(text[:_AT_ONCE])
        size += len(part[-1])
        if size >= _AT_ONCE:
            yield part
            part, size, total = [], 0, total + size
            if total >= _MOST_CHARACTERS:
                return
    if part:
        yield part
