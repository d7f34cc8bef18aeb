"""Other programs: tiktoken's ranks and pattern, `transformers` and its chat template."""

from __future__ import annotations

import base64
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, pre_tokenizers

from dsv3data.contracts import special_tokens
from dsv3data.contracts.special_tokens import padded_vocab_size
from dsv3data.encoding.huggingface import HuggingFaceEncoder
from dsv3data.encoding.vocabulary import Vocabulary, load_vocabulary
from dsv3data_tokenizer.exports import TIKTOKEN_PATTERN, tiktoken_ranks
from dsv3data_tokenizer.pretokenizer import PATTERNS
from dsv3data_tokenizer.unicode_classes import properties

# One or more of each kind that the patterns tell apart, the edges of the blocks included.
TELLING = (
    " \t\n\r\u3000\u0085\u00a0\u2028\x00\x01\u200b\u200d\ufeff\ue000\U000e0001abAZé"
    "中文ひー・゛゠\u3040\u3097\u3099\u309a一龥龦〇123²½.,!_'-—$→😀\u0301\u0903"
)
ONE_CUT = pre_tokenizers.Split(Regex(TIKTOKEN_PATTERN), behavior="isolated")
THREE_CUTS = pre_tokenizers.Sequence(
    [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in PATTERNS]
)
LEFT_OVER = pre_tokenizers.Split(Regex(TIKTOKEN_PATTERN), behavior="removed")


def pieces(cutter: Any, text: str) -> list[str]:
    return [piece for piece, _ in cutter.pre_tokenize_str(text)]


def assert_cut_alike(text: str) -> None:
    assert pieces(ONE_CUT, text) == pieces(THREE_CUTS, text)
    assert pieces(LEFT_OVER, text) == []


ANY_CHARACTER = st.characters(exclude_categories=["Cs"]) | st.sampled_from(TELLING)


@settings(max_examples=1000, deadline=None)
@given(st.text(ANY_CHARACTER, max_size=12))
def test_one_pattern_cuts_as_three_do(text: str) -> None:
    assert_cut_alike(text)


def test_code_points_at_every_change_of_class_beside_every_kind() -> None:
    edges = np.flatnonzero(np.diff(properties()))
    code_points = [chr(code) for code in {*edges, *(edges + 1)} if not 0xD800 <= code < 0xE000]
    assert len(code_points) > 3000
    for shift in range(0, len(TELLING), 5):
        text = "".join(
            character + TELLING[(number + shift) % len(TELLING)]
            for number, character in enumerate(code_points)
        )
        assert_cut_alike(text)


def read_ranks(data: bytes) -> dict[bytes, int]:
    lines = [line.split() for line in data.splitlines()]
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def encode_by_ranks(text: str, ranks: dict[bytes, int]) -> list[int]:
    """tiktoken's algorithm, as its educational encoder has it."""
    ids = []
    for piece in pieces(ONE_CUT, text):
        data = piece.encode()
        parts = [data] if data in ranks else [bytes([byte]) for byte in data]
        while len(parts) > 1:
            joined = [ranks.get(parts[at] + parts[at + 1], 1 << 30) for at in range(len(parts) - 1)]
            at = joined.index(min(joined))
            if joined[at] == 1 << 30:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [ranks[part] for part in parts]
    return ids


@pytest.fixture(scope="module")
def vocabulary(tiny_tokenizer: Path) -> Vocabulary:
    return load_vocabulary(tiny_tokenizer)


@pytest.fixture(scope="module")
def texts(tiny_corpus: Path) -> list[str]:
    lines = [line for path in sorted(tiny_corpus.iterdir()) for line in path.open(encoding="utf-8")]
    rng = random.Random(3)
    noise = ["".join(rng.choices(TELLING, k=40)) for _ in range(50)]
    return [json.loads(line)["text"][:3000] for line in lines[::3]] + noise


def test_ranks_are_the_ids(vocabulary: Vocabulary) -> None:
    ranks = read_ranks(tiktoken_ranks(vocabulary))
    assert sorted(ranks.values()) == list(range(3, 1500))
    assert all(vocabulary.token_bytes[rank] == data for data, rank in ranks.items())


def test_ranks_and_pattern_give_the_same_ids(vocabulary: Vocabulary, texts: list[str]) -> None:
    ranks = read_ranks(tiktoken_ranks(vocabulary))
    values, offsets = HuggingFaceEncoder(vocabulary).encode(texts)
    assert len(values) > 20_000
    for number, text in enumerate(texts):
        expected = values[offsets[number] : offsets[number + 1]].tolist()
        assert encode_by_ranks(text, ranks) == expected


# `transformers`: loaded once, in a process of its own, so that nothing it says is missed.

