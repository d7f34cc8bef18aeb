"""A sample of the training text for the report: for each domain the documents with the smallest
keys that add up to some bytes.

Keys are the output of a cryptographic hash, so their order is a random one that no other use of
chance depends on. Samples of parts of a corpus merge to the sample of the whole.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from dsv3data.io.atomic import write_atomic


class TextSample:
    """Documents with the smallest keys, in each domain just enough for `limit_bytes` of text.

    Of a longer document only the first `limit_bytes` are kept. Memory: the sample itself.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept: dict[str, _Smallest] = {}

    def add(self, domain: str, key: bytes, data: bytes) -> None:
        """Offer a document, valid UTF-8."""
        kept = self._kept.get(domain)
        if kept is None:
            kept = self._kept[domain] = _Smallest(self._limit_bytes)
        kept.add(key, data)

    def texts(self) -> Mapping[str, list[str]]:
        """The texts of each domain, in the order of their keys."""
        return {
            domain: [data.decode("utf-8") for _, data in self._kept[domain].in_order()]
            for domain in sorted(self._kept)
        }

    def write(self, path: Path) -> None:
        """Publish the sample: one JSON object with domain, key and text a line, sorted."""
        lines = [
            json.dumps(
                {"domain": domain, "key": key.hex(), "text": data.decode("utf-8")},
                ensure_ascii=False,
            )
            for domain in sorted(self._kept)
            for key, data in self._kept[domain].in_order()
        ]
        write_atomic(path, "".join(line + "\n" for line in lines).encode("utf-8"))


def merge_samples(paths: Iterable[Path], *, limit_bytes: int) -> TextSample:
    """The sample of all documents from the samples of their parts."""
    merged = TextSample(limit_bytes)
    for path in paths:
        for line in path.read_bytes().splitlines():
            fields = json.loads(line)
            key = bytes.fromhex(fields["key"])
            merged.add(fields["domain"], key, fields["text"].encode("utf-8"))
    return merged


class _Smallest:
    """Of one domain: a heap with the largest key on top."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._heap: list[tuple[int, bytes]] = []
        self._bytes = 0

    def add(self, key: bytes, data: bytes) -> None:
        rank = -int.from_bytes(key, "big")
        if self._bytes >= self._limit_bytes and rank <= self._heap[0][0]:
            return
        if len(data) > self._limit_bytes:
            data = data[: self._limit_bytes].decode("utf-8", "ignore").encode("utf-8")
        heapq.heappush(self._heap, (rank, data))
        self._bytes += len(data)
        while self._bytes - len(self._heap[0][1]) >= self._limit_bytes:
            self._bytes -= len(heapq.heappop(self._heap)[1])

    def in_order(self) -> list[tuple[bytes, bytes]]:
        """(key, text) by ascending key."""
        return [((-rank).to_bytes(16, "big"), data) for rank, data in sorted(self._heap)[::-1]]
