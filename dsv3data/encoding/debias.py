"""Tokens of punctuation followed by line breaks, and where `pack` may split them.

The pre-tokenizer lets punctuation and line breaks share a token. A prompt that ends in punctuation
then ends in an id that training text has seldom had before a line break: the token boundary bias
[Lundberg 2023, "The art of prompt design: prompt boundaries and token healing"]. DeepSeek-V3
counters it by splitting a share of such tokens at random [arXiv 2412.19437 §4.1]; the share and the
split are not published. Here a token is split at the border between punctuation and line breaks,
because that is where prompts end.

A token whose punctuation (or whose line breaks) is no token of its own is left out: any other cut
of it would be at a border where no prompt ends, and several ids for one would make rows longer by
an unknown amount. In DeepSeek-V3's tokenizer that leaves 689 of 799 ids, and in text nearly all
occurrences.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsv3data.encoding.unicode_properties import properties
from dsv3data.encoding.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True, eq=False)
class DebiasTable:
    """Ids that may be replaced by (head, tail) without a change of the decoded bytes.

    Attributes:
        id: ascending, int32 [N].
        head: the punctuation or symbols, a space before them included, int32 [N].
        tail: the line breaks, int32 [N].
        left_out: ids of the same kind for which head or tail is no token, ascending, int32 [M].
    """

    id: NDArray[np.int32]
    head: NDArray[np.int32]
    tail: NDArray[np.int32]
    left_out: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.id)


def punctuation_break_ids(vocabulary: Vocabulary) -> list[int]:
    """Ids whose bytes are ` ?[\\p{P}\\p{S}]+[\\r\\n]+` (DeepSeek-V3 has 799).

    Tokens that begin inside a code point are not among them.
    """
    return [token for token, data in enumerate(vocabulary.token_bytes) if _is_combined(data)]


def debias_table(vocabulary: Vocabulary) -> DebiasTable:
    """The table of a tokenizer, a pure function of its tokenizer.json."""
    ids = {data: token for token, data in enumerate(vocabulary.token_bytes) if data}
    rows: list[tuple[int, int, int]] = []
    left_out: list[int] = []
    for token in punctuation_break_ids(vocabulary):
        head, tail = _parts(vocabulary.token_bytes[token])
        if head in ids and tail in ids:
            rows.append((token, ids[head], ids[tail]))
        else:
            left_out.append(token)
    return table_from_rows(rows, left_out)


def table_from_rows(rows: Iterable[tuple[int, int, int]], left_out: Iterable[int]) -> DebiasTable:
    """Rows (id, head, tail) by ascending id, and the ids left out."""
    columns = np.array(list(rows), dtype=np.int32).reshape(-1, 3)
    return DebiasTable(
        id=columns[:, 0].copy(),
        head=columns[:, 1].copy(),
        tail=columns[:, 2].copy(),
        left_out=np.array(list(left_out), dtype=np.int32),
    )


def _is_combined(data: bytes) -> bool:
    if not data.endswith((b"\n", b"\r")):
        return False
    head, _ = _parts(data)
    try:
        text = head.decode("utf-8").removeprefix(" ")
    except UnicodeDecodeError:
        return False
    return bool(text) and bool(np.isin(properties()[[ord(mark) for mark in text]], _P_AND_S).all())


_P_AND_S = np.frombuffer(b"PS", dtype=np.uint8)


def _parts(data: bytes) -> tuple[bytes, bytes]:
    head = data.rstrip(b"\r\n")
    return head, data[len(head) :]
