"""Sealed JSON: a document that carries the SHA-256 of itself and is byte-exact or refused.

Used for manifests, ledger entries and checkpoint states, so that a flipped bit in any of them is
found when it is read, white space included.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsv3data.contracts.errors import IntegrityError

SEAL = "seal_sha256"


def seal(tree: Mapping[str, Any]) -> bytes:
    """Canonical JSON (sorted keys, one-space indent, UTF-8) of `tree` with its seal."""
    body = _canonical({**tree, SEAL: ""})
    return _canonical({**tree, SEAL: hashlib.sha256(body).hexdigest()})


def unseal(data: bytes, *, where: str, fix: str) -> dict[str, Any]:
    """The tree of a sealed document.

    Raises:
        IntegrityError: the bytes are not exactly what `seal` wrote.
    """
    try:
        tree = json.loads(data.decode("utf-8"))
        intact = (
            isinstance(tree, dict) and seal({k: v for k, v in tree.items() if k != SEAL}) == data
        )
    except (ValueError, RecursionError):
        intact = False
    if not intact:
        raise IntegrityError(
            "the file is damaged: its content does not match the checksum in it",
            where=where,
            effect="nothing was read from it",
            fix=fix,
        )
    del tree[SEAL]
    return dict(tree)


def read_sealed(path: Path, *, fix: str) -> dict[str, Any]:
    """`unseal` of a file; a missing file raises FileNotFoundError."""
    return unseal(path.read_bytes(), where=str(path), fix=fix)


def _canonical(tree: Mapping[str, Any]) -> bytes:
    text = json.dumps(tree, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8")
