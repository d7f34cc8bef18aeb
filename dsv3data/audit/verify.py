"""`dsv3data verify`: prove that a folder is what its manifest says, by reading all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsv3data.audit.checks import check_schema, schema_of
from dsv3data.audit.verify_packed import verify_packed
from dsv3data.audit.verify_tokens import verify_tokens
from dsv3data.audit.verify_words import verify_word_counts
from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.manifest import (
    PACKED,
    TOKENIZER,
    TOKENIZER_NAME,
    TOKENS,
    WORD_COUNTS,
    Manifest,
)
from dsv3data.contracts.progress import Sink
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.manifest_file import (
    REBUILD,
    check_file,
    check_no_strangers,
    check_size,
    read_manifest,
)
from dsv3data.io.shards import ShardReader

Check = Callable[[Path, Manifest, Vocabulary, Sink], Mapping[str, Any]]
_CONTENT: Mapping[str, Check] = {TOKENS: verify_tokens, PACKED: verify_packed}
_FORMATS = (*_CONTENT, TOKENIZER, WORD_COUNTS)


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """A folder that holds what its manifest says. `facts` are the counts that were recomputed; a
    quick look recomputes none."""

    folder: Path
    format: str
    root: str
    files: int
    size_bytes: int
    facts: Mapping[str, Any]


def verify(folder: Path, *, sink: Sink) -> VerifyResult:
    """Check every byte and every rule of a tokenizer, its word counts, a token or a packed set.

    Files: each listed file is there with its size and SHA-256, and no other lies beside them.
    Content: see `verify_tokens`, `verify_packed` and `verify_word_counts`.

    Raises:
        BadInput: the folder holds no finished data set.
        IntegrityError: the first damage found, naming file and place.
    """
    manifest = _read_listing(folder)
    size = sum(record.size for record in manifest.files)
    sink.phase("checksums", total=size, unit="B")
    for record in manifest.files:
        check_file(folder, record)
        sink.advance(record.size)
    return _result(folder, manifest, _verify_content(folder, manifest, sink))


def verify_quick(folder: Path, *, sink: Sink) -> VerifyResult:
    """Check in seconds what shows most damage without reading the data.

    The manifest's own seal, that exactly the listed files are there with their sizes, the
    tokenizer, and the columns of every shard. Bits that flipped inside of files are not seen.

    Raises:
        BadInput: the folder holds no finished data set.
        IntegrityError: the first damage found, naming file and place.
    """
    manifest = _read_listing(folder)
    sink.phase("files", total=len(manifest.files), unit="files")
    for record in manifest.files:
        if not (folder / record.name).is_file():
            check_file(folder, record)  # says that it is missing
        check_size(folder / record.name, record)
        if record.segments:
            reader = ShardReader(folder, record)
            check_schema(reader.path, reader.schema, schema_of(manifest), manifest)
        sink.advance(1)
    if manifest.format != WORD_COUNTS:
        _vocabulary(folder, manifest)
    return _result(folder, manifest, {})


def _read_listing(folder: Path) -> Manifest:
    manifest = read_manifest(folder, expect=_FORMATS)
    check_no_strangers(folder, manifest)
    return manifest


def _result(folder: Path, manifest: Manifest, facts: Mapping[str, Any]) -> VerifyResult:
    return VerifyResult(
        folder=folder,
        format=manifest.format,
        root=manifest.root,
        files=len(manifest.files),
        size_bytes=sum(record.size for record in manifest.files),
        facts=facts,
    )


def _verify_content(folder: Path, manifest: Manifest, sink: Sink) -> Mapping[str, Any]:
    if manifest.format == WORD_COUNTS:
        return verify_word_counts(folder, manifest)
    vocabulary = _vocabulary(folder, manifest)
    if manifest.format == TOKENIZER:
        return {}
    return _CONTENT[manifest.format](folder, manifest, vocabulary, sink)


def _vocabulary(folder: Path, manifest: Manifest) -> Vocabulary:
    vocabulary = load_vocabulary(folder / TOKENIZER_NAME)
    if vocabulary.record() != manifest.tokenizer:
        raise IntegrityError(
            f"the tokenizer here has hash {vocabulary.sha256[:16]}… and "
            f"{vocabulary.vocab_size:,} ids; the manifest says "
            f"{manifest.tokenizer.sha256[:16]}… and {manifest.tokenizer.vocab_size:,}",
            where=str(folder / TOKENIZER_NAME),
            effect="the ids would mean other text",
            fix=REBUILD,
        )
    return vocabulary
