"""Documents that stay out of the rows: whole sources, and a list of single documents.

A line of the list is a document's key (32 hex digits) or a JSON object with `key`, or with `source`
and `position`, as lineage, `rejected.jsonl` and our reports name documents. Empty lines and lines
that begin with # are skipped.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.keys import KEY_BYTES, add_digests, keys_digest, keys_to_words
from dsv3data.contracts.manifest import Manifest
from dsv3data.io.columns import column_values
from dsv3data.io.make_columns import strings_of
from dsv3data_pipelines.pack.batches import batch_lengths, batch_words, unchecked_batches


@dataclass(frozen=True, kw_only=True)
class Exclusions:
    """What stays out.

    Attributes:
        sources: names as in the token shards' column `source`.
        keys: document keys, 16 bytes each.
        places: (source, position) of documents.
    """

    sources: frozenset[str] = frozenset()
    keys: frozenset[bytes] = frozenset()
    places: frozenset[tuple[str, int]] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.sources or self.keys or self.places)

    def to_tree(self) -> dict[str, Any]:
        """As the plan names it: sources in words, single documents by one hash of them all."""
        single = [key.hex() for key in self.keys]
        single += [json.dumps(place, ensure_ascii=False) for place in self.places]
        listed = "\n".join(sorted(single)).encode()
        return {
            "sources": sorted(self.sources),
            "documents_listed": len(single),
            "documents_sha256": hashlib.sha256(listed).hexdigest() if single else "",
        }

    def mask(self, batch: pa.RecordBatch, words: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which documents of a token shard's batch stay out, bool [N]."""
        out = np.zeros(batch.num_rows, dtype=np.bool_)
        if self.keys:
            out |= np.isin(words[:, 0], self._first_words)  # few: the whole key decides below
            column = batch.column("key")
            for row in np.flatnonzero(out).tolist():
                out[row] = column[row].as_py() in self.keys
        if self.sources or self.places:
            source = batch.column("source")
            out |= _is_in(source, self.sources)
            position = batch.column("position")
            for row in np.flatnonzero(_is_in(source, self._place_sources) & ~out).tolist():
                out[row] = (source[row].as_py(), position[row].as_py()) in self.places
        return out

    @cached_property
    def _first_words(self) -> NDArray[np.uint64]:
        keys = np.frombuffer(b"".join(sorted(self.keys)), dtype=np.uint8)
        return keys_to_words(keys.reshape(-1, KEY_BYTES))[:, 0]

    @cached_property
    def _place_sources(self) -> frozenset[str]:
        return frozenset(source for source, _ in self.places)


def read_exclusions(path: Path | None, sources: Sequence[str] = ()) -> Exclusions:
    """The list in a file (None: no list), and whole sources.

    Raises:
        BadInput: no such file, or a line that names no document.
    """
    keys: set[bytes] = set()
    places: set[tuple[str, int]] = set()
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _document(line.strip())
        if found is None:
            raise BadInput(
                f"line {number:,} names no document: {line[:80]!r}",
                where=str(path),
                effect="nothing was packed",
                fix="write a key of 32 hex digits, or "
                '{"source": "web.jsonl", "position": 0}, one a line',
            )
        if isinstance(found, bytes):
            keys.add(found)
        else:
            places.add(found)
    return Exclusions(sources=frozenset(sources), keys=frozenset(keys), places=frozenset(places))


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """The documents of a token set that exclusions keep out; `tokens` are theirs by domain."""

    documents: int
    tokens: Mapping[str, int]
    keys_digest: str

    def to_tree(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return {
            "documents": self.documents,
            "tokens": sum(self.tokens.values()),
            "keys_digest": self.keys_digest,
        }


def count_excluded(tokens: Path, manifest: Manifest, exclusions: Exclusions) -> Excluded:
    """Look for the excluded documents in a token set, without reading any token.

    Raises:
        BadInput: a source that the token set has no document of, or no document is left.
    """
    documents = 0
    n_tokens: Counter[str] = Counter()
    digests: list[str] = []
    sources: set[str] = set()
    for batch in unchecked_batches(tokens, manifest) if exclusions else ():
        words, lengths = batch_words(batch), batch_lengths(batch)
        out = exclusions.mask(batch, words)
        documents += int(out.sum())
        for place in np.flatnonzero(out).tolist():
            n_tokens[batch.column("domain")[place].as_py()] += int(lengths[place])
        digests.append(keys_digest(words[out]))
        sources.update(pc.unique(batch.column("source")).to_pylist())
    if exclusions:
        _check_sources(exclusions, sources, tokens)
    if documents == manifest.counts["documents"]:
        raise BadInput(
            "no document is left to pack",
            where=str(tokens),
            effect="nothing was packed",
            fix="exclude less",
        )
    return Excluded(documents=documents, tokens=n_tokens, keys_digest=add_digests(digests))


def _check_sources(exclusions: Exclusions, known: set[str], tokens: Path) -> None:
    """A typo would remove nothing."""
    for source in sorted(exclusions.sources - known):
        near = difflib.get_close_matches(source, list(known), n=1, cutoff=0.4)
        raise BadInput(
            f"the token set has no document of a source named {source!r}",
            where=str(tokens),
            effect="nothing was packed",
            fix=f"did you mean {near[0]!r}?" if near else "give a name of the column `source`",
        )


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"the list of documents cannot be read: {error}",
            where=str(path),
            effect="nothing was packed",
            fix="check the path given to --exclude",
        ) from error


def _document(line: str) -> bytes | tuple[str, int] | None:
    """A key, a place, or None."""
    try:
        tree = json.loads(line) if line.startswith("{") else {"key": line}
        if "key" in tree:
            key = bytes.fromhex(tree["key"])
            return key if len(key) == KEY_BYTES else None
        source, position = tree["source"], tree["position"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (source, position) if isinstance(source, str) and type(position) is int else None


def _is_in(column: pa.Array, names: frozenset[str]) -> NDArray[np.bool_]:
    found = pc.is_in(column, value_set=strings_of(sorted(names)))
    return column_values(found.cast(pa.uint8()), np.uint8).astype(np.bool_)
