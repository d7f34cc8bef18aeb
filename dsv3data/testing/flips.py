"""Flipped bits all over a finished set: every one must be noticed by those who read it.

Bytes are drawn by kind first (ids, offsets, footers, the manifest …), so that a kind of few bytes
is hit as often as one of many.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dsv3data.audit.verify import verify
from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.manifest import (
    MANIFEST_NAME,
    PACKED,
    TOKENIZER,
    TOKENIZER_NAME,
    TOKENS,
    FileRecord,
    Segment,
)
from dsv3data.contracts.progress import NullSink
from dsv3data.encoding.vocabulary import load_vocabulary
from dsv3data.io.manifest_file import read_manifest
from dsv3data.io.shards import ShardReader
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.testing.damage import flip_bit

# What rows and documents come from. The rest only `verify` and people read.
_READ = ("ids", "offsets", "columns", "between", "schema", MANIFEST_NAME, TOKENIZER_NAME)
_IDS = ("ids", "input_ids")


@dataclass(frozen=True, kw_only=True)
class Region:
    """Bytes start..stop-1 of a file, and what they are."""

    kind: str
    file: str
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class FlipReport:
    """Flips that were made, by the kind of byte that they hit.

    Attributes:
        verified: noticed by `verify`, all of them.
        read: noticed by those who work with the set, where they read.
    """

    seed: int
    files: int
    verified: dict[str, int]
    read: dict[str, int]


def assert_flips_found(folder: Path, *, flips: int, seed: int) -> FlipReport:
    """Flip one bit after the other in a packed set, token set or tokenizer, each back at once.

    `verify` must refuse the folder after every flip, and so must who works with it where they
    read: the loader (`PackedDataset`, all rows) or, of token sets, the shards' batches as `pack`
    reads them.

    Args:
        folder: a copy that may be damaged, best of less than a megabyte: it is read at each flip.

    Raises:
        AssertionError: naming each flip that was not noticed.
    """
    manifest = read_manifest(folder, expect=(PACKED, TOKENS, TOKENIZER))
    kinds = defaultdict(list)
    for region in set_regions(folder):
        kinds[region.kind].append(region)
    rng = random.Random(seed)
    verified, read, files, missed = Counter[str](), Counter[str](), set(), []
    _check(folder)
    for _ in range(flips):
        kind = rng.choice(sorted(kinds))
        region = rng.choice(kinds[kind])
        offset, bit = rng.randrange(region.start, region.stop), rng.randrange(8)
        flip_bit(folder / region.file, offset, bit)
        found, seen = _is_refused(folder), _is_refused_by_reader(folder, manifest.format)
        flip_bit(folder / region.file, offset, bit)
        verified[kind] += found
        read[kind] += seen
        files.add(region.file)
        if not found or (kind in _READ and not seen):
            missed.append(f"{region.file} ({kind}), byte {offset:,}, bit {bit}")
    _check(folder)
    assert not missed, f"seed {seed}: not noticed: {'; '.join(missed)}"
    return FlipReport(seed=seed, files=len(files), verified=dict(verified), read=dict(read))


def set_regions(folder: Path) -> Iterator[Region]:
    """Every byte of the set's files once, run.json left out: no hash covers it."""
    manifest = read_manifest(folder)
    for record in manifest.files:
        if record.segments:
            yield from _shard_regions(folder, record)
        elif record.name.endswith(".parquet"):
            size = int.from_bytes((folder / record.name).read_bytes()[-8:-4], "little")
            footer = record.size - 8 - size
            yield Region(kind="lineage pages", file=record.name, start=0, stop=footer)
            yield Region(kind="lineage footer", file=record.name, start=footer, stop=record.size)
        elif record.size:
            yield Region(kind=record.name, file=record.name, start=0, stop=record.size)
    size = (folder / MANIFEST_NAME).stat().st_size
    yield Region(kind=MANIFEST_NAME, file=MANIFEST_NAME, start=0, stop=size)


def _shard_regions(folder: Path, record: FileRecord) -> Iterator[Region]:
    data = (folder / record.name).read_bytes()
    schema = ShardReader(folder, record).schema
    for number, segment in enumerate(record.segments):
        if segment.rows:
            yield from _batch_regions(data, segment, schema, record.name)
            continue
        kind = "schema" if number == 0 else "end mark"
        stop = segment.offset + segment.size
        yield Region(kind=kind, file=record.name, start=segment.offset, stop=stop)


def _batch_regions(data: bytes, segment: Segment, schema: pa.Schema, name: str) -> Iterator[Region]:
    """The buffers of a record batch, and what lies between them."""
    message = pa.py_buffer(data)[segment.offset : segment.offset + segment.size]
    batch = pa.ipc.read_record_batch(message, schema)  # zero-copy: buffers point into `message`
    buffers = []
    for field, column in zip(schema, batch.columns, strict=True):
        for buffer, kind in _buffers(column, "ids" if field.name in _IDS else "columns"):
            if buffer is not None and buffer.size:
                buffers.append((buffer.address - message.address, buffer.size, kind))
    place = 0
    for start, size, kind in [*sorted(buffers), (segment.size, 0, "")]:
        for first, stop, what in ((place, start, "between"), (start, start + size, kind)):
            if first < stop:
                yield Region(
                    kind=what, file=name, start=segment.offset + first, stop=segment.offset + stop
                )
        place = start + size


def _buffers(column: pa.Array, kind: str) -> Iterator[tuple[pa.Buffer | None, str]]:
    """Buffers of a column in Arrow's order, each with its kind."""
    variable = (pa.types.is_list, pa.types.is_large_list, pa.types.is_string)
    buffers = iter(column.buffers())
    yield next(buffers), kind  # which values are null: none are
    if any(test(column.type) for test in variable):
        yield next(buffers), "offsets"
    yield from ((buffer, kind) for buffer in buffers)


def _check(folder: Path) -> None:
    """An intact set is not refused."""
    verify(folder, sink=NullSink())
    _read(folder, read_manifest(folder).format)


def _is_refused(folder: Path) -> bool:
    try:
        verify(folder, sink=NullSink())
    except IntegrityError:
        return True
    return False


def _is_refused_by_reader(folder: Path, set_format: str) -> bool:
    try:
        _read(folder, set_format)
    except IntegrityError:
        return True
    return False


def _read(folder: Path, set_format: str) -> None:
    if set_format == PACKED:
        dataset = PackedDataset.open(folder)
        dataset.rows(np.arange(dataset.n_rows))
        return
    load_vocabulary(folder / TOKENIZER_NAME)
    for record in read_manifest(folder).shards():
        for _ in ShardReader(folder, record).batches():
            pass
