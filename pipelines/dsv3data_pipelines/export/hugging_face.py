"""A folder for `datasets.load_from_disk`: Arrow streams beside two small JSON files.

`datasets.load_dataset("arrow", data_files=…)` reads packed shards as they are; this export is for
programs that call `load_from_disk`. The library itself is not needed to write it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from dsv3data.contracts.progress import Sink
from dsv3data_pipelines.export.source import Source


def write_hugging_face(source: Source, folder: Path, sink: Sink) -> None:
    """data-NNNNN-of-NNNNN.arrow for each shard, dataset_info.json and state.json."""
    schema = _plain(source.schema)
    names = []
    for number, (_, _, batches) in enumerate(source.shards):
        names.append(f"data-{number:05d}-of-{len(source.shards):05d}.arrow")
        with pa.ipc.new_stream(folder / names[-1], schema) as writer:
            for batch in batches:
                writer.write_batch(
                    pa.record_batch(
                        [
                            column.cast(field.type)
                            for column, field in zip(batch.columns, schema, strict=True)
                        ],
                        schema=schema,
                    )
                )
                sink.advance(batch.num_rows)
    state: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": source.manifest.root[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    info = {
        "citation": "",
        "description": f"root {source.manifest.root}",
        "homepage": "",
        "license": "",
    }
    for name, tree in (("state.json", state), ("dataset_info.json", info)):
        (folder / name).write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


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
