"""The documents of one partition in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.audit.checks import check_document_ids
from dsv3data.contracts.manifest import Manifest
from dsv3data.contracts.schemas import token_schema
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data.io.columns import column_values
from dsv3data.io.make_columns import column_of
from dsv3data_pipelines.pack.batches import (
    batch_ids,
    batch_lengths,
    batch_words,
    token_batches,
)
from dsv3data_pipelines.pack.exclude import Exclusions
from dsv3data_pipelines.pack.partitions import Partitions


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Documents of one domain and partition, in the order of the token shards.

    Attributes:
        words: keys as uint64 [N, 2].
        values: ids of all documents one after the other, int32; document i is
            values[offsets[i] : offsets[i + 1]].
        offsets: int64 [N + 1].
        n_bytes: UTF-8 bytes of each text, int64 [N].
        key, source, position: columns of the token shards, for the lineage.
    """

    words: NDArray[np.uint64]
    values: NDArray[np.int32]
    offsets: NDArray[np.int64]
    n_bytes: NDArray[np.int64]
    key: pa.Array
    source: pa.Array
    position: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.words)

    def key_of(self, document: int) -> bytes:
        """16 bytes."""
        key: bytes = self.key[document].as_py()
        return key


def gather_documents(
    tokens: Path,
    manifest: Manifest,
    vocabulary: Vocabulary,
    *,
    partitions: Partitions,
    unit: int,
    exclusions: Exclusions,
) -> Documents:
    """Read, checked, the documents of one unit out of all token shards.

    For a unit that is done alone, on a machine of its own or again: `scatter` gives all units
    their documents in one pass. Cost: one sequential pass over the token shards; memory is that of
    the chosen documents.

    Raises:
        IntegrityError: a shard is damaged, of other columns or of another tokenizer, or an id is
            none of the tokenizer's or a control id.
    """
    chosen: list[pa.RecordBatch] = []
    for found in token_batches(tokens, manifest):
        batch = found.batch
        words = batch_words(batch)
        wanted = partitions.units_of(batch.column("domain"), words) == unit
        wanted &= ~exclusions.mask(batch, words)
        if wanted.any():
            chosen.append(batch.take(column_of(np.flatnonzero(wanted))))
            check_document_ids(batch_ids(chosen[-1]), vocabulary, found.path, found.place)
    return documents_of(chosen)


def documents_of(batches: Sequence[pa.RecordBatch]) -> Documents:
    """The documents of batches of token shards, in order."""
    lengths = [np.empty(0, dtype=np.int64), *map(batch_lengths, batches)]
    ids = [np.empty(0, dtype=np.int32), *map(batch_ids, batches)]
    words = [np.empty((0, 2), dtype=np.uint64), *map(batch_words, batches)]
    return Documents(
        words=np.concatenate(words),
        values=np.concatenate(ids),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate(lengths))]),
        n_bytes=column_values(_joined(batches, "n_bytes"), np.int64),
        key=_joined(batches, "key"),
        source=_joined(batches, "source"),
        position=column_values(_joined(batches, "position"), np.int64),
    )


def _joined(batches: Sequence[pa.RecordBatch], name: str) -> pa.Array:
    empty = pa.nulls(0, token_schema({}).field(name).type)
    return pa.concat_arrays([empty, *(batch.column(name) for batch in batches)])
