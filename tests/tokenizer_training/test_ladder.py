"""Cut vocabularies against Hugging Face's trainer at the smaller size, byte for byte."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dsv3data.contracts.errors import BadInput
from dsv3data.encoding.vocabulary import parse_vocabulary
from dsv3data_tokenizer.bpe import add_control_tokens, tokenizer_json, train_bpe
from dsv3data_tokenizer.ladder import cut_vocabulary


def trained(texts: Sequence[str], vocab_size: int) -> bytes:
    tokenizer = train_bpe(texts, vocab_size=vocab_size)
    add_control_tokens(tokenizer)
    return tokenizer_json(tokenizer)


def corpus_texts(corpus: Path) -> list[str]:
    lines = [line for path in sorted(corpus.iterdir()) for line in path.open(encoding="utf-8")]
    return [json.loads(line)["text"] for line in lines]


@pytest.mark.parametrize("size", [259, 260, 300, 777, 1499, 1500])
def test_a_cut_is_the_smaller_training(tiny_corpus: Path, tiny_tokenizer: Path, size: int) -> None:
    whole = (tiny_tokenizer / "tokenizer.json").read_bytes()
    cut = cut_vocabulary(whole, size)
    assert cut == trained(corpus_texts(tiny_corpus), size)
    assert parse_vocabulary(cut, where="cut").vocab_size == size + 815
    assert (cut == whole) == (size == 1500)


WORDS = st.lists(st.text("abc", min_size=1, max_size=7), min_size=3, max_size=12)


@settings(max_examples=40, deadline=None)
@given(WORDS, st.integers(0, 2**32))
def test_random_corpora(words: list[str], seed: int) -> None:
    """Few letters in long words: merges that make a string anew, and ties without end."""
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(words, k=30)) for _ in range(5)]
    whole = trained(texts, 300)
    for size in range(259, len(json.loads(whole)["model"]["vocab"]) + 1, 4):
        assert cut_vocabulary(whole, size) == trained(texts, size)


def test_more_merges_than_entries() -> None:
    """A merge that makes an existing string is kept if it comes before the last entry."""
    merges = [["a", "b"], ["ab", "c"], ["b", "c"], ["a", "bc"], ["ab", "d"]]
    tree = json.loads(trained(["x"], 259))
    vocab = {text: number for text, number in tree["model"]["vocab"].items() if number < 259}
    entries = {text: number for number, text in enumerate(["ab", "abc", "bc", "abd"], 259)}
    tree["model"] |= {"vocab": {**vocab, **entries}, "merges": merges}
    tree["added_tokens"] = tree["added_tokens"][:3]
    whole = json.dumps(tree).encode()

    def merges_of(size: int) -> Any:
        return json.loads(cut_vocabulary(whole, size))["model"]["merges"]

    assert merges_of(263) == merges
    assert merges_of(262) == merges[:3]
    assert merges_of(260) == merges[:1]


def test_ids_below_the_cut_stay(tiny_corpus: Path, tiny_tokenizer: Path) -> None:
    whole = (tiny_tokenizer / "tokenizer.json").read_bytes()
    large, small = json.loads(whole), json.loads(cut_vocabulary(whole, 700))
    for text, token in small["model"]["vocab"].items():
        assert large["model"]["vocab"][text] == token
    text = corpus_texts(tiny_corpus)[0]
    cut = Tokenizer.from_str(json.dumps(small))
    assert cut.decode(cut.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("size", [0, 258, 1501, -5])
def test_sizes_that_cannot_be(tiny_tokenizer: Path, size: int) -> None:
    with pytest.raises(BadInput, match=f"it has 1,500 entries, {size:,} were asked for") as caught:
        cut_vocabulary((tiny_tokenizer / "tokenizer.json").read_bytes(), size)
    assert caught.value.fix == "give a size from 259 to 1500"


def test_vocabularies_of_another_layout(tiny_tokenizer: Path) -> None:
    tree = json.loads((tiny_tokenizer / "tokenizer.json").read_bytes())
    vocab = tree["model"]["vocab"]
    last = max(vocab, key=vocab.__getitem__)
    vocab[last] += 1
    with pytest.raises(BadInput, match="its ids have gaps between them"):
        cut_vocabulary(json.dumps(tree).encode(), 400)
    vocab[last] -= 1
    tree["model"]["merges"] = tree["model"]["merges"][:10]
    with pytest.raises(BadInput, match="no merge makes entry 399"):
        cut_vocabulary(json.dumps(tree).encode(), 400)
