"""Rows named by their shard: as lineage has them, and people who ask it."""

from __future__ import annotations

import difflib
from pathlib import Path

from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.manifest import Manifest


def row_in_set(folder: Path, manifest: Manifest, row: int, shard: str | None) -> int:
    """Number in the set of a row of a shard, given by its file name; `row` itself without one.

    Raises:
        BadInput: no such shard, or it has no such row.
    """
    if shard is None:
        return row
    first = 0
    for record in manifest.shards():
        if record.name == shard and row < record.rows:
            return first + row
        if record.name == shard:
            raise BadInput(
                f"the shard has no row {row:,}",
                where=f"{folder / shard}, rows 0 to {record.rows - 1:,}",
                effect="nothing was read",
                fix="give a number in that range",
            )
        first += record.rows
    names = [record.name for record in manifest.shards()]
    near = difflib.get_close_matches(shard, names, n=1, cutoff=0.0)
    raise BadInput(
        f"the set has no shard {shard!r}",
        where=str(folder),
        effect="nothing was read",
        fix=f"for example {near[0]}",
    )
