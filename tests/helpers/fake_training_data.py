"""Packed rows in memory, with the interface of `dsv3data.loader`: what the training tests feed.

The text is a short cycle with noise, so that a very small model learns something in a few steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class FakeBatch:
    input_ids: NDArray[np.int32]
    n_tokens: NDArray[np.int32]
    row_ids: NDArray[np.int64]
    domain_ids: NDArray[np.int32]
    piece_lengths: list[NDArray[np.int32]]


@dataclass(frozen=True, kw_only=True)
class FakeDataset:
    context: int = 16
    n_rows: int = 64
    vocab_size: int = 128
    root: str = "fake-root"
    domains: tuple[str, ...] = ("even", "odd")
    token_bytes: NDArray[np.int32] = field(default_factory=lambda: np.full(128, 3, np.int32))


class FakeStream:
    """Rows in the order 0, 1, 2, … around; every seventh row ends in padding."""

    def __init__(self, dataset: FakeDataset, *, seed: int) -> None:
        self.dataset, self.seed, self.consumed = dataset, seed, 0

    def next(self, n: int) -> FakeBatch:
        rows = np.arange(self.consumed, self.consumed + n, dtype=np.int64) % self.dataset.n_rows
        self.consumed += n
        context = self.dataset.context
        ids = np.stack([self._row(row) for row in rows])
        lengths = np.where(rows % 7 == 6, context - 5, context).astype(np.int32)
        ids[np.arange(context) >= lengths[:, None]] = 2
        domains = (rows % 2).astype(np.int32)
        return FakeBatch(
            input_ids=ids,
            n_tokens=lengths,
            row_ids=rows,
            domain_ids=domains,
            piece_lengths=[np.array([6, length - 6], np.int32) for length in lengths],
        )

    def state(self) -> dict[str, int | str]:
        return {"root": self.dataset.root, "seed": self.seed, "consumed": self.consumed}

    def restore(self, state: Mapping[str, Any]) -> None:
        for key, mine in (("root", self.dataset.root), ("seed", self.seed)):
            if state[key] != mine:
                raise BadInput(f"the stream's {key} is {mine!r}, not {state[key]!r}")
        self.consumed = int(state["consumed"])

    def _row(self, row: int) -> NDArray[np.int32]:
        noise = np.random.default_rng([self.seed, row])
        cycle = (np.arange(self.dataset.context) * 3 + row) % 11
        return (3 + cycle + 20 * (noise.random(self.dataset.context) < 0.1)).astype(np.int32)
