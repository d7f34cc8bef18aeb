"""Smaller vocabularies cut from the merges of a larger one.

Merges are learned in order, so a vocabulary of N entries begins with that of any smaller size: one
training gives a whole ladder of nested tokenizers. Ids below the cut are the same in all of them.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer

from dsv3data.contracts.errors import BadInput
from dsv3data_tokenizer.bpe import tokenizer_json as write_tokenizer_json
from dsv3data_tokenizer.config import SMALLEST_VOCABULARY


def cut_vocabulary(tokenizer_json: bytes, vocab_size: int) -> bytes:
    """The tokenizer.json that training on the same text with `vocab_size` entries writes.

    Merges are kept up to the one that makes the last entry: where a merge makes a string that has
    an id already there are more merges than entries. Added tokens follow the new last entry.

    Raises:
        BadInput: the tokenizer has fewer entries, or is not laid out as ours are.
    """
    tree = json.loads(tokenizer_json)
    vocab: dict[str, int] = tree["model"]["vocab"]
    size = len(vocab)
    _check(vocab, vocab_size)
    tree["model"]["vocab"] = {text: token for text, token in vocab.items() if token < vocab_size}
    tree["model"]["merges"] = _merges_up_to(tree["model"]["merges"], vocab, vocab_size)
    for token in tree["added_tokens"]:
        if token["id"] >= size:
            token["id"] += vocab_size - size
    return write_tokenizer_json(Tokenizer.from_str(json.dumps(tree)))


def _merges_up_to(
    merges: list[list[str]], vocab: dict[str, int], vocab_size: int
) -> list[list[str]]:
    if vocab_size == SMALLEST_VOCABULARY:
        return []
    for number, (left, right) in enumerate(merges):
        if vocab[left + right] == vocab_size - 1:
            return merges[: number + 1]
    raise _refused(f"no merge makes entry {vocab_size - 1:,}", "give one of dsv3data's tokenizers")


def _check(vocab: dict[str, Any], vocab_size: int) -> None:
    if not SMALLEST_VOCABULARY <= vocab_size <= len(vocab):
        raise _refused(
            f"it has {len(vocab):,} entries, {vocab_size:,} were asked for",
            f"give a size from {SMALLEST_VOCABULARY} to {len(vocab)}",
        )
    if set(vocab.values()) != set(range(len(vocab))):
        raise _refused("its ids have gaps between them", "give one of dsv3data's tokenizers")


def _refused(problem: str, fix: str) -> BadInput:
    return BadInput(
        f"the vocabulary cannot be cut: {problem}",
        where="tokenizer.json",
        effect="no smaller tokenizer was made",
        fix=fix,
    )
