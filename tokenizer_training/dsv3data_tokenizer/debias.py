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

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.errors import BadInput
from dsv3data.encoding.vocabulary import Vocabulary
from dsv3data_tokenizer.unicode_classes import properties

DEBIAS_NAME = "debias.json"
FORMAT = "dsv3data.debias"
FORMAT_VERSION = 1


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
    return _from_rows(rows, left_out)


def debias_json(table: DebiasTable, vocabulary: Vocabulary) -> bytes:
    """debias.json, UTF-8: one line for each id."""
    rows = zip(table.id.tolist(), table.head.tolist(), table.tail.tolist(), strict=True)
    tokens = ",\n  ".join(json.dumps(row) for row in rows)
    tree = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "tokenizer_sha256": vocabulary.sha256,
        "left_out": table.left_out.tolist(),
    }
    return (json.dumps(tree)[:-1] + f', "tokens": [\n  {tokens}\n]}}\n').encode()


def parse_debias(data: bytes, vocabulary: Vocabulary, *, where: str) -> DebiasTable:
    """Read debias.json. A table may hold fewer ids than `debias_table` finds, never wrong ones.

    Raises:
        BadInput: no such file, of another tokenizer, or with an entry that would change bytes.
    """
    tree = _parse(data, where)
    if tree["tokenizer_sha256"] != vocabulary.sha256:
        raise _unusable("it belongs to another tokenizer", where)
    rows = tree["tokens"]
    ids = [row[0] for row in rows]
    if any(first >= second for first, second in itertools.pairwise(ids)):
        raise _unusable("its ids are not in ascending order", where)
    for row in rows:
        if not _keeps_bytes(row, vocabulary.token_bytes):
            raise _unusable(f"the bytes of the ids in {row} do not add up", where)
    return _from_rows(rows, tree["left_out"])


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


def _from_rows(rows: list[tuple[int, int, int]], left_out: list[int]) -> DebiasTable:
    columns = np.array(rows, dtype=np.int32).reshape(-1, 3)
    return DebiasTable(
        id=columns[:, 0].copy(),
        head=columns[:, 1].copy(),
        tail=columns[:, 2].copy(),
        left_out=np.array(left_out, dtype=np.int32),
    )


def _parse(data: bytes, where: str) -> Mapping[str, Any]:
    try:
        tree: dict[str, Any] = json.loads(data)
        if tree["format"] != FORMAT or tree["format_version"] != FORMAT_VERSION:
            raise _unusable(f"it is not a {FORMAT} file of version {FORMAT_VERSION}", where)
        plain = all(
            type(token) is int and token >= 0
            for row in [*tree["tokens"], tree["left_out"]]
            for token in row
        )
        if not plain or any(len(row) != 3 for row in tree["tokens"]):
            raise _unusable("its tokens are not rows of three ids", where)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unusable(f"it cannot be read: {error!r}", where) from error
    return {**tree, "tokens": [tuple(row) for row in tree["tokens"]]}


def _keeps_bytes(row: tuple[int, int, int], token_bytes: tuple[bytes, ...]) -> bool:
    if max(row) >= len(token_bytes):
        return False
    whole, head, tail = (token_bytes[token] for token in row)
    return bool(head and tail) and whole == head + tail


def _unusable(problem: str, where: str) -> BadInput:
    return BadInput(
        f"the table of splittable tokens cannot be used: {problem}",
        where=where,
        effect="nothing was started",
        fix="train the tokenizer again with `dsv3data tokenizer train`",
    )
