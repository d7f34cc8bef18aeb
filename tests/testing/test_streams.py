"""The public checks: they pass good loaders, and find each way in which a loader can be wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dsv3data.testing import assert_resume_exact, assert_same_for_any_world


class Counter:
    """Batches of two consecutive numbers; faults by class attribute."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.place, self.rank, self.world = 0, rank, world

    def next(self) -> dict[str, Any]:
        start = 12 * self.place + 12 // self.world * self.rank
        ids = np.arange(start, start + 12 // self.world)
        self.place += 1
        return {"ids": ids, "parts": [ids[:1], ids[1:]]}

    def state(self) -> dict[str, Any]:
        return {"place": self.place}

    def restore(self, state: dict[str, Any]) -> None:
        self.place = state["place"]


class Iterable:
    """The same by iteration."""

    def __init__(self) -> None:
        self.inner = Counter()
        self.state, self.restore = self.inner.state, self.inner.restore

    def __iter__(self) -> Any:
        while True:
            yield self.inner.next()


class Forgets(Counter):
    def restore(self, state: dict[str, Any]) -> None:
        self.place = 0


class OneBack(Counter):
    def next(self) -> dict[str, Any]:
        batch = super().next()
        batch["ids"] = batch["ids"] + self.bonus
        return batch

    bonus = 0

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.bonus = 1


class Remembers(Counter):
    def state(self) -> dict[str, Any]:
        return {"place": self.place, "seen": ["a row id"] * 5 * self.place}


class GrowsKeys(Counter):
    def state(self) -> dict[str, Any]:
        return {"place": self.place, f"step{self.place}": 1}


class Strays(Counter):
    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.jump = True

    jump = False

    def next(self) -> dict[str, Any]:
        batch = super().next()
        self.place += self.jump and self.place == 3
        return batch


@pytest.mark.parametrize("loader", [Counter, Iterable])
def test_good_loaders_pass(loader: Any) -> None:
    assert_resume_exact(loader)
    assert_same_for_any_world(Counter, worlds=(1, 2, 3, 4, 6))


@pytest.mark.parametrize(
    ("loader", "text"),
    [
        (Forgets, "stop 1: saved again at once, the state is"),
        (OneBack, r"after stop 0, step 0: .ids differs"),
        (Remembers, "the state grows"),
        (GrowsKeys, "the state's keys change"),
        (Strays, "after stop 0: the end is|after stop 0, step"),
    ],
)
def test_each_fault_is_named(loader: Any, text: str) -> None:
    with pytest.raises(AssertionError, match=text):
        assert_resume_exact(loader, steps=3)


def test_ranks_that_see_other_rows() -> None:
    class Wrong(Counter):
        def next(self) -> dict[str, Any]:
            self.world = 1 if self.world == 4 else self.world
            return super().next()

    with pytest.raises(AssertionError, match=r"4 ranks, step 0: .ids differs"):
        assert_same_for_any_world(Wrong)


def test_what_reads_ahead_is_closed() -> None:
    opened = closed = 0

    class Closes(Counter):
        def __init__(self, rank: int = 0, world: int = 1) -> None:
            nonlocal opened
            super().__init__(rank, world)
            opened += 1

        def close(self) -> None:
            nonlocal closed
            closed += 1

    assert_resume_exact(Closes)
    assert_same_for_any_world(Closes)
    assert opened == closed > 10
