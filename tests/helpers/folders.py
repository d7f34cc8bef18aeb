"""Folders of data sets in tests: copies to damage, and comparison byte for byte."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from dsv3data.contracts.manifest import RUN_NAME
from dsv3data.io.manifest_file import read_manifest


def copy_of(folder: Path, to: Path) -> Path:
    """A copy that a test may damage; links are not followed and nothing is shared."""
    shutil.copytree(folder, to)
    return to


def published(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that a reader of the folder sees.

    Hidden files are the program's own; run.json holds the wall-clock facts of a run.
    """
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RUN_NAME and not _is_hidden(path.relative_to(folder))
    }


def everything(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, the ledger included; locks only say who came last."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def root_of(folder: Path) -> str:
    """The root hash of a finished folder."""
    return read_manifest(folder).root


def flip_bit(path: Path, offset: int, bit: int) -> None:
    """Flip one bit of a file in place, and make sure that it did change."""
    with path.open("r+b") as file:
        file.seek(offset)
        before = file.read(1)
        after = bytes([before[0] ^ (1 << bit)])
        file.seek(offset)
        file.write(after)
    assert before != after


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
