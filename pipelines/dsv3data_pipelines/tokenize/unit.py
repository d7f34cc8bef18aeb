"""One work unit of `tokenize`: read documents, encode them, write shards and rejections."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from dsv3data.contracts.keys import keys_digest, keys_to_words
from dsv3data.contracts.manifest import FileRecord
from dsv3data.contracts.progress import Sink
from dsv3data.contracts.schemas import token_schema
from dsv3data.encoding.control_text import ControlTextCounter
from dsv3data.encoding.engine import DocumentEncoder
from dsv3data.encoding.huggingface import HuggingFaceEncoder
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.atomic import atomic_writer
from dsv3data.io.ledger import WORK_FOLDER
from dsv3data.io.manifest_file import describe_file
from dsv3data.io.shards import shard_writer
from dsv3data.io.sources import Document, Rejected, Unit, input_sha256, read_unit
from dsv3data.io.sources.documents import EMPTY
from dsv3data_pipelines.tokenize.config import TokenizeConfig

# Text that is encoded at once, and ids of a record batch: fixed, since they shape the bytes.
_ENCODE_BYTES = 1 << 20
_BATCH_IDS = 4 << 20


@dataclass(frozen=True, kw_only=True)
class TokenizeUnit:
    """A `UnitTask`: plain data that a worker process can be given."""

    unit: Unit
    tokenizer: Path
    tokenizer_sha256: str
    config: TokenizeConfig
    out: Path
    plan_hash: str

    @property
    def name(self) -> str:
        return self.unit.name

    @property
    def size(self) -> int:
        return self.unit.size

    def input_sha256(self) -> str:
        return input_sha256(self.unit)

    def run(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any]]:
        vocabulary, encoder, control_text = _engine(self.tokenizer, self.tokenizer_sha256)
        writer = _UnitWriter(self, vocabulary, sink)
        rejected_name = f"{WORK_FOLDER}/rejected-{self.name}.jsonl"
        with atomic_writer(self.out / rejected_name) as rejected:
            documents = _documents(self, rejected, writer.counts, control_text)
            shards = writer.write(_encoded(documents, encoder))
        return [*shards, describe_file(self.out, rejected_name)], writer.counts.tree()


class UnitCounts:
    """What a unit, or a whole run, saw: sums that add up."""

    def __init__(self) -> None:
        self.documents: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.replaced = 0
        self.control_text = 0
        self.keys_digest = f"{0:032x}"

    def tree(self) -> dict[str, Any]:
        """Plain values, as the ledger and the manifest hold them."""
        domains = {
            name: {
                "documents": self.documents[name],
                "tokens": self.tokens[name],
                "bytes": self.bytes[name],
            }
            for name in sorted(self.documents)
        }
        return {
            "documents": self.documents.total(),
            "tokens": self.tokens.total(),
            "bytes": self.bytes.total(),
            "rejected": self.rejected.total() - self.rejected[EMPTY],
            "empty": self.rejected[EMPTY],
            "rejected_by_reason": {name: self.rejected[name] for name in sorted(self.rejected)},
            "replaced_characters_documents": self.replaced,
            "control_text_documents": self.control_text,
            "domains": domains,
            "keys_digest": self.keys_digest,
        }


@functools.lru_cache(maxsize=1)
def _engine(path: Path, sha256: str) -> tuple[Vocabulary, DocumentEncoder, ControlTextCounter]:
    """Loaded once per process; `sha256` makes another tokenizer at the same path another entry."""
    vocabulary = load_vocabulary(path)
    return (
        vocabulary,
        HuggingFaceEncoder(vocabulary),
        ControlTextCounter(vocabulary.control_texts),
    )


def _documents(
    task: TokenizeUnit, rejected: BinaryIO, counts: UnitCounts, control_text: ControlTextCounter
) -> Iterator[Document]:
    """The unit's documents; rejections go to their file on the way."""
    for item in read_unit(task.unit, task.config.read):
        if isinstance(item, Rejected):
            counts.rejected[item.reason] += 1
            rejected.write(_rejected_line(item))
            continue
        counts.replaced += item.replaced
        counts.control_text += control_text.found_in(item.data)
        yield item


