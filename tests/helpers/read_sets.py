"""What a token set or a packed set holds, read back slowly and simply."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.manifest_file import read_manifest
from dsv3data.packing.fim import PLAIN, parse_fim


@dataclass(frozen=True)
class StoredDocument:
    """A row of a token set; `data` is what its ids decode to."""

    key: bytes
    source: str
    position: int
    domain: str
    ids: tuple[int, ...]
    data: bytes


def documents_in(tokens: Path) -> list[StoredDocument]:
    """All rows of a token set, in order."""
    vocabulary = load_vocabulary(tokens)
    return [
        StoredDocument(
            row["key"],
            row["source"],
            row["position"],
            row["domain"],
            tuple(row["ids"]),
            vocabulary.decode(np.array(row["ids"], dtype=np.int32)),
        )
        for record in read_manifest(tokens).shards()
        for row in _rows(tokens / record.name)
    ]


def texts_in(tokens: Path) -> list[str]:
    """The text of each row of a token set."""
    return [document.data.decode("utf-8") for document in documents_in(tokens)]


def rejections_in(tokens: Path) -> list[dict[str, Any]]:
    """Lines of rejected.jsonl."""
    lines = (tokens / "rejected.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]


def counts_of(folder: Path) -> dict[str, Any]:
    """Counts in the manifest."""
    return dict(read_manifest(folder).counts)


def reassembled(packed: Path) -> dict[tuple[str, int], bytes]:
    """(source, position) → bytes of the document, put together from rows and lineage alone."""
    parts: dict[tuple[str, int], list[tuple[int, int, bytes]]] = {}
    for origin, data in pieces_in(packed):
        place = (origin["source"], origin["position"])
        parts.setdefault(place, []).append((origin["piece"], origin["n_pieces"], data))
    documents = {}
    for place, found in parts.items():
        found.sort()
        assert [piece for piece, _, _ in found] == list(range(found[0][1])), place
        documents[place] = b"".join(data for _, _, data in found)
    return documents


def pieces_in(packed: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each piece: its lineage, with `ids` added, and the bytes of the document it stands for."""
    vocabulary = load_vocabulary(packed)
    for record in read_manifest(packed).shards():
        name = record.name.replace("packed-", "lineage-").replace(".arrow", ".parquet")
        lineage = {(row["row"], row["slot"]): row for row in _parquet_rows(packed / name)}
        for row in _rows(packed / record.name):
            start = 0
            for slot, length in enumerate(row["piece_lengths"]):
                ids = np.array(row["input_ids"][start : start + length], dtype=np.int32)
                start += length
                origin = lineage.pop((row["row"], slot))
                yield {**origin, "ids": ids}, _piece_bytes(ids, origin, vocabulary)
        assert not lineage, "lineage of pieces that are in no row"


def _piece_bytes(ids: np.ndarray, origin: dict[str, Any], vocabulary: Vocabulary) -> bytes:
    if origin["flag"] != PLAIN:
        prefix, middle, suffix = parse_fim(ids, origin["flag"], vocabulary.control)
        return b"".join(map(vocabulary.decode, (prefix, middle, suffix)))
    if origin["piece"] == origin["n_pieces"] - 1:
        assert ids[-1] == vocabulary.control.eos
        ids = ids[:-1]
    assert not vocabulary.is_control[ids].any()
    return vocabulary.decode(ids)


def _rows(shard: Path) -> list[dict[str, Any]]:
    with pa.ipc.open_stream(shard) as reader:
        rows: list[dict[str, Any]] = reader.read_all().to_pylist()
    return rows


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
