"""Choose documents from candidates: keyed order, size limits, no text twice.

A candidate knows its id before it is read, so the order is drawn first and only as many candidates
are read as the domain has room for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

SHORTEST_BYTES = 80
LONGEST_BYTES = 200_000


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A text that can be read later. `read` returns None where the text cannot be used."""

    id: str
    read: Callable[[], str | None]


@dataclass(frozen=True, kw_only=True)
class Document:
    id: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Selection:
    """`size_bytes` counts the texts in UTF-8; `skipped` the candidates that were read in vain."""

    documents: tuple[Document, ...]
    size_bytes: int
    skipped: int


def in_keyed_order(candidates: Iterable[Candidate], seed: int) -> list[Candidate]:
    """Sort by a hash of (seed, id): any prefix is a fair sample, whatever the alphabet says.

    Of several candidates with one id the first is kept.
    """
    by_id: dict[str, Candidate] = {}
    for candidate in candidates:
        by_id.setdefault(candidate.id, candidate)
    return [by_id[id_] for id_ in sorted(by_id, key=lambda id_: (_order_key(seed, id_), id_))]


def select(candidates: Iterable[Candidate], *, size_bytes: int) -> Selection:
    """Take candidates as they come until the texts reach `size_bytes`.

    The last document may pass that size; no candidate after it is read.
    """
    documents: list[Document] = []
    seen: set[bytes] = set()
    total_bytes = skipped = 0
    for candidate in candidates:
        if total_bytes >= size_bytes:
            break
        text = candidate.read()
        data = _usable_bytes(text)
        if text is None or data is None or (digest := _content_hash(data)) in seen:
            skipped += 1
            continue
        seen.add(digest)
        documents.append(Document(id=candidate.id, text=text))
        total_bytes += len(data)
    return Selection(documents=tuple(documents), size_bytes=total_bytes, skipped=skipped)


def read_utf8(path: Path) -> str | None:
    """The file's text with its line ends untouched, or None if it is not readable UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _order_key(seed: int, id_: str) -> bytes:
    return hashlib.blake2b(f"{seed}\0{id_}".encode(), digest_size=16).digest()


def _content_hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _usable_bytes(text: str | None) -> bytes | None:
    """The UTF-8 of a text within the limits; a string literal may hold a lone surrogate, so not
    every `str` has one."""
    if text is None:
        return None
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        return None
    return data if SHORTEST_BYTES <= len(data) <= LONGEST_BYTES else None
