"""Needle in a haystack: does a model find one sentence in a long text, by length and by depth?

A haystack is made of packed documents, drawn by key; the needle says a number of a city; the end of
the text asks for it. The model has found it if greedy generation would give the number.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.errors import BadConfig
from dsv3data.contracts.keys import keyed_u64_scalar
from dsv3data.contracts.progress import Sink
from dsv3data.generation.score import score
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.model.transformer import Transformer

Ids = NDArray[np.int32]
RESULT_NAME = "needle.json"
CITIES = (
    "Accra", "Bergen", "Cusco", "Dakar", "Essen", "Fukuoka", "Geneva", "Hanoi",
    "Izmir", "Jaipur", "Kyoto", "Lima", "Malmo", "Nairobi", "Oslo", "Perth",
)  # fmt: skip
DIGITS = 3  # of the number
_SHORTEST = 64  # of the lengths that are chosen here


@dataclass(frozen=True, kw_only=True)
class NeedleConfig:
    """Which haystacks are made."""

    lengths: tuple[int, ...] = ()  # ids of a whole prompt with its answer; none: see `lengths_for`
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the needle; 0 is the beginning
    samples: int = 4  # haystacks of each length and depth
    seed: int = 0

    def __post_init__(self) -> None:
        _require(all(length > 0 for length in self.lengths), "lengths", "above 0")
        _require(bool(self.depths), "depths", "at least one")
        _require(all(0 <= depth <= 1 for depth in self.depths), "depths", "from 0 to 1")
        _require(self.samples >= 1, "samples", "at least 1")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Haystacks of one length with the needle at one depth."""

    length: int
    depth: float
    found: float  # share of them in which greedy generation gives the number
    nats: float  # mean loss of the number's tokens

    def to_tree(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Haystack:
    """A prompt and what should follow."""

    prompt: list[int]
    answer: list[int]


def lengths_for(context: int) -> tuple[int, ...]:
    """The context and its halves, up to four lengths, shortest first; none has fewer ids than the
    sentences need, if the context has."""
    parts = [context >> shift for shift in (3, 2, 1)]
    return (*(length for length in parts if length >= _SHORTEST), context)


def find_needles(
    model: Transformer,
    dataset: PackedDataset,
    encode: Callable[[str], Sequence[int]],
    config: NeedleConfig,
    sink: Sink,
) -> list[Cell]:
    """Every length and depth in turn; the same haystacks for the same set, seed and tokenizer.

    Args:
        encode: plain text → ids.

    Raises:
        BadConfig: a length too short for the sentences.
        BadInput: one beyond the model's context.
    """
    lengths = config.lengths or lengths_for(model.config.context)
    sink.phase("needle", total=len(lengths) * len(config.depths) * config.samples, unit="haystacks")
    cells = []
    for length in lengths:
        for depth in config.depths:
            scores = []
            for sample in range(config.samples):
                stack = haystack(dataset, encode, config, length, depth, sample)
                n_ids = dataset.vocabulary.vocab_size
                scores.append(score(model, stack.prompt, stack.answer, n_ids=n_ids))
                sink.advance(1, tokens=length)
            cells.append(
                Cell(
                    length=length,
                    depth=depth,
                    found=statistics.fmean(one.found for one in scores),
                    nats=statistics.fmean(statistics.fmean(one.nats) for one in scores),
                )
            )
    return cells


def haystack(
    dataset: PackedDataset,
    encode: Callable[[str], Sequence[int]],
    config: NeedleConfig,
    length: int,
    depth: float,
    sample: int,
) -> Haystack:
    """Prompt and answer of exactly `length` ids together; only the needle's place depends on
    `depth`.

    Raises:
        BadConfig: the sentences alone are longer.
    """
    draw = _drawer(config.seed, f"needle/{length}/{sample}")
    city = CITIES[next(draw) % len(CITIES)]
    question = [*encode(question_about(city))]
    answer = [*encode(" " + "".join(str(next(draw) % 10) for _ in range(DIGITS)))]
    needle = [*question, *answer, *encode(".\n")]
    n_hay = length - len(needle) - len(question) - len(answer)
    if n_hay < 0:
        raise BadConfig(
            f"a prompt of {length} ids has no room for the needle and the question "
            f"({length - n_hay} ids)",
            where="lengths",
            effect="nothing was measured",
            fix="give longer --lengths",
        )
    hay = _hay(dataset, draw, n_hay).tolist()
    place = round(depth * n_hay)
    return Haystack(prompt=[*hay[:place], *needle, *hay[place:], *question], answer=answer)


def question_about(city: str) -> str:
    """What the needle begins with, and the prompt ends with."""
    return f"\nThe secret number of {city} is"


def _hay(dataset: PackedDataset, draw: Iterator[int], n: int) -> Ids:
    """`n` ids of packed documents, int32 [n]; sentinels and ends of documents are left out."""
    parts: list[Ids] = [np.empty(0, np.int32)]
    missing = n
    while missing > 0:
        row = dataset.rows(np.array([next(draw) % dataset.n_rows]))
        ids = row.input_ids[0, : int(row.n_tokens[0])]
        parts.append(ids[~dataset.vocabulary.is_control[ids]][:missing])
        missing -= len(parts[-1])
    return np.concatenate(parts)


def _drawer(seed: int, purpose: str) -> Iterator[int]:
    """Keyed 64-bit numbers, one after the other."""
    counter = 0
    while True:
        yield keyed_u64_scalar(b"\0" * 16, seed=seed, purpose=purpose, counter=counter)
        counter += 1


def _require(holds: bool, name: str, expected: str) -> None:
    if not holds:
        raise BadConfig(
            f"{name} must be {expected}",
            where=name,
            effect="nothing was measured",
            fix=f"change --{name}",
        )
