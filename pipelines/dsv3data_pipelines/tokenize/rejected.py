"""rejected.jsonl: what was refused, and why.

Each unit writes its own file, with line numbers within its spans; publication puts them together,
in the order of the input, with line numbers of the whole file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsv3data.io.atomic import atomic_writer
from dsv3data.io.ledger import WORK_FOLDER
from dsv3data.io.sources import InputLog, Rejected, Unit


def rejected_name(unit: Unit) -> str:
    """The file of the unit's rejections, below the output folder."""
    return f"{WORK_FOLDER}/rejected-{unit.name}.jsonl"


def rejected_line(item: Rejected) -> bytes:
    """A line of the unit's file."""
    names = ("source", "position", "line", "reason", "detail")
    return _line({name: getattr(item, name) for name in names})


def last_line(log: InputLog) -> bytes:
    """The last line of the unit's file: how many lines each of its spans has."""
    return _line({"lines": log.lines})


def merge_rejected(out: Path, units: Sequence[Unit], name: str) -> None:
    """Publish OUT/rejected.jsonl. A unit counts lines from the start of its span; here they get
    the number of the lines before it, which the units left on the last line of their files."""
    lines_before: Counter[str] = Counter()
    with atomic_writer(out / name) as file:
        for unit in units:
            for text in (out / rejected_name(unit)).open("rb"):
                record = json.loads(text)
                if "lines" in record:
                    names = [span.file.name for span in unit.spans]
                    lines_before.update(dict(zip(names, record["lines"], strict=False)))
                    continue
                if record["line"] is not None:
                    record["line"] += lines_before[record["source"]]
                file.write(_line(record))


def first_detail(path: Path, reason: str) -> str:
    """What is said of the first record that was rejected for this reason."""
    records = map(json.loads, path.open("rb"))
    return next((str(one["detail"]) for one in records if one["reason"] == reason), "")


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, ensure_ascii=True) + "\n").encode()
