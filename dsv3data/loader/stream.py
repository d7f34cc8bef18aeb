"""The endless sequence of rows that a run trains on; its whole state is a few plain values.

Epoch e visits the rows in the permutation keyed by (seed, e). The global stream is the same for any
batch size and any number of ranks: a batch of n takes the next n rows, and rank r of w reads rows
r, r + w, r + 2·w … of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.errors import BadConfig, BadInput
from dsv3data.loader.packed_dataset import Batch, PackedDataset
from dsv3data.loader.permutation import permute


class SequenceStream:
    """Rows of a packed set in a keyed order, epoch after epoch.

    Attributes:
        epoch: passes over the set that are complete.
        consumed: rows of the current pass that were given out, below n_rows.
    """

    def __init__(self, dataset: PackedDataset, *, seed: int) -> None:
        if not dataset.n_rows:
            raise BadInput(
                "the packed set has no row",
                where=str(dataset.folder),
                effect="nothing was started",
                fix="tokenize and pack documents first",
            )
        self.dataset = dataset
        self.seed = seed
        self.epoch = 0
        self.consumed = 0

    def next(self, n: int, *, rank: int = 0, world: int = 1) -> Batch:
        """Rank `rank`'s rows of the next global batch of `n`; every rank moves on by `n`.

        The stream stays where it was if reading fails.

        Raises:
            BadConfig: ranks that would get different numbers of rows.
            IntegrityError: a damaged row.
        """
        _check_share(n, rank, world)
        batch = self.dataset.rows(self.row_numbers(n)[rank::world])
        epochs, self.consumed = divmod(self.consumed + n, self.dataset.n_rows)
        self.epoch += epochs
        return batch

    def row_numbers(self, n: int) -> NDArray[np.int64]:
        """Numbers of the next `n` rows in the dataset, int64 [n]; reads and moves nothing."""
        rows = self.dataset.n_rows
        epoch, start = self.epoch, self.consumed
        parts = [np.empty(0, dtype=np.int64)]
        while n:
            stop = min(start + n, rows)
            places = np.arange(start, stop)
            parts.append(permute(places, rows, seed=self.seed, purpose=f"row-order/{epoch}"))
            n -= stop - start
            epoch, start = epoch + 1, 0
        return np.concatenate(parts)

    def state(self) -> dict[str, int | str]:
        """Where the stream stands: five values, whatever the size of the set."""
        return {
            "root": self.dataset.root,
            "seed": self.seed,
            "context": self.dataset.context,
            "epoch": self.epoch,
            "consumed": self.consumed,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to where `state()` was taken, or change nothing.

        Raises:
            BadInput: another set, seed or context (each named), or not a state of this stream.
        """
        mine = self.state()
        missing = [key for key in mine if key not in state]
        if missing:
            raise self._refuse(f"the state lacks {', '.join(missing)}")
        different = [
            f"{key} is {mine[key]} here, {state[key]} in the state"
            for key in ("root", "context", "seed")
            if state[key] != mine[key]
        ]
        if different:
            raise self._refuse("; ".join(different))
        epoch, consumed = state["epoch"], state["consumed"]
        if not (_is_count(epoch) and _is_count(consumed) and consumed < self.dataset.n_rows):
            raise self._refuse(
                f"epoch {epoch!r} and consumed {consumed!r} are no place in a set of "
                f"{self.dataset.n_rows} rows"
            )
        self.epoch, self.consumed = epoch, consumed

    def _refuse(self, what: str) -> BadInput:
        return BadInput(
            f"the data stream cannot continue from this state: {what}",
            where=str(self.dataset.folder),
            effect="the run would see other rows than an uninterrupted one",
            fix="give the packed set and seed of the interrupted run, or start a new one",
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_share(n: int, rank: int, world: int) -> None:
    if world < 1 or not 0 <= rank < world or n < 1 or n % world:
        raise BadConfig(
            f"rank {rank} of {world} cannot take an equal share of a batch of {n} rows",
            where="batch_rows",
            effect="ranks would train on different numbers of rows",
            fix="choose a batch that is a multiple of the number of ranks",
        )
