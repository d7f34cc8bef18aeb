"""Damage on disk: flipped bits, cut, missing, foreign and swapped files. All of it is found, with
exit code 4 and the name of the file; none of it is read as data."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from dsv3data.audit.verify import verify
from dsv3data.contracts.errors import IntegrityError
from dsv3data.contracts.manifest import MANIFEST_NAME, FileRecord, Segment
from dsv3data.contracts.progress import NullSink
from dsv3data.io.manifest_file import read_manifest
from dsv3data.io.shards import ShardReader
from folders import copy_of, flip_bit, published
from tiny_data import pack_tiny, tokenize_tiny, train_tiny_tokenizer, write_corpus
from warm_cli import WarmCli

FLIPS_PER_REGION = 6


@dataclass(frozen=True)
class Region:
    """Bytes [start, stop) of a file; `named` is how an error speaks of them."""

    file: str
    start: int
    stop: int
    named: str = ""


@pytest.fixture(scope="module")
def sets(
    tiny_corpus: Path, tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A tokenizer, a token set and a packed set whose shards have several batches each, with some
    rejections. Read only."""
    folder = tmp_path_factory.mktemp("damage")
    corpus = write_corpus(folder / "corpus")
    with (corpus / "web.jsonl").open("ab") as file:
        file.write(b'{"text": 5}\n{"text": "\xff"}\nnot json\n' * 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsv3data_pipelines.tokenize.unit._ENCODE_CHARACTERS", 8 << 10)
        patch.setattr("dsv3data_pipelines.tokenize.batches._BATCH_IDS", 4 << 10)
        patch.setattr("dsv3data_pipelines.pack.unit.BATCH_IDS", 4 << 10)
        tokens = tokenize_tiny(corpus, tiny_tokenizer, folder / "tokens", unit_bytes=64 << 10)
        packed = pack_tiny(tokens, folder / "packed")
    for name in (tokens, packed):
        assert max(len(record.segments) for record in read_manifest(name).shards()) >= 5
    return {"tokenizer": tiny_tokenizer, "tokens": tokens, "packed": packed}


@pytest.fixture
def damaged(sets: dict[str, Path], fast_tmp: Path) -> Callable[[str], Path]:
    """Kind of set → a copy of it to damage."""
    return lambda kind: copy_of(sets[kind], fast_tmp / kind)


def refused(folder: Path, file: str) -> IntegrityError:
    """The error with which `verify` refuses the folder; it names the file and says what to do."""
    with pytest.raises(IntegrityError) as caught:
        verify(folder, sink=NullSink())
    assert caught.value.exit_code == 4
    assert file in caught.value.where
    assert caught.value.fix
    return caught.value


def batch_of(record: FileRecord, number: int) -> Segment:
    return record.segments[number + 1]


# Bit flips


def test_every_flipped_bit_of_a_shard_is_found_and_its_batch_named(
    damaged: Callable[[str], Path], rng: random.Random
) -> None:
    flips = 0
    for kind, column in (("tokens", "ids"), ("packed", "input_ids")):
        folder = damaged(kind)
        for region in _shard_regions(folder, column, rng):
            for offset in _positions(region, rng):
                bit = rng.randrange(8)
                flip_bit(folder / region.file, offset, bit)
                error = refused(folder, region.file)
                assert region.named in error.what, (region, offset, bit)
                _refused_at_read(folder, region)
                flip_bit(folder / region.file, offset, bit)
                flips += 1
        verify(folder, sink=NullSink())
    assert flips >= 150


def test_the_command_line_says_what_is_damaged_where_and_how_to_repair_it(
    sets: dict[str, Path], damaged: Callable[[str], Path], warm: WarmCli
) -> None:
    folder = damaged("packed")
    record = max(read_manifest(folder).shards(), key=lambda shard: len(shard.segments))
    flip_bit(folder / record.name, batch_of(record, 1).offset + 300, 0)
    run = warm.run("verify", folder)
    assert run.code == 4
    assert run.out == ""
    assert "damage in batch 1" in run.err
    assert f"where: {folder / record.name}" in run.err
    assert "fix: run the command that made this folder again" in run.err


def test_running_the_command_again_repairs_what_is_damaged(
    small_corpus: Path, tiny_tokenizer: Path, fast_tmp: Path
) -> None:
    tokens = tokenize_tiny(small_corpus, tiny_tokenizer, fast_tmp / "tokens", unit_bytes=16 << 10)
    packed = pack_tiny(tokens, fast_tmp / "packed")
    for folder in (tokens, packed):
        clean = published(folder)
        names = [record.name for record in read_manifest(folder).files]
        untouched = folder / names[0]
        before = untouched.stat()
        for name in (names[2], "tokenizer.json", MANIFEST_NAME):
            flip_bit(folder / name, (folder / name).stat().st_size // 2, 3)
        (folder / names[4]).unlink()
        refused(folder, MANIFEST_NAME)
        if folder == tokens:
            tokenize_tiny(small_corpus, tiny_tokenizer, tokens, unit_bytes=16 << 10)
        else:
            pack_tiny(tokens, packed)
        assert published(folder) == clean
        assert untouched.stat().st_mtime_ns == before.st_mtime_ns, "an intact shard was rewritten"


@pytest.mark.parametrize("name", ["plan.json", "unit-00001.json"])
def test_a_damaged_ledger_is_not_believed(
    name: str, small_corpus: Path, tiny_tokenizer: Path, small_tokens: Path, fast_tmp: Path
) -> None:
    folder = copy_of(small_tokens, fast_tmp / "tokens")
    path = folder / ".work" / name
    flip_bit(path, path.stat().st_size // 2, 1)
    tokenize_tiny(small_corpus, tiny_tokenizer, folder, unit_bytes=16 << 10)
    assert published(folder) == published(small_tokens)
    assert path.read_bytes() == (small_tokens / ".work" / name).read_bytes()


def test_pack_refuses_damaged_tokens(sets: dict[str, Path], damaged: Callable[[str], Path]) -> None:
    tokens = damaged("tokens")
    names = [record.name for record in read_manifest(tokens).files]
    for name in (names[0], names[-3], "tokenizer.json", MANIFEST_NAME):
        offset = (tokens / name).stat().st_size // 2
        flip_bit(tokens / name, offset, 5)
        out = tokens.with_name("out-" + name)
        with pytest.raises(IntegrityError) as caught:
            pack_tiny(tokens, out)
        assert name in caught.value.where
        assert not (out / MANIFEST_NAME).exists()
        flip_bit(tokens / name, offset, 5)


def test_tokenize_refuses_a_damaged_tokenizer(
    damaged: Callable[[str], Path], small_corpus: Path, rng: random.Random
) -> None:
    tokenizer = damaged("tokenizer")
    size = (tokenizer / "tokenizer.json").stat().st_size
    for number in range(25):
        offset, bit = rng.randrange(size), rng.randrange(8)
        flip_bit(tokenizer / "tokenizer.json", offset, bit)
        with pytest.raises(IntegrityError, match="SHA-256"):
            tokenize_tiny(small_corpus, tokenizer, tokenizer.with_name(f"out-{number}"))
        flip_bit(tokenizer / "tokenizer.json", offset, bit)


# Truncation


def test_every_cut_shard_is_refused_before_a_row_is_read(
    damaged: Callable[[str], Path], rng: random.Random
) -> None:
    cuts = 0
    for kind in ("tokens", "packed"):
        folder = damaged(kind)
        record = max(read_manifest(folder).shards(), key=lambda shard: len(shard.segments))
        whole = (folder / record.name).read_bytes()
        borders = [segment.offset for segment in record.segments]
        anywhere = [rng.randrange(record.size) for _ in range(40)]
        for size in (0, record.size - 1, *borders, *anywhere):
            os.truncate(folder / record.name, size)
            error = refused(folder, record.name)
            assert f"{size:,} bytes" in error.what
            with pytest.raises(IntegrityError):
                ShardReader(folder, record)
            (folder / record.name).write_bytes(whole)
            cuts += 1
        (folder / record.name).write_bytes(whole + b"\0")
        refused(folder, record.name)
    assert cuts >= 90


@pytest.mark.parametrize("kind", ["tokenizer", "tokens", "packed"])
def test_every_cut_file_is_refused(
    kind: str, damaged: Callable[[str], Path], rng: random.Random
) -> None:
    folder = damaged(kind)
    names = [record.name for record in read_manifest(folder).files if record.size]
    for name in (*names, MANIFEST_NAME):
        whole = (folder / name).read_bytes()
        for size in {0, rng.randrange(len(whole)), len(whole) - 1}:
            os.truncate(folder / name, size)
            refused(folder, name)
            (folder / name).write_bytes(whole)


# Missing, extra, swapped, foreign


@pytest.mark.parametrize("kind", ["tokenizer", "tokens", "packed"])
def test_each_missing_file_is_named(kind: str, damaged: Callable[[str], Path]) -> None:
    folder = damaged(kind)
    for record in read_manifest(folder).files:
        hidden = folder.with_name("elsewhere")
        (folder / record.name).rename(hidden)
        assert "missing" in refused(folder, record.name).what
        hidden.rename(folder / record.name)


@pytest.mark.parametrize("kind", ["tokens", "packed"])
def test_an_extra_shard_is_named(kind: str, damaged: Callable[[str], Path]) -> None:
    folder = damaged(kind)
    first = folder / read_manifest(folder).shards()[0].name
    extra = first.with_name(first.name.replace("-0000", "-9999"))
    extra.write_bytes(first.read_bytes())
    assert "does not list" in refused(folder, extra.name).what


@pytest.mark.parametrize("kind", ["tokens", "packed"])
def test_swapped_names_are_found(kind: str, damaged: Callable[[str], Path]) -> None:
    folder = damaged(kind)
    first, second = (folder / record.name for record in read_manifest(folder).shards()[:2])
    first.rename(folder / "x")
    second.rename(first)
    (folder / "x").rename(second)
    refused(folder, first.name)


def test_a_manifest_of_another_set_is_found(
    sets: dict[str, Path], tiny_packed: Path, damaged: Callable[[str], Path]
) -> None:
    folder = damaged("packed")
    (folder / MANIFEST_NAME).write_bytes((tiny_packed / MANIFEST_NAME).read_bytes())
    with pytest.raises(IntegrityError):
        verify(folder, sink=NullSink())


def test_the_tokenizer_of_another_set_is_found(
    tiny_corpus: Path, damaged: Callable[[str], Path], fast_tmp: Path
) -> None:
    other = train_tiny_tokenizer(tiny_corpus, fast_tmp / "other", vocab_size=600)
    for kind in ("tokens", "packed"):
        folder = damaged(kind)
        (folder / "tokenizer.json").write_bytes((other / "tokenizer.json").read_bytes())
        refused(folder, "tokenizer.json")
    with pytest.raises(IntegrityError) as caught:
        pack_tiny(fast_tmp / "tokens", fast_tmp / "out")
    assert "tokenizer.json" in caught.value.where


def _shard_regions(folder: Path, column: str, rng: random.Random) -> Iterator[Region]:
    """Schema, end mark, whole batches, and the ids and offsets inside one batch, of two shards."""
    shards = [record for record in read_manifest(folder).shards() if len(record.segments) >= 4]
    for record in rng.sample(shards, 2):
        for number, segment in enumerate(record.segments):
            last = number == len(record.segments) - 1
            named = "schema" if number == 0 else "end mark" if last else f"batch {number - 1},"
            yield Region(record.name, segment.offset, segment.offset + segment.size, named)
        reader = ShardReader(folder, record)
        base = _map_address(reader)
        batch = rng.randrange(reader.n_batches)
        for buffer in _content_buffers(reader.batch(batch).column(column)):
            start = buffer.address - base
            yield Region(record.name, start, start + buffer.size, f"batch {batch},")


def _map_address(reader: ShardReader) -> int:
    reader._map.seek(0)
    return int(reader._map.read_buffer(reader.record.size).address)


def _content_buffers(column: pa.Array) -> list[pa.Buffer]:
    return [buffer for buffer in column.buffers() if buffer is not None and buffer.size]


def _positions(region: Region, rng: random.Random) -> list[int]:
    size = region.stop - region.start
    inside = rng.sample(range(size), min(FLIPS_PER_REGION, size))
    return sorted({region.start, region.stop - 1, *(region.start + offset for offset in inside)})


def _refused_at_read(folder: Path, region: Region) -> None:
    record = next(one for one in read_manifest(folder).shards() if one.name == region.file)
    with pytest.raises(IntegrityError) as caught:
        list(ShardReader(folder, record).batches())
    assert region.named.rstrip(",") in caught.value.what
