"""The stream through real DataLoader processes: any number of them, any number of ranks, deaths."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dsv3data.contracts.errors import BadInput, EnvironmentFault, IntegrityError
from dsv3data.loader import torch_adapter
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.loader.stream import SequenceStream
from dsv3data.loader.torch_adapter import TorchLoader
from dsv3data.testing import assert_resume_exact, assert_same_for_any_world, flip_bit

MakePacked = Callable[..., Path]


def stream_of(folder: Path) -> SequenceStream:
    return SequenceStream(PackedDataset.open(folder), seed=1)


def take(loader: TorchLoader, count: int) -> list[list[int]]:
    batches = iter(loader)
    return [next(batches)["row_ids"].tolist() for _ in range(count)]


def test_a_batch_is_the_streams_as_tensors(make_packed: MakePacked) -> None:
    folder = make_packed()
    batch = next(iter(TorchLoader(stream_of(folder), 4)))
    expected = stream_of(folder).next(4)
    for name in ("input_ids", "n_tokens", "domain_ids", "row_ids"):
        assert isinstance(batch[name], torch.Tensor)
        assert batch[name].dtype in (torch.int32, torch.int64)
        assert np.array_equal(batch[name].numpy(), getattr(expected, name))
    lengths = [part.tolist() for part in batch["piece_lengths"]]
    assert lengths == [part.tolist() for part in expected.piece_lengths]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "world"), [(0, 1), (0, 2), (0, 4), (0, 6), (1, 2), (4, 1)])
def test_one_stream_for_any_workers_and_ranks(
    make_packed: MakePacked, workers: int, world: int
) -> None:
    """Over two epochs and a stop in the middle, every rank with processes of its own."""
    folder = make_packed()
    stream = stream_of(folder)
    expected = stream.next(7 * 12).row_ids.reshape(7, 12).tolist()
    of_ranks = []
    for rank in range(world):
        loader = TorchLoader(stream_of(folder), 12, rank=rank, world=world, workers=workers)
        of_ranks.append(take(loader, 7))
        assert loader.state() == stream.state()
    assert np.concatenate(of_ranks, axis=1).tolist() == expected
    half = TorchLoader(stream_of(folder), 12, world=world, workers=workers)
    take(half, 3)
    other = TorchLoader(stream_of(folder), 12)
    other.restore(half.state())
    assert take(other, 4) == expected[3:]


def test_resume_is_exact_without_workers(make_packed: MakePacked) -> None:
    folder = make_packed()
    stream = stream_of(folder)  # loaders copy it
    assert_resume_exact(lambda: TorchLoader(stream, 3), steps=5)
    assert_same_for_any_world(
        lambda rank, world: TorchLoader(stream, 12, rank=rank, world=world), worlds=(1, 2, 4, 6)
    )
    loader = TorchLoader(stream_of(folder), 3)
    with pytest.raises(BadInput, match="seed is 1 here, 5 in the state"):
        loader.restore({**loader.state(), "seed": 5})


@pytest.mark.slow
def test_resume_is_exact_with_workers(make_packed: MakePacked) -> None:
    folder = make_packed()
    assert_resume_exact(lambda: TorchLoader(stream_of(folder), 3, workers=2), steps=3)


@pytest.fixture
def no_child_signals() -> Iterator[Callable[[], None]]:
    """Torch listens to SIGCHLD, and raises its error of a dead worker wherever this process is just
    then. Where nobody listens `next` finds it."""
    torchs = []
    yield lambda: torchs.append(signal.signal(signal.SIGCHLD, signal.SIG_DFL))
    signal.signal(signal.SIGCHLD, torchs[0])


@pytest.mark.slow
def test_a_killed_worker_is_named_and_nothing_is_lost(
    make_packed: MakePacked, monkeypatch: pytest.MonkeyPatch, no_child_signals: Callable[[], None]
) -> None:
    monkeypatch.setattr(torch_adapter, "_LOOK_SECONDS", 0.1)
    folder = make_packed()
    expected = stream_of(folder).next(12 * 8).row_ids.reshape(12, 8).tolist()
    loader = TorchLoader(stream_of(folder), 8, workers=2)
    batches, seen = iter(loader), []
    seen.append(next(batches)["row_ids"].tolist())
    no_child_signals()
    for child in multiprocessing.active_children():
        os.kill(child.pid or 0, signal.SIGKILL)
    with pytest.raises(EnvironmentFault, match="a process that reads data failed") as caught:
        seen.extend(batch["row_ids"].tolist() for batch in batches)
    place = 8 * len(seen)
    assert f"rows {place} to {place + 7} of the stream" in caught.value.where
    assert "no batch was lost" in caught.value.effect
    again = TorchLoader(stream_of(folder), 8)
    again.restore(loader.state())
    assert seen + take(again, 12 - len(seen)) == expected


@pytest.mark.slow
def test_damage_met_in_a_worker_is_named_as_without_workers(make_packed: MakePacked) -> None:
    folder = make_packed()
    offset = PackedDataset.open(folder)._shards[0].segments[1].buffers["input_ids"]
    flip_bit(folder / "packed-00000.arrow", offset + 5)
    for workers in (0, 2):
        loader = TorchLoader(stream_of(folder), 2, workers=workers)
        with pytest.raises(IntegrityError, match="row 0 does not match its checksum") as caught:
            take(loader, 5)
        assert caught.value.where.endswith("packed-00000.arrow, batch 0")
        assert "rebuilds only what is damaged" in caught.value.fix


@pytest.mark.slow
def test_a_worker_that_says_nothing_is_given_up(make_packed: MakePacked) -> None:
    folder = make_packed()
    loader = TorchLoader(stream_of(folder), 2, workers=1, timeout_s=0.05)
    for shard in folder.glob("*.arrow"):  # opening a pipe waits for a writer
        shard.unlink()
        os.mkfifo(shard)
    with pytest.raises(EnvironmentFault, match="timed out") as caught:
        take(loader, 1)
    assert "rows 0 to 1 of the stream" in caught.value.where
    with contextlib.ExitStack() as writers:  # let the worker go, and see it gone
        for shard in folder.glob("*.arrow"):
            writers.callback(os.close, os.open(shard, os.O_RDWR))
        del caught
        gc.collect()
