"""One work unit of `pack`: a (domain, partition) → one packed shard and its lineage."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dsv3data.contracts.keys import keys_digest
from dsv3data.contracts.manifest import TOKENIZER_NAME, TOKENS, FileRecord, Manifest
from dsv3data.contracts.progress import Sink
from dsv3data.contracts.schemas import lineage_schema, packed_schema
from dsv3data.encoding.huggingface import HuggingFaceEncoder
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.atomic import atomic_writer
from dsv3data.io.manifest_file import describe_file, read_manifest
from dsv3data.io.shards import shard_writer
from dsv3data.packing.best_fit import assign
from dsv3data.packing.config import PackConfig
from dsv3data.packing.fim import Codec, FimCounts
from dsv3data.packing.order import Arrangement, arrange, packing_words
from dsv3data.packing.rows import Rows, build_rows
from dsv3data_pipelines.pack.documents import Documents, gather_documents
from dsv3data_pipelines.pack.pieces import Pieces, make_pieces

# Ids in one record batch (64 MiB): fixed, since it shapes the bytes.
_BATCH_IDS = 16 << 20
_ROW_ID_SHIFT = 32
_FIXED_WIDTH = ("input_ids", "crc32", "n_tokens", "row_id")


@dataclass(frozen=True, kw_only=True)
class PackUnit:
    """A `UnitTask`. `number` is the shard's index in row ids."""

    number: int
    domain: str
    partition: int
    n_partitions: int
    tokens: Path
    tokens_root: str
    config: PackConfig
    out: Path
    plan_hash: str
    size: int

    @property
    def name(self) -> str:
        return f"{self.domain}-{self.partition:05d}"

    def input_sha256(self) -> str:
        return self.tokens_root

    def run(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any]]:
        manifest, vocabulary, codec = _engine(self.tokens, self.tokens_root)
        documents = gather_documents(
            self.tokens,
            manifest,
            vocabulary,
            domain=self.domain,
            partition=self.partition,
            n_partitions=self.n_partitions,
            seed=self.config.seed,
        )
        if not len(documents):
            sink.advance(self.size)
            return [], {}
        pieces, fim = make_pieces(documents, codec, self.config, sink)
        arrangement = _arrangement(documents, pieces, self.config)
        shard = _write_rows(self, vocabulary, pieces, arrangement)
        lineage = _write_lineage(self, vocabulary, documents, pieces, arrangement)
        sink.advance(self.size - fim.source_tokens_chosen, rows=arrangement.n_rows)
        return [shard, lineage], _counts(self, documents, pieces, fim, arrangement)


@functools.lru_cache(maxsize=1)
def _engine(tokens: Path, root: str) -> tuple[Manifest, Vocabulary, Codec]:
    """Loaded once per process; `root` makes another token set at the same path another entry."""
    manifest = read_manifest(tokens, expect=(TOKENS,))
    vocabulary = load_vocabulary(tokens / TOKENIZER_NAME)
    encoder = HuggingFaceEncoder(vocabulary)
    codec = Codec(
        encode=lambda text: encoder.encode([text])[0],
        decode=vocabulary.decode,
        starts_inside=vocabulary.starts_inside_codepoint,
        control=vocabulary.control,
    )
    return manifest, vocabulary, codec


def _arrangement(documents: Documents, pieces: Pieces, config: PackConfig) -> Arrangement:
    words = documents.words[pieces.document]
    ties = packing_words(words, pieces.piece, seed=config.seed)
    bins = assign(pieces.lengths, config.context, ties)
    return arrange(bins, words, pieces.piece, seed=config.seed)


