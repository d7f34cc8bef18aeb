"""rejected.jsonl: the units' rejections in input order, with line numbers of the whole file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dsv3data.io.atomic import atomic_writer
from dsv3data_pipelines.tokenize.unit import TokenizeUnit


def merge_rejected(out: Path, tasks: Sequence[TokenizeUnit], name: str) -> None:
    """Publish OUT/rejected.jsonl. A unit counts lines from the start of its span; here they get
    the number of the lines before it, which the units left on the last line of their files."""
    lines_before: Counter[str] = Counter()
    with atomic_writer(out / name) as file:
        for task in tasks:
            for text in (out / task.rejected_name).open("rb"):
                record = json.loads(text)
                if "lines" in record:
                    names = [span.file.name for span in task.unit.spans]
                    lines_before.update(dict(zip(names, record["lines"], strict=False)))
                    continue
                if record["line"] is not None:
                    record["line"] += lines_before[record["source"]]
                file.write((json.dumps(record, ensure_ascii=True) + "\n").encode())