def _rejected_line(item: Rejected) -> bytes:
    record = {
        "source": item.source,
        "position": item.position,
        "line": item.line,
        "reason": item.reason,
        "detail": item.detail,
    }
    return (json.dumps(record, ensure_ascii=True) + "\n").encode()


_Encoded = tuple[list[Document], np.ndarray[Any, np.dtype[np.int32]], list[int]]


def _encoded(documents: Iterable[Document], encoder: DocumentEncoder) -> Iterator[_Encoded]:
    """Groups of documents with their ids (flat) and id counts."""
    for group in _groups(documents):
        values, offsets = encoder.encode([document.data.decode("utf-8") for document in group])
        yield group, values, np.diff(offsets).tolist()


def _groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    group: list[Document] = []
    size = 0
    for document in documents:
        group.append(document)
        size += len(document.data)
        if size >= _ENCODE_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


class _UnitWriter:
    """Turns encoded groups into record batches and shards of one unit."""

    def __init__(self, task: TokenizeUnit, vocabulary: Vocabulary, sink: Sink) -> None:
        self._task = task
        self._sink = sink
        self._schema = token_schema(
            {
                "format": "dsv3data.tokens",
                "format_version": "1",
                "plan_hash": task.plan_hash,
                "tokenizer_sha256": vocabulary.sha256,
                "vocab_size": str(vocabulary.vocab_size),
            }
        )
        self._words: list[bytes] = []
        self.counts = UnitCounts()

    def write(self, groups: Iterable[_Encoded]) -> list[FileRecord]:
        """Write all groups; a unit without documents writes no shard."""
        records: list[FileRecord] = []
        batches = self._batches(groups)
        batch = next(batches, None)
        while batch is not None:
            path = self._task.out / f"tokens-{self._task.name}-{len(records):03d}.arrow"
            with ExitStack() as stack:
                shard = stack.enter_context(shard_writer(path, self._schema, records))
                while batch is not None and shard.size < self._task.config.shard_bytes:
                    shard.write(batch)
                    batch = next(batches, None)
        keys = np.frombuffer(b"".join(self._words), dtype=np.uint8).reshape(-1, 16)
        self.counts.keys_digest = keys_digest(keys_to_words(keys))
        return records

    def _batches(self, groups: Iterable[_Encoded]) -> Iterator[pa.RecordBatch]:
        documents: list[Document] = []
        parts: list[np.ndarray[Any, np.dtype[np.int32]]] = []
        lengths: list[int] = []
        done = 0
        for group, values, group_lengths in groups:
            documents += group
            parts.append(values)
            lengths += group_lengths
            size = sum(len(document.data) for document in group)
            self._count(group, group_lengths)
            self._sink.advance(size, tokens=len(values), documents=len(group))
            done += size
            if sum(map(len, parts)) >= _BATCH_IDS:
                yield self._batch(documents, parts, lengths)
                documents, parts, lengths = [], [], []
        # Progress is in input bytes, of which text is a part; settle the difference at the end.
        self._sink.advance(self._task.size - done)
        if documents:
            yield self._batch(documents, parts, lengths)

    def _count(self, group: list[Document], lengths: list[int]) -> None:
        for document, length in zip(group, lengths, strict=True):
            self.counts.documents[document.domain] += 1
            self.counts.tokens[document.domain] += length
            self.counts.bytes[document.domain] += len(document.data)
            self._words.append(document.key)

    def _batch(
        self,
        documents: list[Document],
        parts: list[np.ndarray[Any, np.dtype[np.int32]]],
        lengths: list[int],
    ) -> pa.RecordBatch:
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        ids = pa.LargeListArray.from_arrays(
            pa.array(offsets), pa.array(np.concatenate(parts)), type=self._schema.field("ids").type
        )
        columns = [
            pa.array([document.key for document in documents], pa.binary(16)),
            pa.array([document.source for document in documents], pa.string()),
            pa.array([document.position for document in documents], pa.int64()),
            pa.array([document.domain for document in documents], pa.string()),
            pa.array([len(document.data) for document in documents], pa.int64()),
            ids,
        ]
        return pa.record_batch(columns, schema=self._schema)
