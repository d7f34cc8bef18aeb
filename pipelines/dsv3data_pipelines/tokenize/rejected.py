"""rejected.jsonl: the units' rejections in input order, with line numbers of the whole file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from dsv3data.io.atomic import atomic_writer
from dsv3data.io.ledger import WORK_FOLDER
from dsv3data.io.sources import Span, Unit
from dsv3data.io.sources.jsonl import first_line_start
from dsv3data.io.sources.streams import read_chunks


def merge_rejected(out: Path, units: Sequence[Unit], name: str) -> None:
    """Publish OUT/rejected.jsonl. A unit counts lines from the start of its span; here they get
    the number of the lines before it, which costs one pass over the files that need it."""
    bases: dict[str, list[tuple[int, int]]] = {}
    with atomic_writer(out / name) as file:
        for unit in units:
            for line in (out / WORK_FOLDER / f"rejected-{unit.name}.jsonl").open("rb"):
                record = json.loads(line)
                if record["line"] is not None:
                    source = record["source"]
                    if source not in bases:
                        bases[source] = list(_line_bases(_spans(units, source)))
                    record["line"] += _base(bases[source], record["position"])
                file.write((json.dumps(record, ensure_ascii=True) + "\n").encode())


def _spans(units: Sequence[Unit], source: str) -> list[Span]:
    return [span for unit in units for span in unit.spans if span.file.name == source]


def _line_bases(spans: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """(offset of the span's first line, lines before it) for each span of one file."""
    yield 0, 0
    if len(spans) == 1:
        return
    starts = [first_line_start(span) for span in spans[1:]]
    offset = lines = 0
    chunks = read_chunks(spans[0].file.path)
    chunk = next(chunks, b"")
    for start in starts:
        while chunk and offset + len(chunk) < start:
            lines += chunk.count(b"\n")
            offset += len(chunk)
            chunk = next(chunks, b"")
        head = chunk[: start - offset]
        yield start, lines + head.count(b"\n")


def _base(bases: Sequence[tuple[int, int]], position: int) -> int:
    return max(lines for offset, lines in bases if offset <= position)
