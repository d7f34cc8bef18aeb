"""What a data loader owes to training: the same rows after an interruption, on any cluster.

A loader here is anything with `state()` and `restore(state)` that gives batches by iteration, or by
`next()`; one that has `close()` is closed in the end. A batch is any nesting of mappings,
dataclasses, lists, numbers, arrays and tensors.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

Loader = Any
Leaves = list[tuple[str, Any]]


def assert_resume_exact(make_loader: Callable[[], Loader], *, steps: int = 6) -> None:
    """A loader that is stopped after any of its first `steps` batches goes on as if it had not.

    Checked for every stop, with new loaders: the state survives JSON and has the same keys, never
    more than a few bytes of growth; restored twice and saved again it is itself; and what follows
    it, batches and last state, is what an unbroken run gives.

    Args:
        make_loader: gives a new loader at its beginning.

    Raises:
        AssertionError: naming the stop, the step and the field.
    """
    with _open(make_loader) as unbroken:
        states, batches = [_state(unbroken)], []
        for batch in _batches(unbroken, steps):
            batches.append(_leaves(batch))
            states.append(_state(unbroken))
    _check_states(states)
    for stop in range(steps + 1):
        with _open(make_loader) as resumed:
            resumed.restore(_through_json(states[stop]))
            resumed.restore(_through_json(states[stop]))
            again = _state(resumed)
            assert again == states[stop], f"stop {stop}: saved again at once, the state is {again}"
            for step, batch in enumerate(_batches(resumed, steps - stop), start=stop):
                _check_same(_leaves(batch), batches[step], f"after stop {stop}, step {step}")
            end = _state(resumed)
        assert end == states[steps], f"after stop {stop}: the end is {end}, not {states[steps]}"


def assert_same_for_any_world(
    make_loader: Callable[[int, int], Loader], *, worlds: Sequence[int] = (1, 2, 4), steps: int = 3
) -> None:
    """The ranks' batches laid end to end are the same rows for any number of ranks.

    Also across a change: the state after a step of each world continues in every other.

    Args:
        make_loader: `make_loader(rank, world)` gives a new loader at the beginning of the same
            global batches.

    Raises:
        AssertionError: naming the worlds and the step.
    """
    expected = [_global(batch) for batch in _steps(make_loader, worlds[0], steps, None)]
    for world in worlds:
        state = None
        for step in range(steps):
            for other in worlds:
                (batch,) = _steps(make_loader, other, 1, state)
                _check_same(_global(batch), expected[step], f"{other} ranks, step {step}")
            with _open(make_loader, 0, world) as loader:
                if state is not None:
                    loader.restore(state)
                list(_batches(loader, 1))
                state = _through_json(_state(loader))


@contextmanager
def _open(make_loader: Callable[..., Loader], *place: int) -> Iterator[Loader]:
    """A new loader, closed afterwards where it can be: one that reads ahead has a thread."""
    loader = make_loader(*place)
    try:
        yield loader
    finally:
        if hasattr(loader, "close"):
            loader.close()


def _steps(
    make_loader: Callable[[int, int], Loader], world: int, steps: int, state: Any
) -> list[list[Any]]:
    """For each step the batches of all ranks."""
    of_ranks = []
    for rank in range(world):
        with _open(make_loader, rank, world) as loader:
            if state is not None:
                loader.restore(state)
            of_ranks.append(list(_batches(loader, steps)))
    return [list(step) for step in zip(*of_ranks, strict=True)]


def _global(of_ranks: Sequence[Any]) -> Leaves:
    """The arrays of all ranks' batches, joined along their first axis."""
    leaves = [_leaves(batch) for batch in of_ranks]
    return [
        (name, [value for rank in leaves for value in _rows(dict(rank)[name])])
        for name, _ in leaves[0]
    ]


def _rows(value: Any) -> list[Any]:
    return value.tolist() if isinstance(value, np.ndarray) else [value]


def _batches(loader: Loader, count: int) -> Iterator[Any]:
    """The next `count` batches; none are drawn beyond them."""
    if hasattr(loader, "__next__") or not hasattr(loader, "next"):
        batches = iter(loader) if count else iter(())
        for _ in range(count):
            yield next(batches)
    else:
        for _ in range(count):
            yield loader.next()


def _state(loader: Loader) -> dict[str, Any]:
    return _through_json(loader.state())


def _through_json(state: Any) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(state))
    return plain


def _check_states(states: Sequence[Mapping[str, Any]]) -> None:
    keys = [sorted(state) for state in states]
    assert all(found == keys[0] for found in keys), f"the state's keys change: {keys}"
    sizes = [len(json.dumps(state)) for state in states]
    # A few counters may gain digits; a list of what was seen would grow with every step.
    assert max(sizes) - min(sizes) <= 64, f"the state grows: {sizes} bytes"


def _check_same(found: Leaves, expected: Leaves, place: str) -> None:
    assert [name for name, _ in found] == [name for name, _ in expected], f"{place}: other fields"
    for (name, mine), (_, other) in zip(found, expected, strict=True):
        assert np.array_equal(mine, other), f"{place}: {name or 'the batch'} differs"


def _leaves(batch: Any, name: str = "") -> Leaves:
    """Arrays of a batch by name; lists of equal-typed parts are joined to one."""
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        batch = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    if isinstance(batch, Mapping):
        return [leaf for key in sorted(batch) for leaf in _leaves(batch[key], f"{name}.{key}")]
    if isinstance(batch, list | tuple):
        return [(name, np.concatenate([np.ravel(np.asarray(part)) for part in batch]))]
    return [(name, np.asarray(batch))]
