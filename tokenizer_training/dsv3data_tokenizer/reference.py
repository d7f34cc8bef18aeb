"""The slow twins: the pre-tokenizer by its patterns, counting by a dictionary, merging by scanning.

Written to be obviously right; the tests hold the kernels and Hugging Face's trainer against them.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from functools import cache
from itertools import pairwise

import numpy as np

from dsv3data_tokenizer.pretokenizer import PATTERNS
from dsv3data_tokenizer.unicode_classes import N_CODE_POINTS, properties

Pair = tuple[int, int]


def pieces(text: str) -> list[str]:
    """The pieces of a text: each pattern splits what the patterns before it have left."""
    parts = [text] if text else []
    for pattern in _patterns():
        parts = [piece for part in parts for piece in _split_isolated(pattern, part)]
    return parts


def word_counts(documents: Iterable[bytes]) -> Counter[bytes]:
    """How often each piece occurs."""
    return Counter(piece.encode() for document in documents for piece in pieces(document.decode()))


def merges(
    counts: Mapping[bytes, int],
    *,
    first_ids: Mapping[bytes, int],
    vocab_size: int,
    least: int = 0,
    longest: int = 0,
    without: Set[bytes] = frozenset(),
) -> list[tuple[Pair, int]]:
    """(pair, new id) in the order Hugging Face's trainer finds them.

    A pair stands in the queue with the words it was seen in since it last entered; its count is
    brought up to date when it comes to the head. Keeps the rule for a merge that makes a known
    string, to show that it never applies.

    Args:
        counts: occurrences of each word.
        first_ids: ids of the single bytes; `vocab_size` counts ids from 0.
        least: a pair seen less often is not merged.
        longest: nor is one that makes a token of more bytes; 0 for no limit.
        without: nor is one that makes one of these strings.
    """
    ids = dict(first_ids)
    strings = {number: string for string, number in ids.items()}
    next_id = max(strings) + 1
    words = [[ids[bytes([value])] for value in word] for word in counts]
    weights = list(counts.values())
    pair_counts: Counter[Pair] = Counter()
    places: dict[Pair, set[int]] = defaultdict(set)
    for number, word in enumerate(words):
        for pair in pairwise(word):
            pair_counts[pair] += weights[number]
            places[pair].add(number)
    queue = [(-pair_counts[pair], pair, sorted(where)) for pair, where in places.items()]
    heapq.heapify(queue)
    found = []
    while next_id < vocab_size and queue:
        negative, pair, where = heapq.heappop(queue)
        if -negative != pair_counts[pair]:
            heapq.heappush(queue, (-pair_counts[pair], pair, where))
            continue
        if -negative < max(1, least):
            break
        string = strings[pair[0]] + strings[pair[1]]
        if (longest and len(string) > longest) or string in without:
            continue
        new_id = ids.setdefault(string, next_id)
        if new_id == next_id:
            strings[new_id] = string
            next_id += 1
        found.append((pair, new_id))
        places = defaultdict(set)
        for number in where:
            for changed, sign in _merge_word(words[number], pair, new_id):
                pair_counts[changed] += sign * weights[number]
                if sign > 0:
                    places[changed].add(number)
        for changed, numbers in places.items():
            if pair_counts[changed] > 0:
                heapq.heappush(queue, (-pair_counts[changed], changed, sorted(numbers)))
    return found


def _merge_word(word: list[int], pair: Pair, new_id: int) -> list[tuple[Pair, int]]:
    """Replace the pair from the left, in place; the neighbouring pairs that went and came."""
    changes = []
    place = 0
    while place < len(word) - 1:
        if (word[place], word[place + 1]) == pair:
            if place > 0:
                changes += [((word[place - 1], pair[0]), -1), ((word[place - 1], new_id), 1)]
            if place + 2 < len(word):
                changes += [((pair[1], word[place + 2]), -1), ((new_id, word[place + 2]), 1)]
            word[place : place + 2] = [new_id]
        place += 1
    return changes


def _split_isolated(pattern: re.Pattern[str], text: str) -> list[str]:
    """Matches and what lies between them, in order."""
    parts, end = [], 0
    for match in pattern.finditer(text):
        parts += [text[end : match.start()], match[0]]
        end = match.end()
    return [part for part in [*parts, text[end:]] if part]


@cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    r"""The patterns for `re`, which knows no `\p` and has another `\s`: classes written out."""
    written = []
    for pattern in PATTERNS:
        for letter in "LMNPS":
            pattern = pattern.replace(rf"\p{{{letter}}}{{", f"[{_members(letter)}]{{")
            pattern = pattern.replace(rf"\p{{{letter}}}", _members(letter))
        pattern = pattern.replace(r"\s", f"[{_members('Z')}]").replace(r"\S", f"[^{_members('Z')}]")
        written.append(re.compile(pattern))
    return tuple(written)


def _members(letter: str) -> str:
    """The code points of one property as ranges for a character class."""
    inside = np.zeros(N_CODE_POINTS + 1, dtype=bool)
    inside[:-1] = properties() == ord(letter)
    edges = np.flatnonzero(np.diff(inside, prepend=False))
    return "".join(
        f"\\U{first:08x}-\\U{behind - 1:08x}"
        for first, behind in zip(edges[::2], edges[1::2], strict=True)
    )
