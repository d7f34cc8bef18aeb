"""Shards of a packed set behind a URL, kept on a local disk of limited size.

A shard is fetched whole when its first row is asked for, held to its SHA-256 on the way, and
published in the cache by a rename, so that processes can share a folder. Beyond the limit the
shards that were opened longest ago go first. Rows come in random order from all shards: a cache
smaller than the set fetches shards again and again, which `open_remote` says.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from dsv3data.contracts.errors import BadConfig, BadInput, EnvironmentFault, IntegrityError
from dsv3data.contracts.manifest import MANIFEST_NAME, PACKED, TOKENIZER_NAME, FileRecord
from dsv3data.contracts.progress import NullSink, Sink
from dsv3data.io.atomic import atomic_writer, make_folder, write_atomic
from dsv3data.io.manifest_file import check_file, read_manifest
from dsv3data.io.sources.place import Place, walk
from dsv3data.loader.packed_dataset import PackedDataset

_TRIES = 3


@dataclass(frozen=True, kw_only=True)
class ShardCache:
    """A `ShardStore` that fetches. Plain data: it travels to worker processes.

    Attributes:
        folder: where shards are kept, of this set alone.
        places: the set's files behind the URL.
        max_bytes: limit for all shards in the folder.
    """

    folder: Path
    places: Mapping[str, Place]
    max_bytes: int

    def open(self, record: FileRecord) -> FileIO:
        """The shard as an open file, fetched if it is not there.

        Raises:
            IntegrityError: what came is not what the manifest says.
            EnvironmentFault: no connection, no room, or other processes keep removing it.
        """
        path = self.folder / record.name
        for _ in range(_TRIES):
            if not path.exists():
                self._fetch(record, path)
            try:
                os.utime(path)
                return path.open("rb", buffering=0)
            except FileNotFoundError:  # another process made room
                continue
        raise EnvironmentFault(
            "a shard was removed from the cache each time before it could be opened",
            where=str(path),
            effect="its rows were not read",
            fix="give the cache more room: several processes use it",
        )

    def _fetch(self, record: FileRecord, path: Path) -> None:
        digest = hashlib.sha256()
        with atomic_writer(path) as file:
            for chunk in self._place(record.name).chunks():
                digest.update(chunk)
                file.write(chunk)
            if digest.hexdigest() != record.sha256:
                raise IntegrityError(
                    "a shard that was fetched differs from the manifest",
                    where=str(self._place(record.name)),
                    effect="it was not kept, and no row of it was used",
                    fix="upload the packed set again, and verify it before",
                )
        self._make_room(path)

    def _make_room(self, kept: Path) -> None:
        others = [path for path in self.folder.glob("*.arrow") if path != kept]
        facts = sorted((path.stat().st_mtime_ns, path.stat().st_size, path) for path in others)
        held = kept.stat().st_size + sum(size for _, size, _ in facts)
        for _, size, path in facts:
            if held <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            held -= size

    def _place(self, name: str) -> Place:
        if name not in self.places:
            raise IntegrityError(
                "a shard that the manifest lists is missing behind the URL",
                where=f"{name}, beside {next(iter(self.places.values()))}",
                effect="its rows are lost",
                fix="upload the packed set again",
            )
        return self.places[name]


def open_remote(
    url: str, *, cache: Path, max_bytes: int, sink: Sink | None = None
) -> PackedDataset:
    """Open a packed set behind a URL (s3://…, as fsspec knows them) with a local cache.

    Args:
        cache: a folder for any number of sets; each has its own inside.
        max_bytes: limit for the shards of this set.

    Raises:
        BadInput: no packed set there.
        BadConfig: a limit below the largest shard.
        IntegrityError: a damaged manifest or tokenizer.
        EnvironmentFault: no credentials or no connection.
    """
    places = dict(walk(url))
    if MANIFEST_NAME not in places:
        raise BadInput(
            "there is no manifest.json behind this URL",
            where=url,
            effect="nothing was opened",
            fix="give the URL of the folder that `dsv3data pack` wrote",
        )
    data = b"".join(places[MANIFEST_NAME].chunks())
    folder = cache / f"set-{hashlib.sha256(data).hexdigest()[:16]}"
    make_folder(folder)
    write_atomic(folder / MANIFEST_NAME, data)
    manifest = read_manifest(folder, expect=(PACKED,))
    store = ShardCache(folder=folder, places=places, max_bytes=max_bytes)
    _check_limit(manifest.shards(), max_bytes, url, sink or NullSink())
    tokenizer = next(file for file in manifest.files if file.name == TOKENIZER_NAME)
    write_atomic(folder / TOKENIZER_NAME, b"".join(places[TOKENIZER_NAME].chunks()))
    check_file(folder, tokenizer)
    return PackedDataset.open(folder, store=store)


def _check_limit(shards: list[FileRecord], max_bytes: int, url: str, sink: Sink) -> None:
    largest = max((record.size for record in shards), default=0)
    whole = sum(record.size for record in shards)
    if max_bytes < largest:
        raise BadConfig(
            f"the cache may have {max_bytes:,} bytes, the largest shard has {largest:,}",
            where=url,
            effect="nothing was fetched",
            fix="raise the limit; to the size of the whole set, if the disk has room",
        )
    if max_bytes < whole:
        sink.note(
            f"the cache ({max_bytes:,} bytes) is smaller than the set ({whole:,}): shards will be "
            "fetched again and again"
        )
