"""`dsv3data inspect`: a packed row as the documents and FIM parts it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dsv3data.audit.checks import fail
from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.manifest import PACKED, TOKENIZER_NAME, FileRecord, Manifest
from dsv3data.contracts.terminal import printable
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.manifest_file import check_file, read_manifest
from dsv3data.io.shards import ShardReader
from dsv3data.packing.fim import FIM_PSM, parse_psm

PartKind = Literal["text", "prefix", "middle", "suffix"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A run of text of one role, as it stands in the row."""

    kind: PartKind
    text: str
    n_tokens: int


@dataclass(frozen=True, kw_only=True)
class PieceView:
    """A piece of a row, its origin, and its parts in the order of the row."""

    slot: int
    source: str
    position: int
    key: str
    piece: int
    n_pieces: int
    token_start: int
    token_stop: int
    n_tokens: int
    fim: bool
    ends_document: bool
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class RowView:
    """One packed row. `row` is its ordinal in the set, `row_id` its id in shards and lineage."""

    row: int
    row_id: int
    shard: str
    domain: str
    context: int
    n_tokens: int
    padding: int
    pieces: tuple[PieceView, ...]


def inspect_row(folder: Path, row: int) -> RowView:
    """Row number `row`, counted over all shards in the order of the manifest.

    Raises:
        BadInput: not a packed set, or no such row.
        IntegrityError: the row's batch or the lineage of its shard is damaged.
    """
    manifest = read_manifest(folder, expect=(PACKED,))
    record, local = _locate(folder, manifest, row)
    vocabulary = load_vocabulary(folder / TOKENIZER_NAME)
    fields = _read_row(ShardReader(folder, record), local)
    lineage = _read_lineage(folder, manifest, record, fields["row_id"])
    ids = np.array(fields["input_ids"], dtype=np.int32)
    pieces, start = [], 0
    for origin in lineage:
        stop = start + origin["n_tokens"]
        pieces.append(_piece_view(ids[start:stop], origin, vocabulary))
        start = stop
    return RowView(
        row=row,
        row_id=fields["row_id"],
        shard=record.name,
        domain=fields["domain"],
        context=len(ids),
        n_tokens=fields["n_tokens"],
        padding=len(ids) - fields["n_tokens"],
        pieces=tuple(pieces),
    )


def _locate(folder: Path, manifest: Manifest, row: int) -> tuple[FileRecord, int]:
    left = row
    for record in manifest.shards():
        if 0 <= left < record.rows:
            return record, left
        left -= record.rows
    raise BadInput(
        f"there is no row {row:,}",
        where=f"{folder}, rows 0 to {manifest.counts['rows'] - 1:,}",
        effect="nothing was read",
        fix="give a number in that range",
    )


def _read_row(reader: ShardReader, row: int) -> dict[str, Any]:
    ends = np.cumsum([segment.rows for segment in reader.record.segments[1:-1]])
    number = int(np.searchsorted(ends, row, side="right"))
    first = int(ends[number - 1]) if number else 0
    fields: dict[str, Any] = reader.batch(number).slice(row - first, 1).to_pylist()[0]
    return fields


def _read_lineage(
    folder: Path, manifest: Manifest, shard: FileRecord, row_id: int
) -> list[dict[str, Any]]:
    record = manifest.lineage_of(shard)
    if record is None:
        fail("the shard has no lineage file", folder / shard.name)
    check_file(folder, record)
    table: pa.Table = pq.read_table(folder / record.name, filters=[("row_id", "=", row_id)])
    rows: list[dict[str, Any]] = table.sort_by("slot").to_pylist()
    return rows


def _piece_view(
    ids: NDArray[np.int32], origin: dict[str, Any], vocabulary: Vocabulary
) -> PieceView:
    fim = origin["flag"] == FIM_PSM
    names = ("slot", "source", "position", "piece", "n_pieces", "token_start", "token_stop")
    return PieceView(
        **{name: origin[name] for name in names},
        key=origin["key"].hex(),
        n_tokens=len(ids),
        fim=fim,
        ends_document=origin["piece"] == origin["n_pieces"] - 1,
        parts=_fim_parts(ids, vocabulary) if fim else (_part("text", ids, vocabulary),),
    )


def _fim_parts(ids: NDArray[np.int32], vocabulary: Vocabulary) -> tuple[Part, ...]:
    prefix, middle, suffix = parse_psm(ids, vocabulary.control)
    return (
        _part("prefix", prefix, vocabulary),
        _part("suffix", suffix, vocabulary),
        _part("middle", middle, vocabulary),
    )


def _part(kind: PartKind, ids: NDArray[np.int32], vocabulary: Vocabulary) -> Part:
    text = vocabulary.decode(ids).decode("utf-8", "replace")
    return Part(kind=kind, text=printable(text), n_tokens=len(ids))
