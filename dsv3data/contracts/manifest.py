"""The manifest: what a finished folder holds, file by file, and the one hash that names it all."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

MANIFEST_NAME = "manifest.json"
REJECTED_NAME = "rejected.jsonl"
TOKENIZER_NAME = "tokenizer.json"
RUN_NAME = "run.json"

TOKENS = "dsv3data.tokens"
PACKED = "dsv3data.packed"
TOKENIZER = "dsv3data.tokenizer"
WORD_COUNTS = "dsv3data.word_counts"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of bytes of a shard with its own checksum: the schema, one record batch, or the end.

    `buffers` holds, for fixed-width columns of a batch, the absolute byte offset of their values,
    so that a row can be read by one `pread` without parsing Arrow.
    """

    offset: int
    size: int
    crc32: int
    rows: int = 0
    buffers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One data file: its name inside the folder, size in bytes, SHA-256 and, for shards, rows."""

    name: str
    size: int
    sha256: str
    rows: int = 0
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TokenizerRecord:
    """The tokenizer that made the ids: hash of its tokenizer.json and the sizes that bound ids."""

    sha256: str
    vocab_size: int
    embedding_rows: int


NO_TOKENIZER = TokenizerRecord(sha256="", vocab_size=0, embedding_rows=0)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Content of manifest.json. Holds no wall-clock fact, host name, worker count or absolute path.

    Attributes:
        plan: what was asked for: configuration by section, code format, input listing.
        input: what went in: for tokens the sources, for packed sets the token set's root.
        counts: documents, tokens, bytes, rejected …, also per domain.
        keys_digest: order-independent fingerprint of the set of document keys (`keys_digest`).
    """

    format: str
    plan: Mapping[str, Any]
    input: Mapping[str, Any]
    tokenizer: TokenizerRecord
    counts: Mapping[str, Any]
    keys_digest: str
    files: tuple[FileRecord, ...]
    format_version: int = FORMAT_VERSION

    @property
    def root(self) -> str:
        """The hash that names this data set."""
        return root_hash(self.files)

    def shards(self) -> list[FileRecord]:
        """The Arrow shards, in the order that numbers their rows."""
        return [record for record in self.files if record.name.endswith(".arrow")]

    def lineage_of(self, shard: FileRecord) -> FileRecord | None:
        """The lineage file that belongs to a packed shard; None if the manifest lists none."""
        name = shard.name.replace("packed-", "lineage-", 1).replace(".arrow", ".parquet")
        return next((record for record in self.files if record.name == name), None)

    def to_tree(self) -> dict[str, Any]:
        """Plain values for JSON, the root included."""
        return {**dataclasses.asdict(self), "root": self.root}


def root_hash(files: Iterable[FileRecord]) -> str:
    """SHA-256 (hex) over the sorted lines `name NUL size NUL sha256 LF` of the data files."""
    digest = hashlib.sha256()
    for record in sorted(files, key=lambda record: record.name):
        digest.update(f"{record.name}\0{record.size}\0{record.sha256}\n".encode())
    return digest.hexdigest()


def file_record_from_tree(tree: Mapping[str, Any]) -> FileRecord:
    """Inverse of `dataclasses.asdict` for a `FileRecord`."""
    segments = tuple(Segment(**segment) for segment in tree["segments"])
    return FileRecord(**{**tree, "segments": segments})


def manifest_from_tree(tree: Mapping[str, Any]) -> Manifest:
    """Inverse of `Manifest.to_tree`."""
    values = {key: value for key, value in tree.items() if key != "root"}
    values["tokenizer"] = TokenizerRecord(**values["tokenizer"])
    values["files"] = tuple(file_record_from_tree(record) for record in values["files"])
    return Manifest(**values)
