"""Which files an input names, of what kind, under names that do not depend on where they lie."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Literal

from dsv3data.contracts.errors import BadInput
from dsv3data.io.sources.place import Place, links_below, walk

Kind = Literal["jsonl", "csv", "parquet", "arrow", "text"]
Compression = Literal["", "gz", "zst"]

_SUFFIXES: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
# Kinds that are read as a stream of bytes, and so may be compressed.
_STREAMED = ("jsonl", "csv")


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file to read. `name` is relative to the input it was found under, with `/` separators."""

    name: str
    place: Place
    kind: Kind
    compression: Compression

    @property
    def size(self) -> int:
        """Bytes, as the file lies there."""
        return self.place.size


def discover(
    inputs: Sequence[Path | str], *, text_files: Iterable[str]
) -> tuple[list[SourceFile], list[str]]:
    """Files below `inputs` (paths, URLs), sorted by name, and what was skipped, with the reason.

    A file given itself must be of a known kind; in a folder other kinds are skipped. Links are
    followed for files given themselves, inside a folder they are skipped. Hidden files and folders
    are left out.

    Raises:
        BadInput: nothing found, an unreadable folder, a file of unknown kind or with a name that is
            no text, two files of one name.
    """
    patterns = tuple(text_files)
    found: list[SourceFile] = []
    skipped: list[str] = []
    for root in inputs:
        for name, place in walk(root):
            kind = _kind_of(PurePosixPath(name).name, patterns)
            if kind is not None:
                found.append(_source_file(place, name, *kind))
            elif str(place) == str(root):
                raise _unknown_kind(place, name)
            else:
                skipped.append(f"{name} (unknown kind)")
    links = [f"{name} (link)" for root in inputs for name in links_below(root)]
    found.sort(key=lambda file: file.name)
    _refuse_twins(found)
    if not found:
        raise BadInput(
            "no documents found: no .jsonl, .csv, .parquet, .arrow or text file "
            f"({', '.join(patterns)}) there"
            + (f"; {len(links)} links in it were not followed" if links else ""),
            where=", ".join(map(str, inputs)),
            effect="nothing was started",
            fix="give the files and folders that the links lead to"
            if links
            else "check the path, or name further text files with --text-files '*.md'",
        )
    return found, sorted(skipped) + sorted(links)


def _kind_of(name: str, patterns: Sequence[str]) -> tuple[Kind, Compression] | None:
    stem, compression = _strip_compression(name)
    suffix = PurePosixPath(stem).suffix.lower()
    kind = _SUFFIXES.get(suffix)
    if kind in _STREAMED or (kind is not None and not compression):
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


def _source_file(place: Place, name: str, kind: Kind, compression: Compression) -> SourceFile:
    if not _is_utf8(name):
        raise BadInput(
            f"the file's name is not UTF-8: {name!r}",
            where=ascii(str(place)),
            effect="nothing was started: lineage could not name its documents",
            fix="rename it",
        )
    return SourceFile(name=name, place=place, kind=kind, compression=compression)


def _is_utf8(name: str) -> bool:
    """Bytes of a name that are not UTF-8 come from the system as lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _unknown_kind(place: Place, name: str) -> BadInput:
    return BadInput(
        "the file is of no kind that documents are read from",
        where=str(place),
        effect="nothing was started",
        fix="rename it to .jsonl if each line is a JSON object; else convert it to .jsonl, .csv,"
        " .parquet or .arrow, or read it whole as one text document "
        f"with --text-files '*{PurePosixPath(name).suffix or name}'",
    )


def _refuse_twins(files: Sequence[SourceFile]) -> None:
    for first, second in itertools.pairwise(files):
        if first.name == second.name:
            raise BadInput(
                f"two input files have the same name {first.name!r} relative to their inputs",
                where=f"{first.place} and {second.place}",
                effect="nothing was started: their documents would get the same keys",
                fix="give the folder above both as one input, or rename one",
            )