def _write_rows(
    task: PackUnit, vocabulary: Vocabulary, pieces: Pieces, arrangement: Arrangement
) -> FileRecord:
    context = task.config.context
    schema = packed_schema(
        context,
        {
            "format": "dsv3data.packed",
            "format_version": "1",
            "plan_hash": task.plan_hash,
            "tokenizer_sha256": vocabulary.sha256,
            "vocab_size": str(vocabulary.vocab_size),
            "context": str(context),
            "seed": str(task.config.seed),
            "fim_rate": repr(task.config.fim_rate),
            "eos_id": str(vocabulary.control.eos),
            "pad_id": str(vocabulary.control.pad),
        },
    )
    records: list[FileRecord] = []
    step = max(1, _BATCH_IDS // context)
    path = task.out / f"packed-{task.name}.arrow"
    with shard_writer(path, schema, records, _FIXED_WIDTH) as shard:
        for start in range(0, arrangement.n_rows, step):
            stop = min(start + step, arrangement.n_rows)
            rows = build_rows(
                pieces.values,
                pieces.offsets,
                arrangement,
                context=context,
                pad_id=vocabulary.control.pad,
                start=start,
                stop=stop,
            )
            flags = pieces.flag[
                arrangement.pieces[arrangement.offsets[start] : arrangement.offsets[stop]]
            ]
            shard.write(_batch(task, schema, rows, flags, first_row=start))
    return records[0]


def _batch(
    task: PackUnit, schema: pa.Schema, rows: Rows, flags: NDArray[np.uint8], *, first_row: int
) -> pa.RecordBatch:
    n_rows = len(rows.n_tokens)
    offsets = pa.array(rows.piece_offsets.astype(np.int32))
    lengths_type, flags_type = schema.field("piece_lengths").type, schema.field("piece_flags").type
    columns = [
        pa.FixedSizeListArray.from_arrays(
            pa.array(rows.input_ids.reshape(-1)), type=schema.field("input_ids").type
        ),
        pa.array([zlib.crc32(row) for row in rows.input_ids], pa.uint32()),
        pa.array(rows.n_tokens),
        pa.ListArray.from_arrays(offsets, pa.array(rows.piece_lengths), type=lengths_type),
        pa.ListArray.from_arrays(offsets, pa.array(flags), type=flags_type),
        pa.array([task.domain] * n_rows, pa.string()),
        pa.array(_row_ids(task, first_row, n_rows)),
    ]
    return pa.record_batch(columns, schema=schema)


def _row_ids(task: PackUnit, first_row: int, n_rows: int) -> NDArray[np.int64]:
    return (task.number << _ROW_ID_SHIFT) + np.arange(first_row, first_row + n_rows)


def _write_lineage(
    task: PackUnit,
    vocabulary: Vocabulary,
    documents: Documents,
    pieces: Pieces,
    arrangement: Arrangement,
) -> FileRecord:
    """One row per piece, in the order in which the pieces stand in the shard."""
    order = arrangement.pieces
    slots_per_row = np.diff(arrangement.offsets)
    row = np.repeat(np.arange(arrangement.n_rows), slots_per_row)
    document = pieces.document[order]
    piece_bytes = np.add.reduceat(
        vocabulary.byte_lengths[pieces.values].astype(np.int64), pieces.offsets[:-1]
    )
    pieces_of = np.bincount(pieces.document, minlength=len(documents))
    columns = [
        pa.array(_row_ids(task, 0, arrangement.n_rows)[row]),
        pa.array((np.arange(len(order)) - arrangement.offsets[row]).astype(np.int32)),
        pa.array([documents.keys[index] for index in document.tolist()], pa.binary(16)),
        pa.array([documents.source[index] for index in document.tolist()], pa.string()),
        pa.array(documents.position[document]),
        pa.array(pieces.piece[order].astype(np.int32)),
        pa.array(pieces_of[document].astype(np.int32)),
        pa.array(pieces.start[order]),
        pa.array(pieces.stop[order]),
        pa.array(pieces.lengths[order].astype(np.int32)),
        pa.array(piece_bytes[order]),
        pa.array(pieces.flag[order]),
        pa.array(pieces.middle_start[order]),
        pa.array(pieces.suffix_start[order]),
    ]
    table = pa.table(columns, schema=lineage_schema())
    name = f"lineage-{task.name}.parquet"
    with atomic_writer(task.out / name) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    return describe_file(task.out, name, rows=table.num_rows)


def _counts(
    task: PackUnit, documents: Documents, pieces: Pieces, fim: FimCounts, arrangement: Arrangement
) -> dict[str, Any]:
    ids = len(pieces.values)
    text_tokens = len(documents.values)
    rows = arrangement.n_rows
    figures: dict[str, Any] = {
        "documents": len(documents),
        "documents_cut": int((np.bincount(pieces.document) > 1).sum()),
        "pieces": len(pieces.document),
        "rows": rows,
        "text_tokens": text_tokens,
        "bytes": int(documents.n_bytes.sum()),
        "row_ids": ids,
        "padding": rows * task.config.context - ids,
        "fim": dataclasses.asdict(fim),
    }
    return {
        **figures,
        "domains": {task.domain: figures},
        "keys_digest": keys_digest(documents.words),
    }
