"""Arrow schemas of the two kinds of shard and of the lineage table."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa


def token_schema(metadata: Mapping[str, str]) -> pa.Schema:
    """One row per document: no control ids, no FIM, no end-of-sentence."""
    return pa.schema(
        [
            pa.field("key", pa.binary(16), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("position", pa.int64(), nullable=False),
            pa.field("domain", pa.string(), nullable=False),
            pa.field("n_bytes", pa.int64(), nullable=False),
            pa.field("ids", pa.large_list(pa.field("item", pa.int32(), nullable=False))),
        ],
        metadata=dict(metadata),
    )


def packed_schema(context: int, metadata: Mapping[str, str]) -> pa.Schema:
    """One row per training sequence of exactly `context` ids.

    `piece_flags` holds 0 for a plain piece, 1 for FIM in PSM order, 2 for FIM in SPM order;
    `row` counts the rows of the shard, which are those of a partition of a domain.
    """
    return pa.schema(
        [
            pa.field("input_ids", pa.list_(pa.field("item", pa.int32(), nullable=False), context)),
            pa.field("crc32", pa.uint32(), nullable=False),
            pa.field("n_tokens", pa.int32(), nullable=False),
            pa.field("piece_lengths", pa.list_(pa.field("item", pa.int32(), nullable=False))),
            pa.field("piece_flags", pa.list_(pa.field("item", pa.uint8(), nullable=False))),
            pa.field("domain", pa.string(), nullable=False),
            pa.field("partition", pa.int32(), nullable=False),
            pa.field("row", pa.int64(), nullable=False),
        ],
        metadata=dict(metadata),
    )


def lineage_schema() -> pa.Schema:
    """One row per piece of a packed row: (domain, partition, row, slot) → its document.

    `token_start` and `token_stop` are the piece's range in the document's ids; `n_tokens` counts
    its ids in the row (sentinels and end-of-sentence included), `n_debiased` those of its tokens
    that were split in two, `n_bytes` the text bytes it stands for. `middle_start` and
    `suffix_start` are the FIM cuts in code points of the piece's text, -1 for a plain piece.
    """
    return pa.schema(
        [
            pa.field("domain", pa.string(), nullable=False),
            pa.field("partition", pa.int32(), nullable=False),
            pa.field("row", pa.int64(), nullable=False),
            pa.field("slot", pa.int32(), nullable=False),
            pa.field("key", pa.binary(16), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("position", pa.int64(), nullable=False),
            pa.field("piece", pa.int32(), nullable=False),
            pa.field("n_pieces", pa.int32(), nullable=False),
            pa.field("token_start", pa.int64(), nullable=False),
            pa.field("token_stop", pa.int64(), nullable=False),
            pa.field("n_tokens", pa.int32(), nullable=False),
            pa.field("n_debiased", pa.int32(), nullable=False),
            pa.field("n_bytes", pa.int64(), nullable=False),
            pa.field("flag", pa.uint8(), nullable=False),
            pa.field("middle_start", pa.int64(), nullable=False),
            pa.field("suffix_start", pa.int64(), nullable=False),
        ]
    )


def column_differences(found: pa.Schema, expected: pa.Schema) -> str:
    """How the columns differ, by name; empty if they do not. Metadata is not compared."""
    if found.equals(expected, check_metadata=False):
        return ""
    different = [
        f"{field.name} is {found.field(field.name).type}, not {field.type}"
        if field.name in found.names
        else f"{field.name} is missing"
        for field in expected
        if field.name not in found.names or found.field(field.name) != field
    ]
    return "; ".join(different) or "their number or order"
