"""A folder for `datasets.load_from_disk`: Arrow streams beside two small JSON files.

`datasets.load_dataset("arrow", data_files=…)` reads packed shards as they are; this export is for
programs that call `load_from_disk`. The library itself is not needed to write it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from dsv3data.contracts.progress import Sink
from dsv3data.io.atomic import atomic_writer
from dsv3data_pipelines.export.source import Source


def write_arrow_stream(source: Source, path: Path, sink: Sink) -> None:
    """The shards' rows as one Arrow stream."""
    schema = _plain(source.schema)
    with atomic_writer(path) as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in source.batches():
            columns = [
                column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            sink.advance(batch.num_rows)


def index_files(root: str, names: Sequence[str]) -> Mapping[str, bytes]:
    """state.json and dataset_info.json of a folder with these streams."""
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": root[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    info = {"citation": "", "description": f"root {root}", "homepage": "", "license": ""}
    trees = {"state.json": state, "dataset_info.json": info}
    return {name: (json.dumps(tree, indent=1) + "\n").encode() for name, tree in trees.items()}


def _plain(schema: pa.Schema) -> pa.Schema:
    """The columns in types that `datasets` knows: it has no binary of fixed size."""
    return pa.schema(
        [
            pa.field(field.name, pa.binary())
            if pa.types.is_fixed_size_binary(field.type)
            else field
            for field in schema
        ]
    )
