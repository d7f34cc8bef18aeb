"""Keyed order, size limits, duplicates."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from dsv3data_pipelines.demo_documents.selection import (
    LONGEST_BYTES,
    SHORTEST_BYTES,
    Candidate,
    in_keyed_order,
    read_utf8,
    select,
)


def _texts(*texts: str | None) -> list[Candidate]:
    return [
        Candidate(id=f"t/{number}", read=partial(_give, text)) for number, text in enumerate(texts)
    ]


def _give(text: str | None) -> str | None:
    return text


def _ids(candidates: list[Candidate]) -> list[str]:
    return [candidate.id for candidate in candidates]


def test_order_depends_on_seed_and_id_but_not_on_the_order_of_arrival() -> None:
    candidates = _texts(*map(str, range(50)))
    order = _ids(in_keyed_order(candidates, 0))
    assert _ids(in_keyed_order(reversed(candidates), 0)) == order
    assert _ids(in_keyed_order(candidates, 1)) != order
    assert order != sorted(order)


def test_first_of_several_candidates_with_one_id_is_kept() -> None:
    twins = [Candidate(id="a", read=lambda: "first"), Candidate(id="a", read=lambda: "second")]
    (kept,) = in_keyed_order(twins, 0)
    assert kept.read() == "first"


def test_texts_outside_the_limits_unreadable_or_seen_before_are_skipped_and_counted() -> None:
    shortest, longest = "é" * (SHORTEST_BYTES // 2), "x" * LONGEST_BYTES
    surrogate = "\ud800" * SHORTEST_BYTES
    selection = select(
        _texts(shortest, shortest[1:], longest, longest + "x", shortest, None, surrogate),
        size_bytes=10**9,
    )
    assert [document.id for document in selection.documents] == ["t/0", "t/2"]
    assert selection.skipped == 5
    assert selection.size_bytes == SHORTEST_BYTES + LONGEST_BYTES


def test_nothing_is_read_once_the_size_is_reached() -> None:
    def explode() -> str:
        raise AssertionError("read although the size was reached")

    candidates = [*_texts("a" * 100, "b" * 100), Candidate(id="never", read=explode)]
    assert select(candidates, size_bytes=150).size_bytes == 200


def test_read_utf8_keeps_line_ends_and_refuses_other_encodings(tmp_path: Path) -> None:
    good, latin = tmp_path / "good.py", tmp_path / "latin.py"
    good.write_bytes("a\r\nß\n".encode())
    latin.write_bytes("ß".encode("latin-1"))
    assert read_utf8(good) == "a\r\nß\n"
    assert read_utf8(latin) is None
    assert read_utf8(tmp_path / "missing.py") is None
