"""The endless sequence of rows that a run trains on; its whole state is a few plain values.

The global stream is the same for any batch size and any number of ranks: a batch of n takes the
next n rows, and rank r of w reads the r-th of its w equal parts. (Parts, not every w-th row: a
mixture that alternates between two domains would give each of two ranks one of them.)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.errors import BadConfig, BadInput
from dsv3data.loader.mixture import MAX_ROWS, Stage
from dsv3data.loader.packed_dataset import Batch, PackedDataset
from dsv3data.loader.schedule import Mixture, Schedule, WholeSet

# Rows whose numbers are computed at once.
_PLANNED = 4096


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Row numbers of coming steps of one rank: int64 [steps, rows of the rank].

    `share` is (n, rank, world), `at` the place of the stream before each step.
    """

    share: tuple[int, int, int]
    at: range
    rows: NDArray[np.int64]


class SequenceStream:
    """Rows of a packed set in a keyed order, epoch after epoch.

    Args:
        stages: shares of domains over the run; none: all rows of the set in each epoch.

    Attributes:
        place: rows that were given out since the beginning.
    """

    def __init__(self, dataset: PackedDataset, *, seed: int, stages: Sequence[Stage] = ()) -> None:
        if not dataset.n_rows:
            raise BadInput(
                "the packed set has no row",
                where=str(dataset.folder),
                effect="nothing was started",
                fix="tokenize and pack documents first",
            )
        self.dataset = dataset
        self.seed = seed
        self.schedule = _schedule(dataset, stages, seed)
        self.place = 0
        self._plan: _Plan | None = None

    @property
    def epoch(self) -> int:
        """How many times as many rows as the set has were given out."""
        return self.place // self.dataset.n_rows

    @property
    def consumed(self) -> int:
        """Rows given out since then, below n_rows."""
        return self.place % self.dataset.n_rows

    def next(self, n: int, *, rank: int = 0, world: int = 1) -> Batch:
        """Rank `rank`'s rows of the next global batch of `n`; every rank moves on by `n`.

        The stream stays where it was if reading fails.

        Raises:
            BadConfig: ranks that would get different numbers of rows.
            IntegrityError: a damaged row.
        """
        check_share(n, rank, world)
        batch = self.dataset.rows(self._numbers(n, rank, world))
        self.place += n
        return batch

    def skip(self, n: int) -> None:
        """Move on by `n` rows without reading them. Cost: none."""
        self.place += n

    def copy(self) -> SequenceStream:
        """Another stream over the same set, at the same place."""
        return copy.copy(self)

    def row_numbers(self, n: int) -> NDArray[np.int64]:
        """Numbers of the next `n` rows in the dataset, int64 [n]; reads and moves nothing."""
        return self.schedule.row_numbers(np.arange(self.place, self.place + n))

    def _numbers(self, n: int, rank: int, world: int) -> NDArray[np.int64]:
        """Rows of a rank's next batch. Those of some steps are computed at once and kept: they
        depend on nothing that could change, and one place costs much more alone."""
        plan = self._plan
        if plan is None or plan.share != (n, rank, world) or self.place not in plan.at:
            share = n // world
            # No more than an epoch: each has a permutation of its own, which a small set would pay.
            steps = max(1, min(_PLANNED, self.dataset.n_rows // world) // share)
            at = range(self.place, self.place + n * steps, n)
            first = np.arange(at.start, at.stop, n)[:, None] + rank * share
            rows = self.schedule.row_numbers((first + np.arange(share)).reshape(-1))
            plan = _Plan(share=(n, rank, world), at=at, rows=rows.reshape(len(at), share))
            self._plan = plan
        numbers: NDArray[np.int64] = plan.rows[plan.at.index(self.place)]
        return numbers

    def state(self) -> dict[str, int | str]:
        """Where the stream stands: seven values, whatever the size of the set."""
        return {
            "root": self.dataset.root,
            "tokenizer": self.dataset.tokenizer_sha256,
            "context": self.dataset.context,
            "seed": self.seed,
            "mixture": self.schedule.fingerprint(self.place),
            "epoch": self.epoch,
            "consumed": self.consumed,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to where `state()` was taken, or change nothing.

        Raises:
            BadInput: another set, tokenizer, context, seed or past mixture (each named), or not a
                state of this stream.
        """
        mine = self.state()
        missing = [key for key in mine if key not in state]
        if missing:
            raise self._refuse(f"the state lacks {', '.join(missing)}")
        self._compare({key: mine[key] for key in ("root", "tokenizer", "context", "seed")}, state)
        epoch, consumed = state["epoch"], state["consumed"]
        rows = self.dataset.n_rows
        counts = _is_count(epoch) and _is_count(consumed)
        if not (counts and consumed < rows and epoch * rows + consumed < MAX_ROWS):
            raise self._refuse(
                f"epoch {epoch!r} and consumed {consumed!r} are no place in a set of {rows} rows"
            )
        place = epoch * rows + consumed
        self._compare({"mixture": self.schedule.fingerprint(place)}, state)
        self.place = place

    def _compare(self, mine: Mapping[str, int | str], state: Mapping[str, Any]) -> None:
        different = [
            f"{key} is {_shown(value)} here, {_shown(state[key])} in the state"
            for key, value in mine.items()
            if state[key] != value
        ]
        if different:
            raise self._refuse("; ".join(different))

    def _refuse(self, what: str) -> BadInput:
        return BadInput(
            f"the data stream cannot continue from this state: {what}",
            where=str(self.dataset.folder),
            effect="the run would see other rows than an uninterrupted one",
            fix="give the packed set, seed and stages of the interrupted run, or start a new one",
        )


def check_share(n: int, rank: int, world: int) -> None:
    """Raise BadConfig unless every rank gets as many rows of a batch of `n`."""
    if world < 1 or not 0 <= rank < world or n < 1 or n % world:
        raise BadConfig(
            f"rank {rank} of {world} cannot take an equal share of a batch of {n} rows",
            where="batch_rows",
            effect="ranks would train on different numbers of rows",
            fix="choose a batch that is a multiple of the number of ranks",
        )


def _schedule(dataset: PackedDataset, stages: Sequence[Stage], seed: int) -> Schedule:
    if not stages:
        return WholeSet(dataset.n_rows, seed=seed)
    return Mixture(
        stages, dataset.domain_sizes(), dataset.rows_of, context=dataset.context, seed=seed
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _shown(value: object) -> object:
    return "none" if value == "" else value
