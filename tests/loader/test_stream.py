"""One global stream, whatever the batch size, the number of ranks and the interruptions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3data.contracts.errors import BadConfig, BadInput, IntegrityError
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.loader.stream import SequenceStream

MakePacked = Callable[..., Path]
N_ROWS = 40


class CountingDataset:
    """The numbers alone: `rows` gives them back as row ids."""

    folder, root, context, n_rows = Path("counting"), "root", 16, N_ROWS
    tokenizer_sha256 = "tokenizer"

    def rows(self, indices: np.ndarray) -> np.ndarray:
        return indices


def counting_stream(seed: int = 0) -> SequenceStream:
    return SequenceStream(CountingDataset(), seed=seed)  # type: ignore[arg-type]


def take(stream: SequenceStream, sizes: list[int], world: int = 1) -> list[int]:
    """The global stream as `world` ranks with a stream each would see it."""
    states = [stream.state() for _ in range(world)]
    seen = []
    for size in sizes:
        parts: list[Any] = []
        for rank in range(world):
            stream.restore(states[rank])
            parts.append(stream.next(size * world, rank=rank, world=world))
            states[rank] = stream.state()
        seen += np.concatenate(parts).tolist()
    assert all(state == states[0] for state in states)
    return seen


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=8),
    st.sampled_from([1, 2, 3, 4]),
    st.integers(0, 2**63),
)
def test_the_same_stream_for_any_batch_size_and_world(
    sizes: list[int], world: int, seed: int
) -> None:
    total = sum(sizes) * world
    expected = counting_stream(seed).next(total).tolist()  # type: ignore[attr-defined]
    assert take(counting_stream(seed), sizes, world) == expected
    for start in range(0, total - N_ROWS + 1, N_ROWS):
        assert sorted(expected[start : start + N_ROWS]) == list(range(N_ROWS))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    numbers = [
        counting_stream(seed).row_numbers(5 * N_ROWS).reshape(5, N_ROWS) for seed in range(5)
    ]
    orders = {tuple(order) for epochs in numbers for order in epochs.tolist()}
    assert len(orders) == 25


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.data())
def test_resuming_anywhere_continues_the_stream(sizes: list[int], data: st.DataObject) -> None:
    whole = take(counting_stream(), sizes)
    cut = data.draw(st.integers(0, len(sizes)))
    first = counting_stream()
    seen = take(first, sizes[:cut])
    state = json.loads(json.dumps(first.state()))
    assert set(state) == {
        *("root", "tokenizer", "context", "seed", "mixture", "epoch", "consumed"),
    }
    second = counting_stream()
    second.restore(state)
    assert second.state() == state
    second.restore(state)  # twice, and without a step between
    assert seen + take(second, sizes[cut:]) == whole


def test_the_end_of_an_epoch_is_the_start_of_the_next() -> None:
    stream = counting_stream()
    stream.next(N_ROWS)
    assert (stream.epoch, stream.consumed) == (1, 0)
    stream.next(2 * N_ROWS + 3)
    assert (stream.epoch, stream.consumed) == (3, 3)


# One rank in a process of its own: opens the set, resumes, reads its part of three batches.
READ_SHARE = """
import json, pathlib, sys
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.loader.stream import SequenceStream
path, state, rank, world = json.loads(sys.argv[1])
stream = SequenceStream(PackedDataset.open(pathlib.Path(path)), seed=1)
stream.restore(state)
shares = [stream.next(8, rank=rank, world=world).row_ids.tolist() for _ in range(3)]
print(json.dumps(shares))
"""


def test_real_processes_share_one_stream(make_packed: MakePacked) -> None:
    world = 2
    folder = make_packed()
    stream = SequenceStream(PackedDataset.open(folder), seed=1)
    stream.next(3)
    state = stream.state()
    expected = stream.next(24).row_ids.tolist()
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", READ_SHARE, json.dumps([str(folder), state, rank, world])],
            stdout=subprocess.PIPE,
        )
        for rank in range(world)
    ]
    shares = [json.loads(rank.communicate()[0]) for rank in ranks]
    assert np.concatenate(shares, axis=1).reshape(-1).tolist() == expected


def test_a_failed_read_does_not_move_the_stream(make_packed: MakePacked) -> None:
    folder = make_packed(shards=[("web", [4])])
    stream = SequenceStream(PackedDataset.open(folder), seed=0)
    stream.next(1)
    state = stream.state()
    path = folder / "packed-00000.arrow"
    raw = path.read_bytes()
    path.write_bytes(raw[:-1])
    with pytest.raises(IntegrityError, match="the manifest says"):
        stream.next(2)
    assert stream.state() == state
    path.write_bytes(raw)
    assert len(stream.next(2).row_ids) == 2


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"root": "other"}, "root is root here, other in the state"),
        ({"seed": 4}, "seed is 0 here, 4 in the state"),
        ({"tokenizer": "t"}, "tokenizer is tokenizer here, t in the state"),
        ({"mixture": "m"}, "mixture is none here, m in the state"),
        ({"epoch": 2**70}, "are no place in a set of 40 rows"),
        ({"context": 32}, "context is 16 here, 32 in the state"),
        ({"root": "x", "seed": 4}, "root is root here, x in the state; seed is 0 here, 4"),
        ({"epoch": -1}, "epoch -1 and consumed 3 are no place in a set of 40 rows"),
        ({"consumed": 40}, "epoch 0 and consumed 40 are no place"),
        ({"consumed": 1.5}, "epoch 0 and consumed 1.5 are no place"),
        ({"epoch": True}, "epoch True and consumed 3 are no place"),
        ({"epoch": None}, "the state lacks epoch"),
    ],
)
def test_a_foreign_state_is_refused_by_name(changes: dict[str, Any], text: str) -> None:
    stream = counting_stream()
    stream.next(3)
    state = {**stream.state(), **changes}
    state = {key: value for key, value in state.items() if value is not None}
    fresh = counting_stream()
    with pytest.raises(BadInput, match=text) as caught:
        fresh.restore(state)
    assert caught.value.where == "counting"
    assert "uninterrupted" in caught.value.effect
    assert caught.value.fix
    assert (fresh.epoch, fresh.consumed) == (0, 0)


@pytest.mark.parametrize(
    ("n", "rank", "world"), [(7, 0, 2), (0, 0, 1), (4, 2, 2), (4, -1, 2), (4, 0, 0)]
)
def test_unequal_shares_are_refused(n: int, rank: int, world: int) -> None:
    stream = counting_stream()
    with pytest.raises(
        BadConfig, match=f"rank {rank} of {world} cannot take an equal share"
    ) as caught:
        stream.next(n, rank=rank, world=world)
    assert f"a batch of {n} rows" in caught.value.what
    assert "multiple of the number of ranks" in caught.value.fix
    assert stream.consumed == 0


def test_an_empty_set_is_refused(make_packed: MakePacked) -> None:
    dataset = PackedDataset.open(make_packed(shards=[]))
    with pytest.raises(BadInput, match="the packed set has no row") as caught:
        SequenceStream(dataset, seed=0)
    assert caught.value.where == str(dataset.folder)
