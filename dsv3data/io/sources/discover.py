"""Which files an input names, of what kind, under names that do not depend on where they lie."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NoReturn

from dsv3data.contracts.errors import BadInput

Kind = Literal["jsonl", "parquet", "arrow", "text"]
Compression = Literal["", "gz", "zst"]

_SUFFIXES: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
}


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file to read. `name` is relative to the input it was found under, with `/` separators."""

    name: str
    path: Path
    kind: Kind
    compression: Compression
    size: int


def discover(
    inputs: Sequence[Path], *, text_files: Iterable[str]
) -> tuple[list[SourceFile], list[str]]:
    """Files below `inputs`, sorted by name, and the names of files of no known kind.

    A file given itself must be of a known kind; in a folder other kinds are listed as skipped.
    Hidden files and folders are left out. Links are followed for files given themselves, never
    inside a folder.

    Raises:
        BadInput: nothing found, an unreadable folder, a file of unknown kind or with a name that is
            no text, two files of one name.
    """
    patterns = tuple(text_files)
    found: list[SourceFile] = []
    skipped: list[str] = []
    for root in inputs:
        for path, name in _walk(root):
            kind = _kind_of(path.name, patterns)
            if kind is not None:
                found.append(_source_file(path, name, *kind))
            elif path == root:
                raise _unknown_kind(path)
            else:
                skipped.append(name)
    found.sort(key=lambda file: file.name)
    skipped.sort()
    _refuse_twins(found)
    if not found:
        raise BadInput(
            "no documents found: no .jsonl, .parquet, .arrow or text file "
            f"({', '.join(patterns)}) there",
            where=", ".join(map(str, inputs)),
            effect="nothing was started",
            fix="check the path, or name further text files with --text-files '*.md'",
        )
    return found, skipped


def _walk(root: Path) -> Iterable[tuple[Path, str]]:
    if root.is_file():
        return [(root, root.name)]
    if not root.is_dir():
        raise BadInput(
            "the input is neither a file nor a folder" if root.exists() else "no such input",
            where=str(root),
            effect="nothing was started",
            fix="check the path",
        )
    return _files_below(root)


def _files_below(root: Path) -> Iterator[tuple[Path, str]]:
    """Regular files that are not hidden. (`Path.rglob` passes over what it may not read.)"""
    for folder, subfolders, names in os.walk(root, onerror=_refuse_folder):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if not name.startswith(".") and stat.S_ISREG(path.lstat().st_mode):
                yield path, path.relative_to(root).as_posix()


def _refuse_folder(error: OSError) -> NoReturn:
    raise BadInput(
        f"a folder of the input cannot be read: {error.strerror}",
        where=str(error.filename),
        effect="nothing was started: its documents would be missing",
        fix="make it readable, or move it out of the input",
    ) from error


def _kind_of(name: str, patterns: Sequence[str]) -> tuple[Kind, Compression] | None:
    stem, compression = _strip_compression(name)
    suffix = Path(stem).suffix.lower()
    kind = _SUFFIXES.get(suffix)
    if kind == "jsonl" or (kind is not None and not compression):
        return kind, compression
    if any(fnmatch(name, pattern) for pattern in patterns):
        return "text", compression
    return None


def _strip_compression(name: str) -> tuple[str, Compression]:
    lower = name.lower()
    if lower.endswith(".gz"):
        return name[:-3], "gz"
    if lower.endswith(".zst"):
        return name[:-4], "zst"
    return name, ""


def _source_file(path: Path, name: str, kind: Kind, compression: Compression) -> SourceFile:
    if not _is_utf8(name):
        raise BadInput(
            f"the file's name is not UTF-8: {name!r}",
            where=ascii(str(path.parent)),
            effect="nothing was started: lineage could not name its documents",
            fix="rename it",
        )
    return SourceFile(
        name=name, path=path, kind=kind, compression=compression, size=path.stat().st_size
    )


def _is_utf8(name: str) -> bool:
    """Bytes of a name that are not UTF-8 come from the system as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _unknown_kind(path: Path) -> BadInput:
    return BadInput(
        "the file is of no kind that documents are read from",
        where=str(path),
        effect="nothing was started",
        fix="convert it to .jsonl, .parquet or .arrow, or read it whole as one text document "
        f"with --text-files '*{path.suffix or path.name}'",
    )


def _refuse_twins(files: Sequence[SourceFile]) -> None:
    for first, second in itertools.pairwise(files):
        if first.name == second.name:
            raise BadInput(
                f"two input files have the same name {first.name!r} relative to their inputs",
                where=f"{first.path} and {second.path}",
                effect="nothing was started: their documents would get the same keys",
                fix="give the folder above both as one input, or rename one",
            )
