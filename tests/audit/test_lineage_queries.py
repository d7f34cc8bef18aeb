"""The queries that docs/lineage.md shows, in duckdb, on a real packed set."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

duckdb = pytest.importorskip("duckdb")
DOCUMENT = Path(__file__).parents[2] / "docs" / "lineage.md"
QUERIES = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_shown_queries_answer_right(tiny_packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_packed)
    assert len(QUERIES) == 5
    tables = [pq.read_table(path) for path in sorted(tiny_packed.glob("lineage-*.parquet"))]
    rows = [row for table in tables for row in table.to_pylist()]
    sources = duckdb.sql(QUERIES[0]).fetchall()
    assert {name: tokens for name, tokens, _ in sources} == {
        name: sum(r["token_stop"] - r["token_start"] for r in rows if r["source"] == name)
        for name in {row["source"] for row in rows}
    }
    first = min(row["source"] for row in rows)
    pieces = [row for row in rows if (row["source"], row["position"]) == (first, 0)]
    places = [(*row_of(r), r["slot"]) for r in sorted(pieces, key=lambda r: r["piece"])]
    assert [row[:4] for row in duckdb.sql(QUERIES[1]).fetchall()] == places
    mine = {row_of(row) for row in pieces}
    others = {(r["source"], r["position"]) for r in rows if row_of(r) in mine} - {(first, 0)}
    assert set(duckdb.sql(QUERIES[2]).fetchall()) == others
    flags = duckdb.sql(QUERIES[3]).fetchall()
    assert [row[:2] for row in flags] == [
        (flag, sum(row["flag"] == flag for row in rows))
        for flag in sorted({row["flag"] for row in rows})
    ]
    full = duckdb.sql(QUERIES[4]).fetchall()
    sums: Counter[tuple[str, int, int]] = Counter()
    for row in rows:
        sums[row_of(row)] += row["n_tokens"]
    counts = Counter(sums.values())
    assert all(counts[n_ids] == n_rows for n_ids, n_rows in full)
    assert len(full) == 10


def row_of(piece: dict[str, Any]) -> tuple[str, int, int]:
    return piece["domain"], piece["partition"], piece["row"]
