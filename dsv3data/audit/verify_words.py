"""The proof of word counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dsv3data.audit.checks import check_counts, fail
from dsv3data.contracts.manifest import MANIFEST_NAME, Manifest


def verify_word_counts(folder: Path, manifest: Manifest) -> Mapping[str, Any]:
    """Words are unique and in the order of their bytes, counts are at least 1, and as many as
    stated: the file is the same for any way in which it was counted."""
    path = folder / manifest.shards()[0].name
    last, words = None, 0
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            place = f"batch {number}"
            column = batch.column("word")
            if last is not None and column[0].as_py() <= last:
                fail("the words are not in order", path, place)
            if not pc.all(pc.greater(column[1:], column[:-1]), min_count=0).as_py():
                fail("the words are not in order", path, place)
            if pc.min(batch.column("count")).as_py() < 1:
                fail("a count is below 1", path, place)
            last, words = column[-1].as_py(), words + batch.num_rows
    check_counts({"words": words}, manifest.counts, folder / MANIFEST_NAME)
    return {"words": words}
