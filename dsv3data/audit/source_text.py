"""Finding one document in the original files again, by the name and place that lineage has."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dsv3data.contracts.errors import BadInput
from dsv3data.io.sources import (
    Document,
    ReadOptions,
    SourceFile,
    Unit,
    discover,
    plan_units,
    read_unit,
)
from dsv3data.io.sources.streams import decompressed
from dsv3data.io.sources.units import Span

# A document is looked for in a part of its file of about this size, where a file can be cut.
_PART_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class SourceText:
    """A document as its file has it. `line` counts from 1; None where a file has no lines."""

    place: str
    line: int | None
    data: bytes


def read_source(
    inputs: Sequence[Path | str], source: str, position: int, options: ReadOptions
) -> SourceText:
    """The document at `position` of the file that has the name `source` below `inputs`.

    Cost: about 1 MiB of JSONL (and the file up to there for the line number), one row group in
    Parquet; other files are read up to the document.

    Raises:
        BadInput: no such file, or no document there.
    """
    files, _ = discover(inputs, text_files=options.text_files)
    file = next((file for file in files if file.name == source), None)
    if file is None:
        raise BadInput(
            f"none of the inputs holds {source!r}",
            where=", ".join(map(str, inputs)),
            effect="the source text was not read",
            fix="give the files or folders that were given to `dsv3data tokenize`",
        )
    unit = Unit(number=0, spans=(_span_at(file, position),))
    for document in read_unit(unit, options):
        if document.position == position and isinstance(document, Document):
            return SourceText(place=str(file.place), line=_line(file, position), data=document.data)
        if document.position >= position:
            break
    raise BadInput(
        f"no document begins at {position:,}",
        where=str(file.place),
        effect="the source text was not read",
        fix="give the files as they were tokenized, with the same --text-key and the like",
    )


def _span_at(file: SourceFile, position: int) -> Span:
    """The part of the file that the document begins in."""
    units = plan_units([file], unit_bytes=_PART_BYTES)
    spans = [span for unit in units for span in unit.spans]
    first = [span.first_row if file.kind == "parquet" else span.start for span in spans]
    return spans[max(0, bisect.bisect_right(first, position) - 1)]


def _line(file: SourceFile, position: int) -> int | None:
    if file.kind != "jsonl":
        return None
    line, left = 1, position
    for chunk in decompressed(file.place.chunks(), file.compression):
        line += chunk.count(b"\n", 0, left)
        left -= min(left, len(chunk))
        if not left:
            break
    return line
