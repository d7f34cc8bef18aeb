"""Token shards grouped by unit by many tasks: the documents of one pass, each shard read once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dsv3data.contracts.errors import EnvironmentFault, IntegrityError
from dsv3data.contracts.manifest import FileRecord, Manifest
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data.io.ledger import WORK_FOLDER
from dsv3data.io.manifest_file import read_manifest
from dsv3data_pipelines.pack import Exclusions, grouped
from dsv3data_pipelines.pack.batches import TokenBatch, shard_batches
from dsv3data_pipelines.pack.documents import gather_documents
from dsv3data_pipelines.pack.grouped import grouped_slices, remove_grouped
from dsv3data_pipelines.pack.partitions import Partitions, partitions_of
from dsv3data_pipelines.pack.scatter import Slice, read_slices
from tiny_data import PACK_CONFIG


@pytest.fixture
def of_tokens(tiny_tokens: Path) -> tuple[Manifest, Vocabulary, Partitions]:
    manifest = read_manifest(tiny_tokens)
    return manifest, load_vocabulary(tiny_tokens), partitions_of(manifest, PACK_CONFIG)


Known = tuple[Manifest, Vocabulary, Partitions]


def slices_of(tokens: Path, known: Known, unit: int, out: Path) -> tuple[Slice, ...]:
    manifest, vocabulary, partitions = known
    return grouped_slices(
        tokens,
        manifest,
        vocabulary,
        partitions=partitions,
        unit=unit,
        exclusions=Exclusions(),
        out=out,
        documents="ab" * 32,
    )


def test_each_shard_is_read_once_and_each_unit_reads_its_own_documents(
    tiny_tokens: Path, of_tokens: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, vocabulary, partitions = of_tokens
    read: list[str] = []

    def counted(tokens: Path, manifest: Manifest, record: FileRecord) -> Iterator[TokenBatch]:
        read.append(record.name)
        yield from shard_batches(tokens, manifest, record)

    monkeypatch.setattr(grouped, "shard_batches", counted)
    total = 0
    for unit in range(len(partitions)):
        slices = slices_of(tiny_tokens, of_tokens, unit, tmp_path)
        made = read_slices(slices)
        alone = gather_documents(
            tiny_tokens, manifest, vocabulary,
            partitions=partitions, unit=unit, exclusions=Exclusions(),
        )  # fmt: skip
        assert np.array_equal(made.words, alone.words)
        assert np.array_equal(made.values, alone.values)
        assert made.source.to_pylist() == alone.source.to_pylist()
        total += sum(found.size for found in slices)
    assert sorted(read) == sorted(record.name for record in manifest.shards())
    assert len(read) > 2
    # Not units times as much: each id once, and what messages and small columns add to it.
    assert 4 * manifest.counts["tokens"] < total < 4 * 4 * manifest.counts["tokens"]
    remove_grouped(tmp_path)
    assert [*(tmp_path / WORK_FOLDER).iterdir()] == []


def test_units_begin_with_different_shards(tiny_tokens: Path) -> None:
    records = read_manifest(tiny_tokens).shards()
    orders = {tuple(r.name for r in grouped._in_own_order(records, unit)) for unit in range(64)}
    assert len({order[0] for order in orders}) == len(records)


def test_the_first_of_two_tasks_wins(
    tiny_tokens: Path, of_tokens: Known, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task publishes a shard while this one groups it."""
    first = slices_of(tiny_tokens, of_tokens, 0, tmp_path / "first")
    done = tmp_path / "first" / WORK_FOLDER / f"documents-grouped-{'ab' * 8}"
    others = 0

    def overtaken(tokens: Path, manifest: Manifest, record: FileRecord) -> Iterator[TokenBatch]:
        nonlocal others
        yield from shard_batches(tokens, manifest, record)
        target = tmp_path / "second" / WORK_FOLDER / f"documents-grouped-{'ab' * 8}" / record.name
        (done / record.name).rename(target)
        others += 1

    monkeypatch.setattr(grouped, "shard_batches", overtaken)
    second = slices_of(tiny_tokens, of_tokens, 0, tmp_path / "second")
    assert others > 2
    assert [(s.offset, s.size, s.crc32) for s in first] == [
        (s.offset, s.size, s.crc32) for s in second
    ]
    assert len(read_slices(second)) > 0
    assert not [*(tmp_path / "second").rglob("*.partial")]


def test_working_files_that_cannot_be_written_or_are_damaged_are_named(
    tiny_tokens: Path, of_tokens: Known, tmp_path: Path
) -> None:
    (tmp_path / WORK_FOLDER).write_text("")
    with pytest.raises(EnvironmentFault, match="cannot write"):
        slices_of(tiny_tokens, of_tokens, 0, tmp_path)
    out = tmp_path / "out"
    slices_of(tiny_tokens, of_tokens, 0, out)
    path = next(out.rglob("slices.json"))
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(IntegrityError) as caught:
        slices_of(tiny_tokens, of_tokens, 0, out)
    assert str(path) in caught.value.where
