"""Which row stands at each place of the global stream: a pure function of seed and place.

Without a mixture, epoch e visits all rows in the permutation keyed by (seed, e), so that domains
come in the proportions of the set. With one, `mixture.interleave` names the domain of each place,
and each domain goes through its own rows, epoch after epoch, in permutations of its own. Either
way any place of an endless stream is computed alone, in O(1) memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.config import config_hash
from dsv3data.contracts.errors import BadConfig
from dsv3data.loader.mixture import MAX_ROWS, Stage, interleave, row_weights, split_counts
from dsv3data.loader.permutation import permute

Places = NDArray[np.int64]
# Number of a row within its domain → its number in the set, both int64 [N].
RowsOfDomain = Callable[[str, Places], Places]


class Schedule(Protocol):
    """From places of the stream to row numbers of the set."""

    def row_numbers(self, places: Places) -> Places:
        """Row at each place, int64 [N]."""

    def fingerprint(self, place: int) -> str:
        """Names what decided the rows before `place`, but for the seed; empty without a mixture."""


class WholeSet:
    """All rows in a keyed order, epoch after epoch."""

    def __init__(self, n_rows: int, *, seed: int) -> None:
        self._n_rows, self._seed = n_rows, seed

    def row_numbers(self, places: Places) -> Places:
        """See `Schedule`. Cost: 0.1-0.3 µs a place."""
        return _epoch_rows(places, self._n_rows, seed=self._seed, purpose="row-order")

    def fingerprint(self, place: int) -> str:
        """See `Schedule`."""
        return ""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A domain of a set: its rows, and tokens per row (below L by the padding)."""

    rows: int
    tokens_per_row: Fraction


class Mixture:
    """Domains by shares of tokens, stage after stage.

    Args:
        domains: of the set, by name.
        rows_of: where the rows of a domain stand in the set.
        context: ids in a row.

    Raises:
        BadConfig: a share of a domain that the set lacks, or a stage without an end before the
            last or with one at the last.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        domains: Mapping[str, Domain],
        rows_of: RowsOfDomain,
        *,
        context: int,
        seed: int,
    ) -> None:
        _check_ends(stages)
        self._domains, self._rows_of, self._seed = domains, rows_of, seed
        self._stages = [_weights(stage, domains) for stage in stages]
        lengths = [-(-stage.tokens // context) for stage in stages[:-1]]
        if sum(lengths) >= MAX_ROWS:
            raise _bad(f"the stages have {sum(lengths):,} rows; {MAX_ROWS:,} are the most")
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        # Rows of each domain that earlier stages took, by stage.
        self._taken: list[dict[str, int]] = [dict.fromkeys(domains, 0)]
        for length, weights in zip(lengths, self._stages, strict=False):
            counts = dict(zip(weights, split_counts(length, list(weights.values())), strict=True))
            before = self._taken[-1]
            self._taken.append({name: before[name] + counts.get(name, 0) for name in domains})

    def row_numbers(self, places: Places) -> Places:
        """See `Schedule`. Cost: below 1 µs a place with up to 16 domains."""
        rows = np.empty(len(places), dtype=np.int64)
        stages = np.searchsorted(self._starts, places, side="right") - 1
        for stage in np.unique(stages).tolist():
            here = np.flatnonzero(stages == stage)
            weights = self._stages[stage]
            which, before = interleave(places[here] - self._starts[stage], list(weights.values()))
            for number in np.unique(which).tolist():
                name = list(weights)[number]
                of_domain = which == number
                index = before[of_domain] + self._taken[stage][name]
                ordered = _epoch_rows(
                    index, self._domains[name].rows, seed=self._seed, purpose=f"row-order/{name}"
                )
                rows[here[of_domain]] = self._rows_of(name, ordered)
        return rows

    def domain_counts(self, place: int) -> dict[str, int]:
        """Rows of each domain before `place`, for reports."""
        stage = int(np.searchsorted(self._starts, place, side="right")) - 1
        weights = self._stages[stage]
        counts = split_counts(place - int(self._starts[stage]), list(weights.values()))
        here = dict(zip(weights, counts, strict=True))
        return {name: taken + here.get(name, 0) for name, taken in self._taken[stage].items()}

    def fingerprint(self, place: int) -> str:
        """See `Schedule`. Stages that have not begun, and the end of the running one, may change
        while a run goes on; what decided rows that were given out may not."""
        begun = int(np.searchsorted(self._starts, place, side="left"))
        ended = self._starts[1 : max(begun, 1)].tolist()
        weights = [list(stage.items()) for stage in self._stages[:begun]]
        return config_hash({"starts": ended, "weights": weights})[:16]


def _epoch_rows(index: Places, n_rows: int, *, seed: int, purpose: str) -> Places:
    """Row number index % n of epoch index // n, each epoch in an order of its own."""
    epochs, places = index // n_rows, index % n_rows
    rows = np.empty(len(index), dtype=np.int64)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        rows[here] = permute(places[here], n_rows, seed=seed, purpose=f"{purpose}/{epoch}")
    return rows


def _weights(stage: Stage, domains: Mapping[str, Domain]) -> dict[str, int]:
    weights = stage.weights()
    absent = [name for name in weights if name not in domains or not domains[name].rows]
    if absent:
        raise _bad(
            f"the set has no rows of domain {absent[0]!r}; it has {', '.join(sorted(domains))}"
        )
    return row_weights(weights, {name: domains[name].tokens_per_row for name in weights})


def _check_ends(stages: Sequence[Stage]) -> None:
    if not stages or stages[-1].tokens or any(stage.tokens <= 0 for stage in stages[:-1]):
        raise _bad("every stage but the last needs its length in tokens, and the last has none")


def _bad(what: str) -> BadConfig:
    return BadConfig(
        what, where="mixture", effect="nothing was read", fix="change the stages' shares or tokens"
    )
