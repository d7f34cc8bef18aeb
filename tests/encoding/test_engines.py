"""The fast engine gives the oracle's ids; one that does not is refused by name."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer

import dsv3data.encoding.choose as choose
from dsv3data.contracts import special_tokens
from dsv3data.contracts.errors import BadConfig, EnvironmentFault
from dsv3data.encoding.choose import choose_engine, hand_over, load_engines
from dsv3data.encoding.fastokens import FastokensEncoder
from dsv3data.encoding.huggingface import HuggingFaceEncoder
from dsv3data.encoding.probe import compare, probe_texts
from dsv3data.encoding.speed import bytes_per_second
from dsv3data.encoding.vocabulary import (
    Vocabulary,
    keep_vocabulary,
    load_vocabulary,
    parse_vocabulary,
)

SURROGATES = range(0xD800, 0xE000)
PIECES = st.sampled_from(
    [
        *special_tokens.IN_VOCABULARY,
        *special_tokens.ADDED[798:],
        "<｜",
        "｜>",
        " ",
        "\r\n",
        "a",
        "1",
    ]
)
TEXTS = st.lists(
    st.lists(PIECES | st.text(st.characters(exclude_categories=["Cs"])), max_size=6).map("".join),
    max_size=5,
)


@pytest.fixture(scope="module")
def vocabulary(tiny_tokenizer: Path) -> Vocabulary:
    return load_vocabulary(tiny_tokenizer)


@pytest.fixture(scope="module")
def oracle(vocabulary: Vocabulary) -> HuggingFaceEncoder:
    return HuggingFaceEncoder(vocabulary)


@pytest.fixture(scope="module")
def fast(vocabulary: Vocabulary) -> FastokensEncoder:
    return FastokensEncoder(vocabulary)


@pytest.mark.slow
def test_every_code_point_between_letters_and_between_spaces(
    fast: FastokensEncoder, oracle: HuggingFaceEncoder
) -> None:
    characters = [chr(code) for code in range(0x110000) if code not in SURROGATES]
    texts = []
    for start in range(0, len(characters), 256):
        texts += ["a".join(characters[start : start + 256])]
        texts += [" ".join(characters[start : start + 256])]
    assert compare(fast.encode(texts), oracle.encode(texts)) is None


@settings(max_examples=400, deadline=None)
@given(texts=TEXTS)
def test_random_texts(
    texts: list[str], fast: FastokensEncoder, oracle: HuggingFaceEncoder, vocabulary: Vocabulary
) -> None:
    values, offsets = fast.encode(texts)
    assert (values.dtype, offsets.dtype) == (np.int32, np.int64)
    assert compare((values, offsets), oracle.encode(texts)) is None
    assert not vocabulary.is_control[values].any()
    assert vocabulary.decode(values) == "".join(texts).encode()


def test_the_engine_encodes_in_the_thread_that_asks(fast: FastokensEncoder) -> None:
    """A thread more would meet the words of the corpus anew, and would be lost in a fork."""
    fast.encode(["many words of a text\n" * 1000] * 8)
    threads = Path("/proc/self/task").glob("*/comm")
    assert not [name for name in map(Path.read_text, threads) if name.startswith("fastokens")]


def test_no_texts_and_empty_texts(fast: FastokensEncoder) -> None:
    assert [part.tolist() for part in fast.encode([])] == [[], [0]]
    assert [part.tolist() for part in fast.encode(["", ""])] == [[], [0, 0, 0]]


def test_a_megabyte_without_a_break(fast: FastokensEncoder, vocabulary: Vocabulary) -> None:
    for unit in ("a", " ", "中", "=", "\n"):
        text = unit * (1_000_000 // len(unit.encode()))
        values, _ = fast.encode([text])
        assert vocabulary.decode(values) == text.encode()


def test_the_probe_holds_what_engines_differ_in(vocabulary: Vocabulary) -> None:
    text = "".join(probe_texts(vocabulary))
    assert all(control in text for control in vocabulary.control_texts)
    assert {ord(character) >> 16 for character in text} == set(range(17))
    assert all(run in text for run in ("\r\n\r\n", " " * 20, "a" * 3000, "中" * 3000, "1" * 3000))
    assert 300_000 < len(text.encode()) < 600_000


def test_auto_measures_and_says_which_and_why(vocabulary: Vocabulary) -> None:
    """Which one it is, on a machine that does other things, nobody knows."""
    notes: list[str] = []
    choose_engine(vocabulary, "auto", note=pytest.fail)
    chosen = choose_engine(vocabulary, "auto", note=notes.append, texts=["a document\n"] * 3000)
    (note,) = notes
    (other,) = {"fastokens", "huggingface"} - {chosen.name}
    said = (
        f"{chosen.described} encodes: on the first documents {chosen.name} # MB/s, {other} # MB/s"
    )
    assert re.sub(r"\S+ MB/s", "# MB/s", note) == said


@pytest.mark.parametrize("fastest", ["fastokens", "huggingface"])
def test_auto_takes_the_fastest_whichever_it_is(
    fastest: str, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def speed(engine: Any, texts: Sequence[str]) -> float:
        is_oracle = isinstance(engine, HuggingFaceEncoder)
        return 2e6 if is_oracle == (fastest == "huggingface") else 1e6

    monkeypatch.setattr(choose, "bytes_per_second", speed)
    notes: list[str] = []
    chosen = choose_engine(vocabulary, "auto", note=notes.append, texts=["a"])
    assert (chosen.name, chosen.is_oracle) == (fastest, fastest == "huggingface")
    assert f"on the first documents {fastest} 2 MB/s, " in notes[0]


def test_an_engine_is_proven_once_for_all_that_choose(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_engines(vocabulary, "fastokens")
    engine = loaded.engines["fastokens"]
    monkeypatch.setattr(engine, "encode", pytest.fail)
    assert loaded.choose(note=pytest.fail).encoder is engine


def test_another_process_begins_with_what_this_one_hands_over(vocabulary: Vocabulary) -> None:
    given = dataclasses.replace(vocabulary)
    threads = {*threading.enumerate()}
    for step in hand_over(given, "auto"):
        step()
    assert parse_vocabulary(vocabulary.tokenizer_json, where="not parsed") is given
    engine = load_engines(given, "fastokens").engines["fastokens"]
    assert {*threading.enumerate()} <= threads
    assert np.array_equal(engine.encode(["a b"])[0], HuggingFaceEncoder(given).encode(["a b"])[0])
    assert [step.func for step in hand_over(given, "huggingface")] == [keep_vocabulary]


def test_what_begins_loading_needs_the_standard_library_alone() -> None:
    code = (
        "import sys, dsv3data.encoding.load_ahead, dsv3data.stages.processes;"
        "sys.exit(not {'numpy', 'pyarrow', 'orjson'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_speed_is_that_of_the_beginnings_of_as_many_texts_as_there_is_time_for() -> None:
    now = 0.0
    calls: list[list[str]] = []

    class Engine:
        """Takes a second of its clock for a million characters."""

        def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
            nonlocal now
            calls.append(list(texts))
            now += sum(map(len, texts)) / 1e6
            return np.empty(0, np.int32), np.zeros(1, np.int64)

    def rate(texts: Sequence[str]) -> float:
        calls.clear()
        return bytes_per_second(Engine(), texts, clock=lambda: now)

    assert rate(["中" * 100_000, "b", *("a" * 40_000,) * 5]) == pytest.approx(
        1e6 * (3 * 8_192 + 1 + 3 * 8_192) / (4 * 8_192 + 1)
    )
    assert [sum(map(len, texts)) for texts in calls] == [8, 8_192, 8_193, 8_192, 8_192]
    assert rate(["a"] * 10) == pytest.approx(1e6)
    assert rate([]) == 0.0


def test_the_oracle_by_name(vocabulary: Vocabulary) -> None:
    chosen = choose_engine(vocabulary, "huggingface", note=pytest.fail)
    assert (chosen.name, chosen.is_oracle) == ("huggingface", True)
    assert chosen.described.startswith("tokenizers 0.")


class Wrong:
    """The oracle with one thing wrong, as engines of the field have been seen to be."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.oracle = HuggingFaceEncoder(vocabulary)

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        return self.oracle.encode([self.change(text) for text in texts])

    def change(self, text: str) -> str:
        raise NotImplementedError


