"""The proof of a packed set: rows, pieces, FIM grammar, and every document exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dsv3data.audit.checks import (
    check_complete,
    check_counts,
    check_ids,
    check_schema,
    fail,
    ranges_sum,
    schema_of,
)
from dsv3data.audit.lineage import lineage_record, lineage_table
from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.keys import keys_digest, keys_to_words
from dsv3data.contracts.manifest import MANIFEST_NAME, FileRecord, Manifest
from dsv3data.contracts.progress import Sink
from dsv3data.contracts.schemas import lineage_schema
from dsv3data.encoding.debias import debias_table
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data.io.checksums import crc32
from dsv3data.io.columns import column_values, key_bytes, list_lengths
from dsv3data.io.shards import ShardReader
from dsv3data.packing.fim import FLAGS, PLAIN, parse_fim

_Ids = NDArray[np.int32]


@dataclass(frozen=True)
class _Slots:
    """Pieces of a batch or shard in row order: row in the shard, slot, length, flag, bytes of text,
    and how often the two halves of a splittable token follow one another."""

    row: NDArray[np.int64]
    slot: NDArray[np.int64]
    length: NDArray[np.int64]
    flag: NDArray[np.int64]
    n_bytes: NDArray[np.int64]
    ends_with_eos: NDArray[np.bool_]
    halves: NDArray[np.int64]


def verify_packed(
    folder: Path, manifest: Manifest, vocabulary: Vocabulary, sink: Sink
) -> Mapping[str, Any]:
    """Recompute what a packed set claims.

    - a shard and its lineage say their domain and partition as their names do, and count rows;
    - each row's checksum holds, its pieces fill `n_tokens` ids, only padding follows;
    - a plain piece has no control id but a last end-of-sentence; a FIM piece obeys the grammar
      begin, prefix, hole, suffix, end, middle, end-of-sentence (or that of SPM);
    - lineage and rows agree piece by piece, down to the bytes of text;
    - a plain piece has one id for each of its document's tokens and one more for each that was
      split, and as many pairs of halves at least;
    - the pieces of each document are all there, once, gapless, the last one ends the document;
      the documents are those of the token set.
    """
    context = int(manifest.plan["pack"]["context"])
    totals: Counter[str] = Counter()
    digests: list[NDArray[np.uint64]] = []
    shards = manifest.shards()
    pairs = _pairs(vocabulary)
    sink.phase("rows", total=sum(record.rows for record in shards), unit="rows")
    for record in shards:
        lineage = lineage_record(folder, manifest, record)
        slots = _verify_shard(folder, record, manifest, vocabulary, context, pairs, totals, sink)
        digests.append(_verify_lineage(folder / lineage.name, slots, totals))
    words = np.concatenate(digests) if digests else np.empty((0, 2), dtype=np.uint64)
    if keys_digest(words) != manifest.keys_digest:
        fail("the documents in the rows are not those of the token set", folder / MANIFEST_NAME)
    if len(np.unique(words, axis=0)) != len(words):
        fail("a document stands in two shards", folder)
    facts: dict[str, Any] = dict(sorted(totals.items()))
    facts["debias"] = {"split": facts.pop("split")}
    check_counts(facts, manifest.counts, folder / MANIFEST_NAME)
    return facts


def _verify_shard(
    folder: Path,
    record: FileRecord,
    manifest: Manifest,
    vocabulary: Vocabulary,
    context: int,
    pairs: NDArray[np.int64],
    totals: Counter[str],
    sink: Sink,
) -> _Slots:
    reader = ShardReader(folder, record)
    check_schema(reader.path, reader.schema, schema_of(manifest), manifest)
    parts = []
    next_row = 0
    for number, batch in enumerate(reader.batches()):
        place = f"batch {number}"
        check_complete(batch, reader.path, place)
        _verify_name(reader.path, batch, place)
        rows = column_values(batch.column("row"), np.int64)
        if not np.array_equal(rows, np.arange(next_row, next_row + len(rows))):
            fail("the column `row` does not count the rows", reader.path, place)
        next_row += len(rows)
        parts.append(_verify_batch(batch, vocabulary, context, pairs, reader.path, place))
        totals["rows"] += batch.num_rows
        totals["padding"] += batch.num_rows * context - int(parts[-1].length.sum())
        sink.advance(batch.num_rows)
    return _Slots(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in _Slots.__dataclass_fields__
        )
    )


def _verify_name(path: Path, table: pa.RecordBatch | pa.Table, place: str = "") -> None:
    """All rows are of the domain and partition that the file is named after."""
    domain, _, partition = path.stem.partition("-")[2].rpartition("-")
    for name, expected in (("domain", domain), ("partition", int(partition))):
        found = pc.unique(table.column(name)).to_pylist()
        if found != [expected]:
            fail(f"{name} is {found[0]!r}, which is not that of the file's name", path, place)


def _verify_batch(
    batch: pa.RecordBatch,
    vocabulary: Vocabulary,
    context: int,
    pairs: NDArray[np.int64],
    path: Path,
    place: str,
) -> _Slots:
    rows = column_values(batch.column("input_ids").flatten(), np.int32).reshape(-1, context)
    sums = np.array([crc32(row.data) for row in rows], dtype=np.uint32)
    wrong = np.flatnonzero(sums != column_values(batch.column("crc32"), np.uint32))
    if len(wrong):
        fail(f"row {wrong[0]} does not match its checksum", path, place)
    check_ids(rows.reshape(-1), vocabulary, path, place)
    n_tokens = column_values(batch.column("n_tokens"), np.int32).astype(np.int64)
    pieces, flags = batch.column("piece_lengths"), batch.column("piece_flags")
    counts = list_lengths(pieces)
    length = column_values(pieces.flatten(), np.int32).astype(np.int64)
    flag = column_values(flags.flatten(), np.uint8).astype(np.int64)
    if len(flag) != len(length) or (length < 1).any() or not np.isin(flag, FLAGS).all():
        fail("piece lengths or flags are malformed", path, place)
    row_stops = np.cumsum(counts)
    if not np.array_equal(ranges_sum(length, row_stops - counts, row_stops), n_tokens):
        fail("piece lengths do not add up to the row's tokens", path, place)
    if (n_tokens > context).any():
        fail(f"a row claims more than {context} tokens", path, place)
    _verify_padding(rows, n_tokens, vocabulary, path, place)
    row = np.repeat(np.arange(len(rows)), counts)
    slot = np.arange(len(length)) - (row_stops - counts)[row]
    before = np.cumsum(length) - length
    start = row * context + before - (before[row_stops - counts])[row]
    flat = rows.reshape(-1)
    _verify_pieces(flat, start, length, flag, vocabulary, path, place)
    sizes = vocabulary.byte_lengths[flat].astype(np.int64)
    return _Slots(
        row=column_values(batch.column("row"), np.int64)[row],
        slot=slot,
        length=length,
        flag=flag,
        n_bytes=ranges_sum(sizes, start, start + length),
        ends_with_eos=flat[start + length - 1] == vocabulary.control.eos,
        halves=ranges_sum(_halves(flat, pairs), start, start + length),
    )


def _verify_padding(
    rows: NDArray[np.int32],
    n_tokens: NDArray[np.int64],
    vocabulary: Vocabulary,
    path: Path,
    place: str,
) -> None:
    after = np.arange(rows.shape[1]) >= n_tokens[:, None]
    if not (rows[after] == vocabulary.control.pad).all():
        fail("something other than padding follows a row's tokens", path, place)


def _verify_pieces(
    flat: _Ids,
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    flag: NDArray[np.int64],
    vocabulary: Vocabulary,
    path: Path,
    place: str,
) -> None:
    last = start + length - 1
    control = vocabulary.is_control[flat]
    inside = ranges_sum(control.astype(np.int64), start, last)
    closing = control[last] & (flat[last] != vocabulary.control.eos)
    bad = np.flatnonzero((flag == PLAIN) & ((inside > 0) | closing))
    if len(bad):
        fail(f"piece {bad[0]} is plain but holds a control id", path, place)
    for index in np.flatnonzero(flag != PLAIN).tolist():
        piece = flat[start[index] : start[index] + length[index]]
        try:
            parse_fim(piece, int(flag[index]), vocabulary.control)
        except IntegrityError as error:
            fail(f"piece {index}: {error.what}", path, place)
        if inside[index] != 3:
            fail(f"piece {index}: a FIM piece holds another control id", path, place)


def _pairs(vocabulary: Vocabulary) -> NDArray[np.int64]:
    """The pairs (head, tail) of splittable tokens as head · 2^32 + tail, ascending; not empty."""
    table = debias_table(vocabulary)
    pairs = (table.head.astype(np.int64) << 32) + table.tail
    return np.unique(np.append(pairs, -1))


def _halves(flat: _Ids, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """1 where an id is a head whose tail comes next, else 0, int64."""
    heads = np.flatnonzero(np.isin(flat, pairs >> 32, kind="table"))
    heads = heads[heads + 1 < len(flat)]
    found = (flat[heads].astype(np.int64) << 32) + flat[heads + 1]
    marks = np.zeros(len(flat), dtype=np.int64)
    marks[heads[pairs[np.minimum(np.searchsorted(pairs, found), len(pairs) - 1)] == found]] = 1
    return marks


def _verify_lineage(path: Path, slots: _Slots, totals: Counter[str]) -> NDArray[np.uint64]:
    """Compare lineage with the rows; the shard's document keys, uint64 [N, 2]."""
    table = lineage_table(path, lineage_schema().names)
    _verify_name(path, table)
    column = {
        field.name: column_values(table.column(field.name), field.type.to_pandas_dtype())
        for field in table.schema
        if pa.types.is_integer(field.type)
    }
    for name, expected in (
        ("row", slots.row),
        ("slot", slots.slot),
        ("n_tokens", slots.length),
        ("flag", slots.flag),
        ("n_bytes", slots.n_bytes),
    ):
        if not np.array_equal(column[name], expected):
            fail(f"lineage and rows disagree in {name}", path)
    words = keys_to_words(key_bytes(table.column("key")))
    documents, document = np.unique(words, axis=0, return_inverse=True)
    order = np.lexsort((column["piece"], document.reshape(-1)))
    _verify_documents(
        path,
        document.reshape(-1)[order],
        {n: c[order] for n, c in column.items()},
        slots.ends_with_eos[order],
    )
    _verify_lengths(path, column, slots)
    totals["documents"] += len(documents)
    totals["pieces"] += table.num_rows
    totals["bytes"] += int(column["n_bytes"].sum())
    totals["text_tokens"] += int((column["token_stop"] - column["token_start"]).sum())
    totals["split"] += int(column["n_debiased"].sum())
    totals["row_ids"] += int(column["n_tokens"].sum())
    return documents


