"""Small packed sets, written as `pack` writes them but with every value known."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dsv3data.contracts import special_tokens
from dsv3data.contracts.manifest import PACKED, TOKENIZER_NAME, FileRecord, Manifest
from dsv3data.contracts.schemas import packed_schema
from dsv3data.encoding.vocabulary import byte_to_character, load_vocabulary
from dsv3data.io.manifest_file import describe_file, write_manifest
from dsv3data.io.shards import shard_writer

CONTEXT = 16
MakePacked = Callable[..., Path]


def tokenizer_json() -> bytes:
    """The 256 bytes and the control tokens: 256 + 9 ids."""
    control = [*special_tokens.IN_VOCABULARY, *special_tokens.ADDED[800:806]]
    vocab = {character: byte for byte, character in byte_to_character().items()}
    tree = {
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
        "added_tokens": [{"content": t, "id": 256 + i} for i, t in enumerate(control)],
        "pre_tokenizer": {"type": "ByteLevel"},
        "normalizer": None,
    }
    return json.dumps(tree).encode()


def column_values(rng: np.random.Generator, n_rows: int, context: int) -> dict[str, Any]:
    """Rows with 1 to 4 pieces each, some of them not full."""
    lengths = [rng.integers(1, context // 4 + 1, rng.integers(1, 5)) for _ in range(n_rows)]
    n_tokens = np.array([part.sum() for part in lengths], dtype=np.int32)
    ids = rng.integers(0, 256, (n_rows, context), dtype=np.int32)
    ids[np.arange(context) >= n_tokens[:, None]] = 258
    return {"input_ids": ids, "n_tokens": n_tokens, "piece_lengths": lengths}


@pytest.fixture
def make_packed(tmp_path: Path) -> MakePacked:
    """`make_packed(name, shards=[("web", [3, 2]), …], change=…) -> folder`.

    A shard is a domain and the row counts of its record batches. `change(columns)` may replace
    values before checksums are taken, for sets that only a faulty writer could make.
    """

    def make(
        name: str = "packed",
        shards: Sequence[tuple[str, Sequence[int]]] = (
            ("web", (3, 2)),
            ("zh", (4,)),
            ("web", (1,)),
        ),
        context: int = CONTEXT,
        seed: int = 0,
        change: Callable[[dict[str, Any]], None] = lambda columns: None,
        schema: pa.Schema | None = None,
        domains: Sequence[str] | None = None,
        tokenizer_sha256: str | None = None,
        name_shard: Callable[[str, int], str] = lambda domain, number: f"packed-{number:05d}.arrow",
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / TOKENIZER_NAME).write_bytes(tokenizer_json())
        vocabulary = load_vocabulary(folder)
        rng = np.random.default_rng(seed)
        records: list[FileRecord] = []
        row_ids: Counter[str] = Counter()
        chosen = schema or packed_schema(context, {"tokenizer_sha256": vocabulary.sha256})
        for number, (domain, batches) in enumerate(shards):
            path = folder / name_shard(domain, number)
            fixed = ("input_ids", "crc32", "n_tokens", "partition", "row")
            with shard_writer(path, chosen, records, fixed) as writer:
                for n_rows in batches:
                    columns = column_values(rng, n_rows, context)
                    columns |= {
                        "partition": [number] * n_rows,
                        "row": np.arange(writer.rows, writer.rows + n_rows),
                        "domain": [domain] * n_rows,
                    }
                    change(columns)
                    writer.write(record_batch(columns, chosen))
                    row_ids[domain] += int(columns["n_tokens"].sum())
        counted = sorted({domain for domain, _ in shards}) if domains is None else domains
        manifest = Manifest(
            format=PACKED,
            plan={"pack": {"context": context}},
            input={},
            tokenizer=dataclasses.replace(
                vocabulary.record(), sha256=tokenizer_sha256 or vocabulary.sha256
            ),
            counts={"domains": {domain: {"row_ids": row_ids[domain]} for domain in counted}},
            keys_digest="",
            files=(*records, describe_file(folder, TOKENIZER_NAME)),
        )
        write_manifest(folder, manifest)
        return folder

    return make


def record_batch(columns: Mapping[str, Any], schema: pa.Schema) -> pa.RecordBatch:
    ids = columns["input_ids"]
    lengths = [part.tolist() for part in columns["piece_lengths"]]
    values = {
        **columns,
        "input_ids": ids.tolist(),
        "crc32": [zlib.crc32(np.ascontiguousarray(row, dtype="<i4")) for row in ids],
        "piece_lengths": lengths,
        "piece_flags": [[0] * len(part) for part in lengths],
    }
    return pa.record_batch(
        [pa.array(values[field.name], field.type) for field in schema], schema=schema
    )
