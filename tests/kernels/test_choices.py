"""Which way a GEMM takes: the fastest that is right, the same again after a stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dsv3data.contracts.errors import IntegrityError
from dsv3data.kernels.choices import Choices, Way

PRODUCT = torch.arange(12.0).view(3, 4)
MACHINE = "a GPU, torch 2.11, triton 3.6"


class Bench:
    """Ways with times of their own, and a count of how often each was run."""

    def __init__(self, **milliseconds: float) -> None:
        self.milliseconds = milliseconds
        self.runs = dict.fromkeys(milliseconds, 0)
        self.products = dict.fromkeys(milliseconds, PRODUCT)
        self.exact = {name: name != "cublas" for name in milliseconds}

    def ways(self) -> dict[str, Way]:
        return {
            name: Way(run=self._runner(name), same_bits=self.exact[name])
            for name in self.milliseconds
        }

    def stopwatch(self, run: Callable[[], Tensor]) -> float:
        return self.milliseconds[run.__name__]

    def taken(self, choices: Choices, shape: str = "dense") -> str:
        """The way of a second call, which runs that one alone."""
        choices.take(shape, self.ways())
        before = dict(self.runs)
        assert torch.equal(choices.take(shape, self.ways()), PRODUCT)
        (name,) = [name for name in self.runs if self.runs[name] != before[name]]
        return name

    def _runner(self, name: str) -> Callable[[], Tensor]:
        def run() -> Tensor:
            self.runs[name] += 1
            product = self.products[name]
            if product is None:
                raise RuntimeError("no kernel image")
            return product

        run.__name__ = name
        return run


def test_the_fastest_is_taken_and_timed_once() -> None:
    bench = Bench(first=3.0, second=1.0, cublas=2.0)
    assert bench.taken(Choices(bench.stopwatch)) == "second"


def test_ways_that_fail_or_disagree_are_left_out_by_name(tmp_path: Path) -> None:
    bench = Bench(first=3.0, other_bits=1.0, broken=1.0, wrong=1.0, cublas=2.0)
    bench.products |= {"other_bits": PRODUCT * (1 + 1e-6), "broken": None}
    bench.products |= {"wrong": PRODUCT.T.reshape(3, 4)}
    bench.exact["wrong"] = False
    choices = Choices(bench.stopwatch)
    choices.keep_in(tmp_path / "choices.json", MACHINE)
    assert bench.taken(choices) == "cublas"
    found = json.loads((tmp_path / "choices.json").read_text())["shapes"]["dense"]
    assert found["left_out"] == {
        "other_bits": "gives other bits than the first tile",
        "broken": "RuntimeError: no kernel image",
        "wrong": "gives another product",
    }
    assert found["milliseconds"] == {"first": 3.0, "cublas": 2.0}


def test_a_run_that_goes_on_takes_the_same_ways(tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    bench = Bench(first=1.0, second=2.0)
    choices = Choices(bench.stopwatch)
    choices.keep_in(path, MACHINE)
    assert bench.taken(choices) == "first"
    bench.milliseconds = {"first": 2.0, "second": 1.0}  # now the clock would say otherwise
    later = Choices(bench.stopwatch)
    later.keep_in(path, MACHINE)
    assert bench.taken(later) == "first"
    assert bench.taken(later, "another shape") == "second"
    elsewhere = Choices(bench.stopwatch)
    elsewhere.keep_in(path, "another GPU")
    assert bench.taken(elsewhere) == "second"


def test_a_choice_is_on_disk_before_its_product_is_used(tmp_path: Path) -> None:
    path, seen = tmp_path / "choices.json", []
    bench = Bench(first=2.0, second=1.0)
    choices = Choices(bench.stopwatch)
    choices.keep_in(path, MACHINE)
    ways = bench.ways()
    run = ways["second"].run

    def watched() -> Tensor:
        seen.append(path.exists())
        return run()

    watched.__name__ = "second"
    choices.take("dense", ways | {"second": Way(run=watched, same_bits=True)})
    assert seen[-1]
    assert not any(seen[:-1])


@pytest.mark.parametrize("text", ["{", "[]", '{"shapes": {"dense": {"way": "first"}}}'])
def test_a_damaged_record_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    path.write_text(text)
    with pytest.raises(IntegrityError, match="the record of GEMM choices cannot be read"):
        Choices(lambda _: 1.0).keep_in(path, MACHINE)
