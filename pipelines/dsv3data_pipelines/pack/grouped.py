"""Documents grouped by unit, one token shard at a time, by many tasks.

`scatter` reads all token shards in one process. On a cluster each unit is packed somewhere else;
for it to read no more than its own documents, every token shard is grouped by unit once. Whoever
needs a shard that is not grouped yet does so and publishes the result for all: nobody waits for
anybody, and a task that dies leaves nothing half done. Units look through the shards in orders of
their own, so that tasks that start together begin with different ones; where two do the same shard
all the same, both write the same bytes and the first to be done is kept.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from dsv3data.contracts.errors import EnvironmentFault
from dsv3data.contracts.manifest import FileRecord, Manifest
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data.io.atomic import atomic_folder, make_folder
from dsv3data.io.ledger import WORK_FOLDER
from dsv3data.io.sealed import read_sealed, seal
from dsv3data_pipelines.pack.batches import shard_batches
from dsv3data_pipelines.pack.exclude import Exclusions
from dsv3data_pipelines.pack.partitions import Partitions
from dsv3data_pipelines.pack.scatter import Slice, group

# Documents held before they are written; shapes no byte that is kept.
_BUFFER_BYTES = 256 << 20
_FOLDER = "documents-grouped-"
_SLICES_NAME = "slices.json"


def grouped_slices(
    tokens: Path,
    manifest: Manifest,
    vocabulary: Vocabulary,
    *,
    partitions: Partitions,
    unit: int,
    exclusions: Exclusions,
    out: Path,
    documents: str,
) -> tuple[Slice, ...]:
    """Where the documents of a unit are, in the order of the token shards, once all are grouped.

    Args:
        documents: hash of the token set and of what stays out; others have files of their own.

    Raises:
        IntegrityError: a shard is damaged, of other columns or of another tokenizer, or an id is
            none of the tokenizer's or a control id.
        EnvironmentFault: no room for the working files, which are as large as the token set.
    """
    folder = out / WORK_FOLDER / f"{_FOLDER}{documents[:16]}"
    make_folder(folder)
    for record in _in_own_order(manifest.shards(), unit):
        if not (folder / record.name).is_dir():
            _group_shard(
                tokens, manifest, vocabulary, record, partitions, exclusions, folder / record.name
            )
    return tuple(
        found
        for record in manifest.shards()
        for found in _slices_of(tokens, folder / record.name, unit)
    )


def remove_grouped(out: Path) -> None:
    """The working files, when all units are done."""
    for folder in (out / WORK_FOLDER).glob(f"{_FOLDER}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _in_own_order(records: Sequence[FileRecord], unit: int) -> list[FileRecord]:
    return sorted(
        records, key=lambda record: hashlib.blake2b(f"{unit}\0{record.name}".encode()).digest()
    )


def _group_shard(
    tokens: Path,
    manifest: Manifest,
    vocabulary: Vocabulary,
    record: FileRecord,
    partitions: Partitions,
    exclusions: Exclusions,
    target: Path,
) -> None:
    try:
        with atomic_folder(target) as folder:
            shares = group(
                shard_batches(tokens, manifest, record),
                vocabulary,
                partitions=partitions,
                kept=range(len(partitions)),
                exclusions=exclusions,
                folder=folder,
                buffer_bytes=_BUFFER_BYTES,
            )
            slices = [
                [unit, found.path.name, found.offset, found.size, found.crc32]
                for unit, share in shares.items()
                for found in share.slices
            ]
            (folder / _SLICES_NAME).write_bytes(seal({"slices": slices}))
    except EnvironmentFault:
        if not target.is_dir():  # if it is there, another task was first
            raise


def _slices_of(tokens: Path, folder: Path, unit: int) -> list[Slice]:
    """A slice's file is the token shard itself, or lies in the folder that is named after it."""
    tree = read_sealed(folder / _SLICES_NAME, fix="run the command again with --fresh")
    return [
        Slice(tokens / name if name == folder.name else folder / name, offset, size, crc32)
        for of, name, offset, size, crc32 in tree["slices"]
        if of == unit
    ]
