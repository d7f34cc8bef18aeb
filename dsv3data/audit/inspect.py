"""`dsv3data inspect`: a packed row as the documents and FIM parts it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsv3data.audit.packed_rows import (
    Ids,
    Origin,
    PackedRow,
    PackedRows,
    PartKind,
    part_ranges,
)
from dsv3data.audit.shard_rows import row_in_set
from dsv3data.contracts.manifest import PACKED
from dsv3data.contracts.terminal import printable
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data.io.manifest_file import read_manifest


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

    @property
    def origin(self) -> str:
        """One line that says where the piece is from."""
        order = "SPM" if self.parts[0].kind == "suffix" else "PSM"
        fim = f" · FIM ({order})" if self.fim else ""
        whole = "" if self.n_pieces == 1 else f" · piece {self.piece + 1} of {self.n_pieces}"
        return (
            f"{printable(self.source)} at {self.position:,}{whole}{fim} · tokens "
            f"{self.token_start:,} to {self.token_stop:,} · {self.n_tokens:,} ids"
        )


@dataclass(frozen=True, kw_only=True)
class RowView:
    """One packed row. `row` is its number in the set, `row_in_shard` that in shard and lineage."""

    row: int
    shard: str
    row_in_shard: int
    domain: str
    context: int
    n_tokens: int
    padding: int
    pieces: tuple[PieceView, ...]

    @property
    def size(self) -> str:
        """How much of the row is filled, by how many pieces."""
        pieces = f"{len(self.pieces):,} piece{'s' * (len(self.pieces) != 1)}"
        return f"{self.n_tokens:,} of {self.context:,} ids · {pieces}"


def inspect_row(folder: Path, row: int, *, shard: str | None = None) -> RowView:
    """Row number `row`, counted over all shards in the order of the manifest, or in one of them.

    Raises:
        BadInput: not a packed set, or no such row.
        IntegrityError: the row's batch or the lineage of its shard is damaged.
    """
    packed = PackedRows(folder)
    number = row_in_set(folder, packed.manifest, row, shard)
    return _row_view(packed.row(number), packed.context, packed.vocabulary)


def inspect_rows(folder: Path, rows: Sequence[int]) -> Iterator[RowView]:
    """`inspect_row` for several numbers of rows of one set."""
    packed = PackedRows(folder)
    for row in rows:
        yield _row_view(packed.row(row), packed.context, packed.vocabulary)


def count_rows(folder: Path) -> int:
    """Rows in a packed set."""
    return sum(record.rows for record in read_manifest(folder, expect=(PACKED,)).shards())


def _row_view(row: PackedRow, context: int, vocabulary: Vocabulary) -> RowView:
    pieces = [
        _piece_view(row.ids[start : start + origin.n_tokens], origin, vocabulary)
        for start, origin in zip(row.starts, row.origins, strict=True)
    ]
    return RowView(
        row=row.row,
        shard=row.shard,
        row_in_shard=row.row_in_shard,
        domain=row.domain,
        context=context,
        n_tokens=row.n_tokens,
        padding=context - row.n_tokens,
        pieces=tuple(pieces),
    )


def _piece_view(ids: Ids, origin: Origin, vocabulary: Vocabulary) -> PieceView:
    names = ("slot", "source", "position", "piece", "n_pieces", "token_start", "token_stop")
    return PieceView(
        **{name: getattr(origin, name) for name in names},
        key=origin.key.hex(),
        n_tokens=len(ids),
        fim=origin.fim,
        ends_document=origin.piece == origin.n_pieces - 1,
        parts=tuple(
            _part(kind, ids[start:stop], vocabulary)
            for kind, start, stop in part_ranges(ids, origin.fim, vocabulary)
        ),
    )


def _part(kind: PartKind, ids: Ids, vocabulary: Vocabulary) -> Part:
    text = vocabulary.decode(ids).decode("utf-8", "replace")
    return Part(kind=kind, text=printable(text), n_tokens=len(ids))