LOAD = """
import json, sys, warnings
warnings.simplefilter("error")
import transformers
transformers.logging.set_verbosity_warning()
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], local_files_only=True)
asked = json.load(sys.stdin)
ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in asked["texts"]]
chats = []
for options in asked["chats"]:
    try:
        text = tokenizer.apply_chat_template(tokenize=False, **options)
        got = tokenizer.apply_chat_template(tokenize=True, **options)
        chats.append([text, list(got["input_ids"])])
    except Exception as error:
        chats.append([type(error).__name__ + ": " + str(error), []])
json.dump({
    "class": type(tokenizer).__name__, "ids": ids, "chats": chats,
    "decoded": [tokenizer.decode(tokens) for tokens in ids],
    "special": [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id],
    "size": len(tokenizer), "longest": tokenizer.model_max_length,
    "rows": tokenizer.init_kwargs["embedding_rows"],
}, sys.stdout)
"""

SYSTEM = {"role": "system", "content": "Be brief.\n"}
USER = {"role": "user", "content": " 1 + 1? "}
ANSWER = {"role": "assistant", "content": "2.\n"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"type": "function", "function": {"name": "天", "arguments": {"b": "é<"}}},
    ],
}
OUTPUTS = [{"role": "tool", "content": "2"}, {"role": "tool", "content": "3"}]
U, A, BOS, EOS = "<｜User｜>", "<｜Assistant｜>", special_tokens.BOS, special_tokens.EOS
CALLED = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n"
    '```json\n{"a": 1}\n```<｜tool▁call▁end｜>\n'
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>天\n"
    '```json\n{"b": "é<"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
)
GIVEN_BACK = (
    "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>2<｜tool▁output▁end｜>\n"
    "<｜tool▁output▁begin｜>3<｜tool▁output▁end｜><｜tool▁outputs▁end｜>"
)
# (messages, whether the assistant is asked to speak, the text)
CHATS: list[tuple[list[dict[str, Any]], bool, str]] = [
    ([USER], True, f"{BOS}{U} 1 + 1? {A}"),
    ([USER], False, f"{BOS}{U} 1 + 1? "),
    ([SYSTEM, USER, ANSWER], False, f"{BOS}Be brief.\n{U} 1 + 1? {A}2.\n{EOS}"),
    (
        [SYSTEM, USER, ANSWER, SYSTEM, USER],
        True,
        f"{BOS}Be brief.\n\n\nBe brief.\n{U} 1 + 1? {A}2.\n{EOS}{U} 1 + 1? {A}",
    ),
    ([USER, CALL, *OUTPUTS], True, f"{BOS}{U} 1 + 1? {A}{CALLED}{EOS}{GIVEN_BACK}"),
    (
        [USER, CALL, *OUTPUTS, ANSWER, USER],
        True,
        f"{BOS}{U} 1 + 1? {A}{CALLED}{EOS}{GIVEN_BACK}2.\n{EOS}{U} 1 + 1? {A}",
    ),
    ([{**CALL, "content": "I add."}], False, f"{BOS}{A}I add.{CALLED}{EOS}"),
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"conversation": [{"role": "judge", "content": "x"}]}, "a message has the role judge"),
    (
        {"conversation": [USER], "tools": [{"type": "function", "function": {"name": "f"}}]},
        "this template has no place for tools",
    ),
]


@pytest.fixture(scope="module")
def loaded(tiny_tokenizer: Path, texts: list[str]) -> dict[str, Any]:
    chats = [
        {"conversation": messages, "add_generation_prompt": prompt} for messages, prompt, _ in CHATS
    ]
    chats += [options for options, _ in REFUSED]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tiny_tokenizer)],
        input=json.dumps({"texts": texts, "chats": chats}).encode(),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_transformers_loads_it_without_a_word(loaded: dict[str, Any]) -> None:
    assert loaded["special"] == [0, 1, 2]
    assert loaded["size"] == 1500 + 815
    assert loaded["longest"] == 131_072
    assert loaded["rows"] == padded_vocab_size(loaded["size"])


def test_transformers_gives_the_same_ids_and_texts(
    loaded: dict[str, Any], tiny_tokenizer: Path, texts: list[str]
) -> None:
    reference = Tokenizer.from_file(str(tiny_tokenizer / "tokenizer.json"))
    assert loaded["ids"] == [reference.encode(text).ids for text in texts]
    assert loaded["decoded"] == texts


@pytest.mark.parametrize("number", range(len(CHATS)))
def test_chats(loaded: dict[str, Any], vocabulary: Vocabulary, number: int) -> None:
    text, ids = loaded["chats"][number]
    assert text == CHATS[number][2]
    names = {token: name for name, token in vocabulary.control_texts.items()}
    spelled = b"".join(
        names[token].encode() if token in names else vocabulary.token_bytes[token] for token in ids
    )
    assert spelled.decode() == text
    marks = [names[token] for token in ids if token in names]
    assert marks == re.findall("<｜.*?｜>", text)


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_chats_that_are_refused(loaded: dict[str, Any], number: int) -> None:
    text, _ = loaded["chats"][len(CHATS) + number]
    assert REFUSED[number][1] in text
