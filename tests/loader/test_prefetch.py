"""Reading ahead changes nothing but the time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dsv3data.contracts.errors import BadConfig, BadInput, IntegrityError
from dsv3data.loader.mixture import Stage
from dsv3data.loader.packed_dataset import Batch, PackedDataset
from dsv3data.loader.prefetch import Prefetcher
from dsv3data.loader.stream import SequenceStream
from dsv3data.testing import assert_resume_exact, assert_same_for_any_world, flip_bit

MakePacked = Callable[..., Path]


def stream_of(folder: Path) -> SequenceStream:
    return SequenceStream(PackedDataset.open(folder), seed=1)


def take(loader: Prefetcher, count: int, seen: list[int]) -> None:
    for _ in range(count):
        seen += loader.next().row_ids.tolist()


@pytest.fixture
def folder(make_packed: MakePacked) -> Path:
    return make_packed()


def test_batches_are_those_of_the_stream(folder: Path) -> None:
    plain = stream_of(folder)
    with Prefetcher(stream_of(folder), 3, depth=4) as ahead:
        for _ in range(20):
            assert np.array_equal(ahead.next().row_ids, plain.next(3).row_ids)
            assert ahead.state() == plain.state()


def test_batches_may_grow(folder: Path) -> None:
    plain = stream_of(folder)
    with Prefetcher(stream_of(folder), 2) as ahead:
        for n in (2, 2, 4, 4, 6, 2):
            assert np.array_equal(ahead.next(n).row_ids, plain.next(n).row_ids)
            assert ahead.state() == plain.state()
        assert np.array_equal(ahead.next().row_ids, plain.next(2).row_ids)
    with (
        Prefetcher(stream_of(folder), 2, world=2) as ahead,
        pytest.raises(BadConfig, match="rank 0 of 2 cannot take an equal share of a batch of 3"),
    ):
        ahead.next(3)


def test_resume_is_exact_at_every_step_and_over_epochs(folder: Path) -> None:
    assert_resume_exact(lambda: Prefetcher(stream_of(folder), 3), steps=9)


def test_resume_of_a_mixture_over_its_stages(make_packed: MakePacked) -> None:
    folder = make_packed(name_shard=lambda domain, number: f"packed-{domain}-{number:05d}.arrow")
    stages = [Stage(shares=("zh=1",), tokens=16 * 7), Stage(shares=("web=0.7", "zh=0.3"))]

    def make() -> Prefetcher:
        stream = SequenceStream(PackedDataset.open(folder), seed=1, stages=stages)
        return Prefetcher(stream, 3)

    assert_resume_exact(make, steps=8)


def test_the_same_rows_for_any_number_of_ranks(folder: Path) -> None:
    dataset = PackedDataset.open(folder)

    def make(rank: int, world: int) -> Prefetcher:
        return Prefetcher(SequenceStream(dataset, seed=1), 12, rank=rank, world=world)

    assert_same_for_any_world(make, worlds=(1, 2, 4, 6))


def test_no_more_is_read_than_its_depth_allows(folder: Path) -> None:
    stream, reads = stream_of(folder), threading.Semaphore(0)
    plain_next = stream.next

    def counted(n: int, **share: int) -> Batch:
        reads.release()
        return plain_next(n, **share)

    stream.next = counted  # type: ignore[method-assign]
    with Prefetcher(stream, 2, depth=3) as ahead:
        for _ in range(4):  # three in the queue, one in hand that waits for room
            assert reads.acquire(timeout=600)
        assert not reads.acquire(timeout=0.2)
        ahead.next()
        assert reads.acquire(timeout=600)
        assert not reads.acquire(blocking=False)


def test_a_damaged_row_is_named_and_the_state_stays_before_it(folder: Path) -> None:
    whole = [stream_of(folder).next(10).row_ids.tolist()]
    shard = folder / "packed-00000.arrow"
    offset = PackedDataset.open(folder)._shards[0].segments[1].buffers["input_ids"]
    flip_bit(shard, offset + 5)
    with Prefetcher(stream_of(folder), 1) as ahead:
        seen: list[int] = []
        with pytest.raises(IntegrityError, match="row 0 does not match its checksum"):
            take(ahead, 10, seen)
        state = ahead.state()
        with pytest.raises(IntegrityError, match="row 0 does not match its checksum"):
            ahead.next()
        assert ahead.state() == state
        assert seen == whole[0][: len(seen)]
        flip_bit(shard, offset + 5)
        ahead.restore(state)
        take(ahead, 10 - len(seen), seen)
        assert seen == whole[0]


def test_wrong_shares_and_foreign_states_are_refused(folder: Path) -> None:
    with pytest.raises(BadConfig, match="rank 0 of 2 cannot take an equal share"):
        Prefetcher(stream_of(folder), 3, world=2)
    with pytest.raises(BadConfig, match="0 batches cannot be read ahead"):
        Prefetcher(stream_of(folder), 3, depth=0)
    with Prefetcher(stream_of(folder), 3) as ahead:
        state = {**ahead.state(), "root": "other"}
        with pytest.raises(BadInput, match="root is"):
            ahead.restore(state)


def test_closing_ends_the_thread(folder: Path) -> None:
    before = set(threading.enumerate())
    ahead = Prefetcher(stream_of(folder), 3)
    (thread,) = set(threading.enumerate()) - before
    ahead.close()
    ahead.close()
    assert not thread.is_alive()
    with pytest.raises(ValueError, match="next batch of a closed prefetcher"):
        ahead.next()
    ahead.restore(ahead.state())
    assert len(ahead.next().row_ids) == 3
    ahead.close()
