"""The proof of a token set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.audit.checks import (
    check_complete,
    check_counts,
    check_document_ids,
    check_schema,
    fail,
    ranges_sum,
    schema_of,
)
from dsv3data.contracts.keys import keys_digest, keys_to_words
from dsv3data.contracts.manifest import MANIFEST_NAME, REJECTED_NAME, FileRecord, Manifest
from dsv3data.contracts.progress import Sink
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data.io.columns import column_values, key_bytes, list_lengths
from dsv3data.io.shards import ShardReader

_Words = NDArray[np.uint64]


def verify_tokens(
    folder: Path, manifest: Manifest, vocabulary: Vocabulary, sink: Sink
) -> Mapping[str, Any]:
    """Recompute what a token set claims.

    - every id is of the tokenizer, none is a control token;
    - no row is empty, and the bytes its ids stand for are as many as the text had;
    - no key occurs twice, the keys are those of the manifest;
    - documents, tokens and bytes per domain, and the number of rejections, are as stated.
    """
    totals = {name: Counter[str]() for name in ("documents", "tokens", "bytes")}
    words: list[_Words] = []
    shards = manifest.shards()
    sink.phase("documents", total=sum(record.rows for record in shards), unit="docs")
    for record in shards:
        _verify_shard(folder, record, manifest, vocabulary, totals, words, sink)
    _verify_keys(folder, manifest, words)
    domains = {
        domain: {name: counter[domain] for name, counter in totals.items()}
        for domain in sorted(totals["documents"])
    }
    facts = {name: counter.total() for name, counter in totals.items()} | {"domains": domains}
    check_counts(facts, manifest.counts, folder / MANIFEST_NAME)
    _verify_rejections(folder, manifest)
    return facts


def _verify_shard(
    folder: Path,
    record: FileRecord,
    manifest: Manifest,
    vocabulary: Vocabulary,
    totals: Mapping[str, Counter[str]],
    words: list[_Words],
    sink: Sink,
) -> None:
    reader = ShardReader(folder, record)
    check_schema(reader.path, reader.schema, schema_of(manifest), manifest)
    for number, batch in enumerate(reader.batches()):
        lengths = _verify_batch(batch, vocabulary, reader.path, f"batch {number}")
        domains = batch.column("domain").to_pylist()
        sizes = batch.column("n_bytes").to_pylist()
        for domain, length, size in zip(domains, lengths.tolist(), sizes, strict=True):
            totals["documents"][domain] += 1
            totals["tokens"][domain] += length
            totals["bytes"][domain] += size
        words.append(keys_to_words(key_bytes(batch.column("key"))))
        sink.advance(batch.num_rows)


def _verify_batch(
    batch: pa.RecordBatch, vocabulary: Vocabulary, path: Path, place: str
) -> NDArray[np.int64]:
    """Token counts of the batch's documents, int64 [N], after all checks of its content."""
    check_complete(batch, path, place)
    ids = column_values(batch.column("ids").flatten(), np.int32)
    check_document_ids(ids, vocabulary, path, place)
    lengths = list_lengths(batch.column("ids"))
    if not lengths.all():
        fail(f"row {int(np.argmin(lengths))} has no token", path, place)
    stops = np.cumsum(lengths)
    sizes = ranges_sum(vocabulary.byte_lengths[ids].astype(np.int64), stops - lengths, stops)
    wrong = np.flatnonzero(sizes != column_values(batch.column("n_bytes"), np.int64))
    if len(wrong):
        fail(
            f"row {wrong[0]} decodes to {sizes[wrong[0]]:,} bytes, its text had more or fewer",
            path,
            place,
        )
    return lengths


def _verify_keys(folder: Path, manifest: Manifest, parts: list[_Words]) -> None:
    words = np.concatenate(parts) if parts else np.empty((0, 2), dtype=np.uint64)
    if keys_digest(words) != manifest.keys_digest:
        fail("the documents are not those the manifest was made for", folder)
    if len(np.unique(words, axis=0)) != len(words):
        fail("a document stands in the set twice", folder)


def _verify_rejections(folder: Path, manifest: Manifest) -> None:
    with (folder / REJECTED_NAME).open("rb") as file:
        lines = sum(1 for _ in file)
    stated = manifest.counts["rejected"] + manifest.counts["empty"]
    if lines != stated:
        fail(
            f"{lines:,} rejections are listed, the manifest counts {stated:,}",
            folder / REJECTED_NAME,
        )
