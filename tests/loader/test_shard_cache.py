"""A packed set behind a URL: the same rows, verified on the way, within the cache's limit."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsv3data.contracts.errors import (
    BadConfig,
    BadInput,
    Dsv3DataError,
    EnvironmentFault,
    IntegrityError,
)
from dsv3data.contracts.progress import NullSink
from dsv3data.io.manifest_file import read_manifest
from dsv3data.loader import shard_cache
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.loader.prefetch import Prefetcher
from dsv3data.loader.shard_cache import open_remote
from dsv3data.loader.stream import SequenceStream
from dsv3data.testing import assert_resume_exact, flip_bit

pytest.importorskip("fsspec")
MakePacked = Callable[..., Path]
LARGE = 1 << 30


@pytest.fixture
def remote(make_packed: MakePacked) -> Path:
    """Five shards of about the same size."""
    return make_packed(shards=[("web", (8, 4))] * 5)


def url_of(folder: Path) -> str:
    return f"file://{folder}"


def shards_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*.arrow"))


def size_of_shards(folder: Path) -> list[int]:
    return [record.size for record in read_manifest(folder).shards()]


class Notes(NullSink):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_rows_are_those_of_the_set(remote: Path, tmp_path: Path) -> None:
    dataset = open_remote(url_of(remote), cache=tmp_path / "cache", max_bytes=LARGE)
    assert shards_in(tmp_path / "cache") == []  # nothing before it is asked for
    local = PackedDataset.open(remote)
    numbers = np.random.default_rng(0).integers(0, 60, 200)
    assert np.array_equal(dataset.rows(numbers).input_ids, local.rows(numbers).input_ids)
    assert len(shards_in(tmp_path / "cache")) == 5
    assert dataset.root == local.root
    copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301
    assert np.array_equal(copy.rows(numbers).row_ids, local.rows(numbers).row_ids)


def test_what_is_there_is_not_fetched_again(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    open_remote(url_of(remote), cache=cache, max_bytes=LARGE).rows(np.arange(60))
    for shard in remote.glob("*.arrow"):
        shard.unlink()
    dataset = open_remote(url_of(remote), cache=cache, max_bytes=LARGE)
    assert len(dataset.rows(np.arange(60)).row_ids) == 60


def test_the_limit_holds_and_the_longest_unused_goes(remote: Path, tmp_path: Path) -> None:
    cache, sizes = tmp_path / "cache", size_of_shards(remote)
    limit = max(sizes) * 2 + 10
    notes = Notes()
    dataset = open_remote(url_of(remote), cache=cache, max_bytes=limit, sink=notes)
    assert "is smaller than the set" in notes.notes[0]
    local = PackedDataset.open(remote)
    for number in np.random.default_rng(0).integers(0, 60, 40).tolist():
        dataset = pickle.loads(pickle.dumps(dataset))  # noqa: S301  # with no shard open
        row = dataset.rows(np.array([number]))
        assert row.row_ids.tolist() == local.rows(np.array([number])).row_ids.tolist()
        held = list(cache.rglob("*.arrow"))
        assert sum(path.stat().st_size for path in held) <= limit
        assert f"packed-{number // 12:05d}.arrow" in [path.name for path in held]


def test_resume_is_exact_from_a_cache(remote: Path, tmp_path: Path) -> None:
    def make() -> Prefetcher:
        dataset = open_remote(url_of(remote), cache=tmp_path / "cache", max_bytes=LARGE)
        return Prefetcher(SequenceStream(dataset, seed=1), 7)

    assert_resume_exact(make, steps=4)


def test_a_shard_that_changed_on_the_way_is_not_kept(remote: Path, tmp_path: Path) -> None:
    flip_bit(remote / "packed-00002.arrow", 900)
    dataset = open_remote(url_of(remote), cache=tmp_path / "cache", max_bytes=LARGE)
    with pytest.raises(IntegrityError, match="a shard that was fetched differs from") as caught:
        dataset.rows(np.arange(60))
    assert "packed-00002.arrow" in caught.value.where
    assert shards_in(tmp_path / "cache") == ["packed-00000.arrow", "packed-00001.arrow"]
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_damage_in_the_cache_is_found_when_the_row_is_read(remote: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    open_remote(url_of(remote), cache=cache, max_bytes=LARGE).rows(np.arange(60))
    (kept,) = cache.rglob("packed-00002.arrow")
    offset = read_manifest(remote).shards()[2].segments[1].buffers["input_ids"]
    flip_bit(kept, offset)
    dataset = open_remote(url_of(remote), cache=cache, max_bytes=LARGE)
    with pytest.raises(IntegrityError, match="row 0 does not match its checksum"):
        dataset.rows(np.arange(60))


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), BadInput, "there is no manifest.json"),
        (
            lambda folder: flip_bit(folder / "manifest.json", 300),
            IntegrityError,
            "manifest.json",
        ),
        (lambda folder: flip_bit(folder / "tokenizer.json", 30), IntegrityError, "SHA-256 differs"),
        (
            lambda folder: (folder / "packed-00003.arrow").unlink(),
            IntegrityError,
            "a shard that the manifest lists is missing behind the URL",
        ),
    ],
)
def test_damage_behind_the_url(
    remote: Path, tmp_path: Path, change: Any, kind: type[Dsv3DataError], text: str
) -> None:
    change(remote)
    with pytest.raises(kind, match=text):
        open_remote(url_of(remote), cache=tmp_path / "cache", max_bytes=LARGE).rows(np.arange(60))


def test_a_limit_below_one_shard_is_refused(remote: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"the cache may have 100 bytes, the largest shard has"):
        open_remote(url_of(remote), cache=tmp_path / "cache", max_bytes=100)


def test_a_cache_that_others_empty_gives_up(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_remote(url_of(remote), cache=tmp_path / "cache", max_bytes=LARGE)
    monkeypatch.setattr(shard_cache.ShardCache, "_fetch", lambda self, record, path: None)
    with pytest.raises(EnvironmentFault, match="a shard was removed from the cache each time"):
        dataset.rows(np.array([0]))
