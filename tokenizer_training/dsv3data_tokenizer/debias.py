"""debias.json: the tokens that `pack` may split, as a file beside tokenizer.json.

`pack` derives the table anew from tokenizer.json (`dsv3data.encoding.debias`), so that it works
with a tokenizer that came without this file; the file is for other programs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any

from dsv3data.contracts.errors import BadInput
from dsv3data.encoding.debias import (
    DebiasTable,
    debias_table,
    punctuation_break_ids,
    table_from_rows,
)
from dsv3data.encoding.vocabulary import Vocabulary

__all__ = [
    "DEBIAS_NAME",
    "DebiasTable",
    "debias_json",
    "debias_table",
    "parse_debias",
    "punctuation_break_ids",
]

DEBIAS_NAME = "debias.json"
FORMAT = "dsv3data.debias"
FORMAT_VERSION = 1


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
    return table_from_rows(rows, tree["left_out"])


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
