"""The mixture: exact shares at every row, one interleave for any place, stages without history."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3data.contracts.errors import BadConfig, BadInput
from dsv3data.loader.mixture import (
    Stage,
    interleave,
    interleave_scalar,
    row_weights,
    split_counts,
)
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.loader.schedule import Domain, Mixture
from dsv3data.loader.stream import SequenceStream

MakePacked = Callable[..., Path]
WEIGHTS = st.lists(st.integers(1, 1000), min_size=1, max_size=9)


@settings(max_examples=200, deadline=None)
@given(WEIGHTS, st.lists(st.integers(0, 1 << 39), min_size=1, max_size=8))
def test_fast_interleave_equals_the_definition(weights: list[int], rows: list[int]) -> None:
    domains, before = interleave(np.array(rows), weights)
    expected = [interleave_scalar(row, weights) for row in rows]
    assert list(zip(domains.tolist(), before.tolist(), strict=True)) == expected


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.integers(0, 1 << 39))
def test_shares_are_exact_at_every_row(weights: list[int], start: int) -> None:
    rows = np.arange(start, start + 300)
    domains, before = interleave(rows, weights)
    counts = split_counts(start, weights)
    levels = math.ceil(math.log2(len(weights)))
    for row, domain, index in zip(rows.tolist(), domains.tolist(), before.tolist(), strict=True):
        assert counts[domain] == index
        counts[domain] += 1
        assert sum(counts) == row + 1
        for number, weight in enumerate(weights):
            exact = Fraction((row + 1) * weight, sum(weights))
            assert abs(counts[number] - exact) < max(levels, 1)


def test_more_padding_gets_more_rows_for_the_same_tokens() -> None:
    half = {"a": Fraction(1, 2), "b": Fraction(1, 2)}
    units = row_weights(half, {"a": Fraction(4096), "b": Fraction(1024)})
    assert sum(units.values()) == 1 << 20
    assert abs(units["b"] - 4 * units["a"]) <= 4
    equal = row_weights(half, {"a": Fraction(7), "b": Fraction(7)})
    assert equal == {"a": 1 << 19, "b": 1 << 19}


DOMAINS = {
    "a": Domain(rows=7, tokens_per_row=Fraction(16)),
    "b": Domain(rows=100, tokens_per_row=Fraction(16)),
    "c": Domain(rows=40, tokens_per_row=Fraction(16)),
}
OFFSETS = {"a": 0, "b": 1000, "c": 2000}


def mixture(*stages: Stage, seed: int = 0) -> Mixture:
    return Mixture(stages, DOMAINS, lambda name, rows: OFFSETS[name] + rows, context=16, seed=seed)


STAGES = (
    Stage(shares=("a=0.5", "b=0.5"), tokens=16 * 1000),
    Stage(shares=("b=1", "c=2", "a=0.25"), tokens=16 * 500 + 1),
    Stage(shares=("c=1",)),
)


def test_stages_follow_one_another_and_each_domain_goes_on_where_it_was() -> None:
    schedule = mixture(*STAGES)
    rows = schedule.row_numbers(np.arange(3000))
    names = np.array(["a", "b", "c"])[rows // 1000]
    assert Counter(names[:1000].tolist()) == {"a": 500, "b": 500}
    second = Counter(names[1000:1501].tolist())  # one id more than 500 rows is 501 rows
    assert abs(second["c"] - 501 * 2 / 3.25) < 2
    assert set(names[1501:]) == {"c"}
    for name, domain in DOMAINS.items():
        mine = (rows[names == name] - OFFSETS[name]).tolist()
        epochs = [mine[i : i + domain.rows] for i in range(0, len(mine), domain.rows)]
        for epoch in epochs[:-1]:
            assert sorted(epoch) == list(range(domain.rows))
        assert len({tuple(epoch) for epoch in epochs[:-1]}) == len(epochs) - 1
    counts = Counter(names[:1234].tolist())
    assert schedule.domain_counts(1234) == {name: counts[name] for name in DOMAINS}


def test_any_places_in_any_order_give_the_same_rows() -> None:
    whole = mixture(*STAGES).row_numbers(np.arange(2500))
    places = np.random.default_rng(0).permutation(2500)
    assert np.array_equal(mixture(*STAGES).row_numbers(places), whole[places])
    assert not np.array_equal(mixture(*STAGES, seed=1).row_numbers(places), whole[places])


def test_the_future_of_a_mixture_may_change_and_its_past_may_not() -> None:
    first, second, last = STAGES
    whole = mixture(*STAGES)
    longer = Stage(shares=first.shares, tokens=first.tokens * 2)
    assert whole.fingerprint(0) == mixture(last).fingerprint(0)
    assert whole.fingerprint(1000) == mixture(longer, last).fingerprint(1000)
    assert whole.fingerprint(1001) != mixture(longer, last).fingerprint(1001)
    assert whole.fingerprint(1300) == mixture(first, Stage(shares=second.shares)).fingerprint(1300)
    assert whole.fingerprint(1) != mixture(second, last).fingerprint(1)


@pytest.mark.parametrize(
    ("stages", "text"),
    [
        ((Stage(shares=("a",)),), "a share must be domain=weight, once each, not 'a'"),
        ((Stage(shares=("a=-1",)),), "not 'a=-1'"),
        ((Stage(shares=("a=nan",)),), "not 'a=nan'"),
        ((Stage(shares=("a=1/0",)),), "not 'a=1/0'"),
        ((Stage(shares=("a=1", "a=2")),), "not 'a=2'"),
        ((Stage(shares=()),), "a stage has no shares"),
        ((Stage(shares=("a=1", "b=0.0000001")),), "the share of 'b' is below one row in 1,048,576"),
        ((Stage(shares=("x=1",)),), "the set has no rows of domain 'x'; it has a, b, c"),
        ((Stage(shares=("a=1",), tokens=5),), "every stage but the last needs its length"),
        ((Stage(shares=("a=1",)), Stage(shares=("b=1",))), "every stage but the last"),
        (
            (Stage(shares=("a=1",), tokens=1 << 60), Stage(shares=("b=1",))),
            "the stages have 72,057,594,037,927,936 rows; 1,099,511,627,776 are the most",
        ),
    ],
)
def test_wrong_stages_are_refused(stages: tuple[Stage, ...], text: str) -> None:
    with pytest.raises(BadConfig) as caught:
        mixture(*stages)
    assert text in caught.value.what
    assert caught.value.fix


def by_domain(domain: str, number: int) -> str:
    return f"packed-{domain}-{number:05d}.arrow"


def test_rows_of_a_mixed_stream_are_of_their_domains(make_packed: MakePacked) -> None:
    folder = make_packed(
        shards=[("web", (30, 2)), ("zh", (4,)), ("web", (11,))], name_shard=by_domain
    )
    dataset = PackedDataset.open(folder)
    stream = SequenceStream(dataset, seed=3, stages=[Stage(shares=("web=1", "zh=1"))])
    batch = stream.next(200)
    of_domain = [batch.row_ids[batch.domain_ids == number] for number in range(2)]
    tokens = [batch.n_tokens[batch.domain_ids == number].sum() for number in range(2)]
    assert abs(tokens[0] / sum(tokens) - 0.5) < 0.02
    assert len(set(of_domain[0][:43].tolist())) == 43
    assert len(set(of_domain[1][:4].tolist())) == 4
    state = stream.state()
    plain = SequenceStream(dataset, seed=3)
    with pytest.raises(BadInput, match=r"mixture is none here, [0-9a-f]{16} in the state"):
        plain.restore(state)
