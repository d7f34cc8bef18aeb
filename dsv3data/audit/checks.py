"""Checks shared by the proofs of token sets and packed sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.manifest import PACKED, Manifest
from dsv3data.contracts.schemas import column_differences, packed_schema, token_schema
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data.io.manifest_file import REBUILD, REMAKE
from dsv3data.packing.lookup import marked_places


def fail(what: str, where: Path, place: str = "", fix: str = REBUILD) -> NoReturn:
    """Raise the IntegrityError of a broken rule."""
    raise IntegrityError(
        what,
        where=f"{where}{', ' + place if place else ''}",
        effect="the data set is not what its manifest says",
        fix=fix,
    )


def check_schema(path: Path, schema: pa.Schema, expected: pa.Schema, manifest: Manifest) -> None:
    """The shard has the columns of its format and was made with this tokenizer."""
    different = column_differences(schema, expected)
    if different:
        what = f"the shard's columns are not those of {manifest.format}: {different}"
        fail(what, path, fix=REMAKE)
    found = (schema.metadata or {}).get(b"tokenizer_sha256", b"").decode()
    if found != manifest.tokenizer.sha256:
        fail(
            f"the shard was made with tokenizer {found[:16]}…, "
            f"this set has {manifest.tokenizer.sha256[:16]}…",
            path,
        )


def schema_of(manifest: Manifest) -> pa.Schema:
    """Columns of the shards of a token or packed set."""
    if manifest.format == PACKED:
        return packed_schema(int(manifest.plan["pack"]["context"]), {})
    return token_schema({})


def check_complete(batch: pa.RecordBatch, path: Path, place: str) -> None:
    """No value of a record batch is missing."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if column.null_count:
            fail(f"{column.null_count:,} values of {name} are missing", path, place)


def check_ids(ids: NDArray[np.int32], vocabulary: Vocabulary, path: Path, place: str) -> range:
    """Every id is one of the tokenizer's; the range from the lowest to the highest."""
    if not len(ids):
        return range(0)
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < 0 or highest >= vocabulary.vocab_size:
        worst = lowest if lowest < 0 else highest
        fail(f"id {worst} is outside 0..{vocabulary.vocab_size - 1}", path, place)
    return range(lowest, highest + 1)


def check_document_ids(
    ids: NDArray[np.int32], vocabulary: Vocabulary, path: Path, place: str
) -> None:
    """Every id is one of the tokenizer's, and none is a control token."""
    found = check_ids(ids, vocabulary, path, place)
    # Control ids stand at the ends of the vocabulary: the range of most batches holds none.
    if not vocabulary.is_control[found.start : found.stop].any():
        return
    control = marked_places(ids, vocabulary.is_control)
    if len(control):
        fail(f"control id {ids[control[0]]} stands in a document", path, place)


def check_counts(
    found: Mapping[str, Any], stated: Mapping[str, Any], path: Path, prefix: str = ""
) -> None:
    """Recomputed counts equal those of the manifest."""
    for key, value in found.items():
        if isinstance(value, Mapping):
            check_counts(value, stated.get(key, {}), path, prefix=f"{prefix}{key}.")
        elif stated.get(key) != value:
            fail(f"{prefix}{key} is {value:,} in the data, {stated.get(key)} in the manifest", path)


def ranges_sum(
    values: NDArray[np.int64], starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Sum of values[start:stop] for each range, int64; empty ranges give 0. Cost: O(N)."""
    total = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    sums: NDArray[np.int64] = total[stops] - total[starts]
    return sums