class LosesCarriageReturns(Wrong):
    def change(self, text: str) -> str:
        return text.replace("\r\n", "\n")


class NewerUnicode(Wrong):
    """Takes the unassigned block U+1CEC0 for letters."""

    def change(self, text: str) -> str:
        return "".join(
            "é" if 0x1CEC0 <= ord(character) < 0x1CEF0 else character for character in text
        )


class CutsLongRuns(Wrong):
    def change(self, text: str) -> str:
        return text.replace("=" * 2000, "=" * 1999 + " =")


class MatchesControlTexts(Wrong):
    """`tokenizers` as everybody loads it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.tokenizer = Tokenizer.from_str(vocabulary.tokenizer_json.decode())

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        ids = [one.ids for one in self.tokenizer.encode_batch(list(texts))]
        offsets = np.cumsum([0, *map(len, ids)])
        return np.array([token for one in ids for token in one], dtype=np.int32), offsets


class LacksMerges(Wrong):
    """Loses the last hundred merges."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        tree = json.loads(vocabulary.tokenizer_json)
        tree["model"]["merges"] = tree["model"]["merges"][:-100]
        super().__init__(parse_vocabulary(json.dumps(tree).encode(), where="test"))

    def change(self, text: str) -> str:
        return text


class Fails(Wrong):
    def change(self, text: str) -> str:
        raise ValueError("unsupported pattern")