def _verify_lengths(path: Path, column: Mapping[str, NDArray[np.int64]], slots: _Slots) -> None:
    """Ids of a plain piece: those of its tokens, of its splits, and the end-of-sentence."""
    plain = slots.flag == PLAIN
    tokens = column["token_stop"] - column["token_start"]
    expected = tokens + column["n_debiased"] + slots.ends_with_eos
    if not np.array_equal(expected[plain], slots.length[plain]):
        fail("a piece has other ids than its tokens and splits in the lineage", path)
    if (column["n_debiased"] > slots.halves).any() or (column["n_debiased"] < 0).any():
        fail("a piece claims more split tokens than it has pairs of halves", path)


def _verify_documents(
    path: Path,
    document: NDArray[np.int64],
    column: Mapping[str, NDArray[np.int64]],
    ends_with_eos: NDArray[np.bool_],
) -> None:
    """Pieces sorted by document and number: each document whole, gapless, closed by its EOS."""
    first = np.diff(document, prepend=-1) != 0
    last = np.append(first[1:], True)
    follows = ~first
    gapless = (
        (column["piece"][first] == 0).all()
        and (column["token_start"][first] == 0).all()
        and (column["piece"][follows] == column["piece"][:-1][follows[1:]] + 1).all()
        and (column["token_start"][follows] == column["token_stop"][:-1][follows[1:]]).all()
        and (column["n_pieces"][follows] == column["n_pieces"][:-1][follows[1:]]).all()
        and (column["piece"][last] == column["n_pieces"][last] - 1).all()
    )
    if not gapless:
        fail("the pieces of a document are not all there exactly once", path)
    if not ends_with_eos[last].all():
        fail("a document's last piece does not end with the end-of-sentence token", path)
