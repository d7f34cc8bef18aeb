"""The list of strings that may not become tokens, as a file of JSON lines.

A line is `{"text": "…"}`, or `{"bytes": "e4b8ad"}` in hex where the bytes are no UTF-8; `bytes`
wins, other fields are for the reader. `dsv3data tokenizer report --junk` writes such a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from dsv3data.contracts.errors import BadInput

WITHOUT_NAME = "without.jsonl"


def read_without(paths: Sequence[Path]) -> frozenset[bytes]:
    """The strings of all files.

    Raises:
        BadInput: a file cannot be read, or a line holds no string of at least two bytes.
    """
    return frozenset(string for path in paths for string in _strings(path))


def without_lines(strings: Set[bytes]) -> bytes:
    """The content of such a file, the same for the same strings."""
    return json_lines([string_fields(string) for string in sorted(strings)])


def json_lines(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as lines of JSON."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8")


def without_record(strings: Set[bytes]) -> dict[str, int | str]:
    """What a plan says of the list."""
    return {"strings": len(strings), "sha256": hashlib.sha256(without_lines(strings)).hexdigest()}


def string_fields(string: bytes) -> dict[str, str]:
    """A string as the fields of its line; `text` is for the eye where the bytes are no UTF-8."""
    return {"text": string.decode("utf-8", "backslashreplace"), "bytes": string.hex()}


def _strings(path: Path) -> list[bytes]:
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"the list of strings cannot be read: {error}",
            where=str(path),
            effect="nothing was started",
            fix="give a file of JSON lines as `dsv3data tokenizer report --junk` writes it",
        ) from error
    return [
        _string(line, where=f"{path}:{number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _string(line: str, *, where: str) -> bytes:
    try:
        row = json.loads(line)
        string = bytes.fromhex(row["bytes"]) if "bytes" in row else row["text"].encode("utf-8")
    except (ValueError, TypeError, KeyError, AttributeError):
        string = b""
    if len(string) < 2:
        raise BadInput(
            "this line names no string of at least two bytes",
            where=where,
            effect="nothing was started",
            fix='a line is {"text": "…"} or {"bytes": "e4b8ad"}; single bytes are always tokens',
        )
    return string
