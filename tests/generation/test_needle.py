"""Haystacks: exact lengths, the needle where it should be, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dsv3data.contracts.errors import BadConfig
from dsv3data.contracts.progress import NullSink
from dsv3data.encoding.huggingface import HuggingFaceEncoder
from dsv3data.generation import needle as needle_module
from dsv3data.generation.needle import (
    CITIES,
    NeedleConfig,
    find_needles,
    haystack,
    lengths_for,
)
from dsv3data.generation.score import Score
from dsv3data.loader.packed_dataset import PackedDataset

Encode = Callable[[str], Sequence[int]]
CONFIG = NeedleConfig()


@pytest.fixture(scope="module")
def dataset(tiny_packed: Path) -> PackedDataset:
    return PackedDataset.open(tiny_packed)


@pytest.fixture(scope="module")
def encode(dataset: PackedDataset) -> Encode:
    encoder = HuggingFaceEncoder(dataset.vocabulary)
    return lambda text: encoder.encode([text])[0].tolist()


def text_of(dataset: PackedDataset, ids: Sequence[int]) -> str:
    return dataset.vocabulary.decode(np.array(ids, np.int32)).decode("utf-8", "replace")


def test_a_haystack_has_its_length_one_needle_and_its_question(
    dataset: PackedDataset, encode: Encode
) -> None:
    for length, depth in ((128, 0.0), (200, 0.5), (400, 1.0)):
        stack = haystack(dataset, encode, CONFIG, length, depth, 0)
        assert len(stack.prompt) + len(stack.answer) == length
        assert not dataset.vocabulary.is_control[stack.prompt].any()
        text, answer = text_of(dataset, stack.prompt), text_of(dataset, stack.answer)
        (city,) = {city for city in CITIES if f"secret number of {city} is" in text}
        question = f"\nThe secret number of {city} is"
        assert text.endswith(question)
        assert text.count(question) == 2
        needle = question + answer + ".\n"
        assert needle in text
        before = len(text[: text.index(needle)])
        behind = len(text) - before - len(needle) - len(question)
        assert before / (before + behind) == pytest.approx(depth, abs=0.2)


def test_only_the_place_depends_on_the_depth_and_all_on_the_seed(
    dataset: PackedDataset, encode: Encode
) -> None:
    first, last = (haystack(dataset, encode, CONFIG, 300, depth, 2) for depth in (0.0, 1.0))
    assert first.answer == last.answer
    assert sorted(first.prompt) == sorted(last.prompt)
    assert first.prompt != last.prompt
    assert haystack(dataset, encode, CONFIG, 300, 0.0, 2) == first
    assert haystack(dataset, encode, NeedleConfig(seed=1), 300, 0.0, 2) != first
    assert haystack(dataset, encode, CONFIG, 300, 0.0, 3) != first


def test_cells_are_means_over_samples(
    dataset: PackedDataset, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that sees only the last 200 ids."""

    def forgetful(model: Any, prompt: list[int], answer: list[int], *, n_ids: int) -> Score:
        sees = text_of(dataset, prompt[-200:]).count("secret number") == 2
        return Score(nats=[0.0 if sees else 2.0, 1.0], likeliest=[True, sees])

    monkeypatch.setattr(needle_module, "score", forgetful)
    model: Any = SimpleNamespace(config=SimpleNamespace(context=800))
    config = NeedleConfig(lengths=(150, 800), depths=(0.0, 1.0), samples=2)
    cells = find_needles(model, dataset, encode, config, NullSink())
    assert [(cell.length, cell.depth, cell.found, cell.nats) for cell in cells] == [
        (150, 0.0, 1.0, 0.5),
        (150, 1.0, 1.0, 0.5),
        (800, 0.0, 0.0, 1.5),
        (800, 1.0, 1.0, 0.5),
    ]
    assert lengths_for(800) == (100, 200, 400, 800)
    assert lengths_for(128) == (64, 128)
    assert lengths_for(40) == (40,)


def test_what_no_haystack_is_made_of(dataset: PackedDataset, encode: Encode) -> None:
    with pytest.raises(BadConfig, match="a prompt of 30 ids has no room for the needle and the"):
        haystack(dataset, encode, CONFIG, 30, 0.5, 0)
    for wrong in ({"depths": (1.5,)}, {"depths": ()}, {"samples": 0}, {"lengths": (0,)}):
        with pytest.raises(BadConfig, match="must be"):
            NeedleConfig(**wrong)
