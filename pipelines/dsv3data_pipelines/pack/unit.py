"""One work unit of `pack`: a (domain, partition) → one packed shard and its lineage."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
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
from dsv3data.encoding.choose import LoadedEngines, hand_over, load_engines
from dsv3data.encoding.debias import debias_table
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.atomic import atomic_writer
from dsv3data.io.checksums import crc32
from dsv3data.io.make_columns import column_of, strings_of
from dsv3data.io.manifest_file import describe_file, read_manifest
from dsv3data.io.shards import shard_writer
from dsv3data.packing.best_fit import assign
from dsv3data.packing.config import PackConfig
from dsv3data.packing.debias import split_table
from dsv3data.packing.fim import Codec, FimCounts
from dsv3data.packing.order import Arrangement, arrange, packing_words
from dsv3data.packing.rows import Rows, build_rows
from dsv3data_pipelines.pack.documents import Documents, gather_documents
from dsv3data_pipelines.pack.exclude import Exclusions
from dsv3data_pipelines.pack.grouped import grouped_slices
from dsv3data_pipelines.pack.memory import give_back_memory
from dsv3data_pipelines.pack.partitions import Partitions
from dsv3data_pipelines.pack.pieces import Pieces, make_pieces
from dsv3data_pipelines.pack.scatter import Share, read_slices

# Ids in one record batch (64 MiB): fixed, since it shapes the bytes.
BATCH_IDS = 16 << 20
_FIXED_WIDTH = ("input_ids", "crc32", "n_tokens", "partition", "row")


@dataclass(frozen=True, kw_only=True)
class PackUnit:
    """A `WarmTask`. What it writes is a function of its name, its documents and `plan_hash` alone.

    Attributes:
        number: of the unit in `partitions`; it reaches no byte of the output.
        plan_hash: of config, tokenizer and code format.
        input: hash of its documents, or of what they are chosen from.
        share: where its documents are, if they are at hand.
        on_cluster: whether the tasks that pack the other units group the token shards together with
            this one; else, without a share, its documents are gathered from all token shards.
        size: tokens, an estimate without a share.
    """

    number: int
    domain: str
    partition: int
    partitions: Partitions
    tokens: Path
    tokens_root: str
    exclusions: Exclusions
    config: PackConfig
    out: Path
    plan_hash: str
    input: str
    size: int
    share: Share | None = None
    on_cluster: bool = False

    @property
    def name(self) -> str:
        return f"{self.domain}-{self.partition:05d}"

    def input_sha256(self) -> str:
        return self.input

    def given(self, share: Share) -> PackUnit:
        """The unit with its documents at hand, or known without them if the share has no slices."""
        at_hand = share if share.slices or not share.documents else None
        return dataclasses.replace(self, share=at_hand, input=share.sha256, size=share.tokens)

    def warm_up(self) -> Sequence[Callable[[], None]]:
        if not (self.config.fim_rate or self.config.fim_domain_rates):
            return ()
        vocabulary = load_vocabulary(self.tokens / TOKENIZER_NAME)
        return [*hand_over(vocabulary, "auto"), self._load_engines]

    def _load_engines(self) -> None:
        _engines(self.tokens, self.tokens_root)

    def run(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any]]:
        try:
            return self._run(sink)
        finally:
            give_back_memory()

    def _run(self, sink: Sink) -> tuple[list[FileRecord], Mapping[str, Any]]:
        manifest, vocabulary, codec = _engine(self.tokens, self.tokens_root, sink.note)
        documents = self._documents(manifest, vocabulary)
        if not len(documents):
            sink.advance(self.size)
            return [], {}
        pieces, fim = make_pieces(documents, codec, self.config, domain=self.domain, sink=sink)
        arrangement = _arrangement(documents, pieces, self.config)
        shard = _write_rows(self, vocabulary, pieces, arrangement)
        lineage = _write_lineage(self, vocabulary, documents, pieces, arrangement)
        sink.advance(self.size - fim.source_tokens_chosen, rows=arrangement.n_rows)
        return [shard, lineage], _counts(self, documents, pieces, fim, arrangement)

    def _documents(self, manifest: Manifest, vocabulary: Vocabulary) -> Documents:
        if self.share is not None:
            return read_slices(self.share.slices)
        if self.on_cluster:
            slices = grouped_slices(
                self.tokens,
                manifest,
                vocabulary,
                partitions=self.partitions,
                unit=self.number,
                exclusions=self.exclusions,
                out=self.out,
                documents=self.input,
            )
            return read_slices(slices)
        return gather_documents(
            self.tokens,
            manifest,
            vocabulary,
            partitions=self.partitions,
            unit=self.number,
            exclusions=self.exclusions,
        )


_Loaded = tuple[Manifest, Vocabulary, Codec]
_loaded: dict[tuple[Path, str], _Loaded] = {}


def _engine(tokens: Path, root: str, note: Callable[[str], None]) -> _Loaded:
    """Loaded once per process; `root` makes another token set at the same path another entry."""
    if (tokens, root) not in _loaded:
        _loaded.clear()
        _loaded[tokens, root] = _load(tokens, root, note)
    return _loaded[tokens, root]


@functools.lru_cache(maxsize=1)
def _engines(tokens: Path, root: str) -> LoadedEngines:
    """Two seconds: only if something has to be encoded."""
    return load_engines(load_vocabulary(tokens / TOKENIZER_NAME), "auto")


def _load(tokens: Path, root: str, note: Callable[[str], None]) -> _Loaded:
    manifest = read_manifest(tokens, expect=(TOKENS,))
    vocabulary = load_vocabulary(tokens / TOKENIZER_NAME)

    @functools.cache
    def encoder() -> Callable[[Sequence[str]], tuple[NDArray[np.int32], NDArray[np.int64]]]:
        return _engines(tokens, root).choose(note=note).encoder.encode

    table = debias_table(vocabulary)
    codec = Codec(
        encode=lambda texts: encoder()(texts),
        decode=vocabulary.decode_runs,
        starts_inside=vocabulary.starts_inside_codepoint,
        control=vocabulary.control,
        is_control=vocabulary.is_control,
        splits=split_table(table.id, table.head, table.tail, vocab_size=vocabulary.vocab_size),
    )
    return manifest, vocabulary, codec


def _arrangement(documents: Documents, pieces: Pieces, config: PackConfig) -> Arrangement:
    words = documents.words[pieces.document]
    ties = packing_words(words, pieces.piece, seed=config.draws)
    bins = assign(pieces.ids.length, config.context, ties)
    return arrange(bins, words, pieces.piece, seed=config.draws)


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
            "epoch": str(task.config.epoch),
            "fim_rate": repr(task.config.fim_rate_of(task.domain)),
            "debias_rate": repr(task.config.debias_rate),
            "eos_id": str(vocabulary.control.eos),
            "pad_id": str(vocabulary.control.pad),
        },
    )
    records: list[FileRecord] = []
    step = max(1, BATCH_IDS // context)
    path = task.out / f"packed-{task.name}.arrow"
    with shard_writer(path, schema, records, _FIXED_WIDTH) as shard:
        for start in range(0, arrangement.n_rows, step):
            stop = min(start + step, arrangement.n_rows)
            rows = build_rows(
                pieces.ids,
                arrangement,
                context=context,
                pad_id=vocabulary.control.pad,
                eos_id=vocabulary.control.eos,
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
    offsets = column_of(rows.piece_offsets.astype(np.int32))
    lengths_type, flags_type = schema.field("piece_lengths").type, schema.field("piece_flags").type
    columns = [
        pa.FixedSizeListArray.from_arrays(
            column_of(rows.input_ids.reshape(-1)), type=schema.field("input_ids").type
        ),
        column_of(np.array([crc32(row) for row in rows.input_ids], dtype=np.uint32)),
        column_of(rows.n_tokens),
        pa.ListArray.from_arrays(offsets, column_of(rows.piece_lengths), type=lengths_type),
        pa.ListArray.from_arrays(offsets, column_of(flags), type=flags_type),
        strings_of([task.domain] * n_rows),
        column_of(np.full(n_rows, task.partition, dtype=np.int32)),
        column_of(np.arange(first_row, first_row + n_rows)),
    ]
    return pa.record_batch(columns, schema=schema)


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
    pieces_of = np.bincount(pieces.document, minlength=len(documents))
    piece_bytes = _piece_bytes(vocabulary, documents, pieces, pieces_of)
    columns = [
        strings_of([task.domain] * len(order)),
        column_of(np.full(len(order), task.partition, dtype=np.int32)),
        column_of(row),
        column_of((np.arange(len(order)) - arrangement.offsets[row]).astype(np.int32)),
        documents.key.take(column_of(document)),
        documents.source.take(column_of(document)),
        column_of(documents.position[document]),
        column_of(pieces.piece[order].astype(np.int32)),
        column_of(pieces_of[document].astype(np.int32)),
        column_of(pieces.start[order]),
        column_of(pieces.stop[order]),
        column_of(pieces.ids.length[order].astype(np.int32)),
        column_of(pieces.n_debiased[order]),
        column_of(piece_bytes[order]),
        column_of(pieces.flag[order]),
        column_of(pieces.middle_start[order]),
        column_of(pieces.suffix_start[order]),
    ]
    table = pa.table(columns, schema=lineage_schema())
    name = f"lineage-{task.name}.parquet"
    with atomic_writer(task.out / name) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    return describe_file(task.out, name, rows=table.num_rows)


def _piece_bytes(
    vocabulary: Vocabulary, documents: Documents, pieces: Pieces, pieces_of: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Bytes of text that each piece stands for, int64 [P]: of a whole document, as it is stored."""
    sizes = documents.n_bytes[pieces.document]
    cut = np.flatnonzero(pieces_of[pieces.document] > 1)
    starts = pieces.ids.start[cut]
    stops = starts + pieces.ids.length[cut] - pieces.ids.eos[cut]
    columns = (cut, pieces.ids.source[cut], starts, stops)
    for piece, source, start, stop in zip(*(column.tolist() for column in columns), strict=True):
        ids = pieces.ids.values[source][start:stop]
        sizes[piece] = vocabulary.byte_lengths.take(ids).sum()
    return sizes


def _counts(
    task: PackUnit, documents: Documents, pieces: Pieces, fim: FimCounts, arrangement: Arrangement
) -> dict[str, Any]:
    ids = int(pieces.ids.length.sum())
    rows = arrangement.n_rows
    figures: dict[str, Any] = {
        "documents": len(documents),
        "documents_cut": int((np.bincount(pieces.document) > 1).sum()),
        "pieces": len(pieces.document),
        "rows": rows,
        "text_tokens": len(documents.values),
        "bytes": int(documents.n_bytes.sum()),
        "row_ids": ids,
        "padding": rows * task.config.context - ids,
        "debias": {"splittable": pieces.n_splittable, "split": int(pieces.n_debiased.sum())},
        "fim": dataclasses.asdict(fim),
    }
    return {
        **figures,
        "domains": {task.domain: figures},
        "keys_digest": keys_digest(documents.words),
    }
