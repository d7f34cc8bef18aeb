"""Which way each GEMM takes: found by a stopwatch once a shape, written down, and kept.

Our own tiles differ in speed alone: one that does not give the very bits of the first is left out.
cuBLAS adds in an order of its own, so which of the two a shape takes is part of a run's state. A
run writes a choice down before it uses the result, and finds it again when it goes on: the same
bytes, however often it was stopped. Choices hold for one GPU model and versions of torch and
Triton; with others they are found anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dsv3data.contracts.errors import IntegrityError
from dsv3data.io.atomic import write_atomic
from dsv3data.kernels.measure import relative_error

# Of two sums of the same products, rounded to BF16; a wrong scale is far above it.
SAME_PRODUCT = 1e-2


@dataclass(frozen=True, kw_only=True)
class Way:
    """One of several computations of the same product."""

    run: Callable[[], Tensor]
    same_bits: bool  # as the first way, or it is not taken


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was found for a shape."""

    way: str
    milliseconds: dict[str, float]
    left_out: dict[str, str]  # ways that failed or disagreed, and how


class Choices:
    """The choices of a process, and the file that keeps them, once there is one."""

    def __init__(self, stopwatch: Callable[[Callable[[], Tensor]], float]) -> None:
        """`stopwatch` gives the milliseconds of a call."""
        self._stopwatch = stopwatch
        self._found: dict[str, Choice] = {}
        self._file: tuple[Path, str] | None = None

    def keep_in(self, path: Path, machine: str) -> None:
        """Take the choices of this file, if it is of this machine, and add new ones to it.

        Raises:
            IntegrityError: it is not what `keep_in` wrote.
        """
        self._found |= _read(path, machine)
        self._file = path, machine
        if self._found:
            self._write()

    def take(self, shape: str, ways: Mapping[str, Way]) -> Tensor:
        """The product by the way chosen for this shape; all are tried when it is new."""
        if shape not in self._found or self._found[shape].way not in ways:
            self._found[shape] = fastest(ways, self._stopwatch)
            self._write()
        return ways[self._found[shape].way].run()

    def _write(self) -> None:
        if self._file is not None:
            path, machine = self._file
            shapes = {shape: asdict(choice) for shape, choice in sorted(self._found.items())}
            tree = {"machine": machine, "shapes": shapes}
            write_atomic(path, json.dumps(tree, indent=1).encode() + b"\n")


def fastest(ways: Mapping[str, Way], stopwatch: Callable[[Callable[[], Tensor]], float]) -> Choice:
    """Time the ways that work; the first one must."""
    first, *others = ways
    expected = ways[first].run()
    milliseconds, left_out = {first: stopwatch(ways[first].run)}, {}
    for name in others:
        try:
            fault = _fault(ways[name], expected)
            if fault is None:
                milliseconds[name] = stopwatch(ways[name].run)
        except Exception as error:  # what a compiler or a driver may raise has no common class
            fault = f"{type(error).__name__}: {error}"[:300]
        if fault is not None:
            left_out[name] = fault
    best = min(milliseconds, key=milliseconds.__getitem__)
    return Choice(way=best, milliseconds=milliseconds, left_out=left_out)


def _fault(way: Way, expected: Tensor) -> str | None:
    """How a way disagrees with the first; run several times, since a race may hide once."""
    for _ in range(3 if way.same_bits else 1):
        found = way.run()
        if way.same_bits and not torch.equal(found, expected):
            return "gives other bits than the first tile"
        if not way.same_bits and not relative_error(found, expected) < SAME_PRODUCT:
            return "gives another product"
    return None


def _read(path: Path, machine: str) -> dict[str, Choice]:
    if not path.exists():
        return {}
    try:
        tree: dict[str, Any] = json.loads(path.read_bytes())
        found = {shape: Choice(**choice) for shape, choice in tree["shapes"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise IntegrityError(
            f"the record of GEMM choices cannot be read: {error}",
            where=str(path),
            effect="nothing was started: other choices would give other last bits",
            fix="restore the file, or delete it and accept that last bits differ from here on",
        ) from error
    return found if tree["machine"] == machine else {}
