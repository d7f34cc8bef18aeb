"""Reading and writing manifest.json, and checking the files that it lists."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from dsv3data.contracts.errors import BadInput, IntegrityError
from dsv3data.contracts.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    PACKED,
    RUN_NAME,
    TOKENIZER,
    TOKENS,
    WORD_COUNTS,
    FileRecord,
    Manifest,
    manifest_from_tree,
)
from dsv3data.io.atomic import write_atomic
from dsv3data.io.checksums import crc32
from dsv3data.io.sealed import read_sealed, seal

REBUILD = "run the command that made this folder again: it rebuilds only what is damaged"
REMAKE = "make the data set again with this version of dsv3data, with --fresh"
_READ_BYTES = 1 << 20
_WRITERS = {
    TOKENIZER: "tokenizer train",
    WORD_COUNTS: "tokenizer count",
    TOKENS: "tokenize",
    PACKED: "pack",
}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Publish the manifest: the act that makes a folder complete."""
    write_atomic(folder / MANIFEST_NAME, seal(manifest.to_tree()))


def read_manifest(folder: Path, *, expect: Sequence[str] = ()) -> Manifest:
    """The manifest of a finished folder.

    Raises:
        BadInput: no such folder, unfinished, of another kind than `expect`, or of a newer format.
        IntegrityError: the manifest's bytes are damaged or its root does not match its files.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise BadInput(
            "this folder holds no finished data set: it has no manifest.json"
            if folder.is_dir()
            else "there is no such folder",
            where=str(folder),
            effect="nothing was read",
            fix="finish the command that writes it (run it again), or check the path",
        )
    tree = read_sealed(path, fix=REBUILD)
    _check_format(tree.get("format"), tree.get("format_version"), path, expect)
    try:
        manifest = manifest_from_tree(tree)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"the manifest has other keys than those of format version {FORMAT_VERSION}: {error}",
            where=str(path),
            effect="nothing was read",
            fix=REMAKE,
        ) from error
    for record in manifest.files:
        _check_name(record.name, path)
    if tree["root"] != manifest.root:
        raise IntegrityError(
            "the manifest's root hash is not the hash of the files it lists",
            where=str(path),
            effect="nothing was read",
            fix=REBUILD,
        )
    return manifest


def _check_name(name: str, path: Path) -> None:
    """A file of the folder itself: a manifest from elsewhere must not make us open others."""
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise IntegrityError(
            f"the manifest lists {name!r}, which is no file of its folder",
            where=str(path),
            effect="nothing was read",
            fix="do not use this folder: no command of dsv3data writes such a name",
        )


def _check_format(name: object, version: object, path: Path, expect: Sequence[str]) -> None:
    if expect and name not in expect:
        raise BadInput(
            f"this folder holds {name}, not {' or '.join(expect)}",
            where=str(path),
            effect="nothing was read",
            fix="give the folder that "
            + " or ".join(f"`dsv3data {_WRITERS[kind]}`" for kind in expect)
            + " wrote",
        )
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise BadInput(
            f"format version {version} is newer than this program's {FORMAT_VERSION}",
            where=str(path),
            effect="nothing was read",
            fix="update dsv3data",
        )


def describe_file(folder: Path, name: str, *, rows: int = 0) -> FileRecord:
    """Record of a file that is not a shard (rejected.jsonl, tokenizer.json, lineage)."""
    size, sha256 = hash_file(folder / name)
    return FileRecord(name=name, size=size, sha256=sha256, rows=rows)


def hash_file(path: Path) -> tuple[int, str]:
    """(size in bytes, SHA-256 in hex) of a file, read in 1 MiB steps."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def is_intact(folder: Path, record: FileRecord) -> bool:
    """Whether the file is there with the recorded size and SHA-256."""
    path = folder / record.name
    return (
        path.is_file()
        and path.stat().st_size == record.size
        and hash_file(path) == (record.size, record.sha256)
    )


def check_file(folder: Path, record: FileRecord) -> None:
    """Raise IntegrityError unless the file is exactly what the manifest says."""
    path = folder / record.name
    if not path.is_file():
        raise IntegrityError(
            "a file that the manifest lists is missing",
            where=str(path),
            effect="the data set is incomplete",
            fix=REBUILD,
        )
    check_size(path, record)
    if hash_file(path)[1] != record.sha256:
        raise IntegrityError(
            f"the file's SHA-256 differs from the manifest's{_damaged_part(path, record)}",
            where=str(path),
            effect="its content cannot be trusted",
            fix=REBUILD,
        )


def check_listed(path: Path) -> None:
    """Raise IntegrityError if a finished folder's manifest lists `path` with other bytes.

    For a file that is given by itself; one that lies beside no manifest cannot be checked.
    """
    if not (path.parent / MANIFEST_NAME).is_file():
        return
    for record in read_manifest(path.parent).files:
        if record.name == path.name:
            check_file(path.parent, record)


def check_size(path: Path, record: FileRecord) -> None:
    """Raise IntegrityError if a file was cut or has grown; done before any mapping of it."""
    size = path.stat().st_size
    if size != record.size:
        raise IntegrityError(
            f"the file has {size:,} bytes, the manifest says {record.size:,}",
            where=str(path),
            effect="rows are missing or foreign",
            fix=REBUILD,
        )


def check_no_strangers(folder: Path, manifest: Manifest) -> None:
    """Raise IntegrityError if a file lies in the folder that the manifest does not list."""
    known = {record.name for record in manifest.files} | {MANIFEST_NAME, RUN_NAME}
    for path in sorted(folder.iterdir()):
        if path.name not in known and not path.name.startswith("."):
            raise IntegrityError(
                "a file lies here that the manifest does not list",
                where=str(path),
                effect="readers that take every file of the folder would see foreign data",
                fix="move it elsewhere, or " + REBUILD,
            )


def _damaged_part(path: Path, record: FileRecord) -> str:
    """Name the first damaged segment of a shard, for people."""

    with path.open("rb") as file:
        for number, segment in enumerate(record.segments):
            file.seek(segment.offset)
            if crc32(file.read(segment.size)) != segment.crc32:
                if number == 0:
                    return " (damage in the schema)"
                if segment.rows == 0:
                    return " (damage in the end mark)"
                return f" (damage in batch {number - 1}, {segment.rows:,} rows)"
    return ""