WRONG = [LosesCarriageReturns, NewerUnicode, CutsLongRuns, MatchesControlTexts, LacksMerges]


def install(monkeypatch: pytest.MonkeyPatch, builder: Any) -> None:
    monkeypatch.setitem(choose._FAST, "fastokens", builder)
    monkeypatch.delitem(choose._AHEAD, "fastokens")


@pytest.mark.parametrize("engine", WRONG, ids=lambda engine: engine.__name__)
def test_a_wrong_engine_is_refused_for_this_tokenizer(
    engine: type[Wrong], vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, engine)
    notes: list[str] = []
    loaded = load_engines(vocabulary, "auto")
    assert loaded.choose(note=notes.append).name == "huggingface"
    (note,) = notes
    assert note.startswith("fastokens was refused for this tokenizer: token ")
    assert " instead of " in note
    with pytest.raises(BadConfig, match="does not give the ids of huggingface") as caught:
        dataclasses.replace(loaded, wanted="fastokens").choose(note=pytest.fail)
    assert "use --engine auto" in caught.value.fix


def test_an_engine_that_fails_is_refused(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, Fails)
    notes: list[str] = []
    assert choose_engine(vocabulary, "auto", note=notes.append).is_oracle
    assert notes == [
        "fastokens was refused for this tokenizer: it fails (unsupported pattern);"
        " huggingface encodes"
    ]


def test_without_a_wheel_the_oracle_encodes_with_a_note(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fastokens", None)
    notes: list[str] = []
    assert choose_engine(vocabulary, "auto", note=notes.append).is_oracle
    assert notes == [
        "fastokens is not installed: huggingface encodes, about a hundred times slower"
    ]
    with pytest.raises(EnvironmentFault, match="the engine fastokens is not installed") as caught:
        choose_engine(vocabulary, "fastokens", note=pytest.fail)
    assert "pip install fastokens" in caught.value.fix


def test_the_first_difference_is_named(vocabulary: Vocabulary) -> None:
    def encoded(*ids: list[int]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        return np.array(list(itertools.chain(*ids)), np.int32), np.cumsum([0, *map(len, ids)])

    assert compare(encoded([3, 4], [5]), encoded([3, 4], [5])) is None
    found = compare(encoded([70, 71], [72]), encoded([70, 71], [73]))
    assert found is not None
    assert found.describe(vocabulary) == "token 0 is 72 (b'f') instead of 73 (b'g')"
    for got, expected, text in (
        (encoded([70]), encoded([70, 71]), "token 1 is missing instead of 71 (b'e')"),
        (encoded([70, 71]), encoded([70]), "token 1 is 71 (b'e') instead of missing"),
        (
            encoded([70], [71, 72]),
            encoded([70, 71], [72]),
            "token 1 is missing instead of 71 (b'e')",
        ),
    ):
        found = compare(got, expected)
        assert found is not None
        assert found.describe(vocabulary) == text
