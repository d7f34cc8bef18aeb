"""The files that `build_documents` writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsv3data.contracts.errors import BadInput
from dsv3data_pipelines.demo_documents import DomainSizes, DomainSummary, build_documents
from dsv3data_pipelines.demo_documents.build import build_from
from dsv3data_pipelines.demo_documents.python_source import PythonPlaces

_SMALL = DomainSizes(
    code_bytes=150_000, en_bytes=60_000, math_bytes=80_000, least_total_bytes=300_000
)
_DOMAINS = ["code", "en", "multi", "math"]


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[DomainSummary]]:
    out = tmp_path_factory.mktemp("demo") / "documents"
    return out, build_documents(out)


def test_this_environment_gives_at_least_fifteen_million_bytes(
    full: tuple[Path, list[DomainSummary]],
) -> None:
    out, summaries = full
    assert [summary.domain for summary in summaries] == _DOMAINS
    assert sum(summary.size_bytes for summary in summaries) >= 15_000_000
    assert sorted(_bytes_of(out)) == sorted(f"{domain}.jsonl" for domain in _DOMAINS)


def test_lines_are_compact_json_with_unique_ids_and_summaries_count_them(
    full: tuple[Path, list[DomainSummary]],
) -> None:
    out, summaries = full
    ids: set[str] = set()
    for summary in summaries:
        lines = (out / f"{summary.domain}.jsonl").read_bytes().split(b"\n")
        assert lines.pop() == b""
        rows = [json.loads(line) for line in lines]
        assert all(list(row) == ["id", "text", "domain"] for row in rows)
        assert {row["domain"] for row in rows} == {summary.domain}
        assert len(rows) == summary.documents
        assert sum(len(row["text"].encode()) for row in rows) == summary.size_bytes
        assert len({row["text"] for row in rows}) == len(rows)
        assert not any(row["id"].startswith("/") for row in rows)
        assert ids.isdisjoint(row["id"] for row in rows)
        ids.update(row["id"] for row in rows)
        again = json.dumps(rows[0], ensure_ascii=False, separators=(",", ":")).encode()
        assert again == lines[0]


def test_two_runs_write_the_same_bytes_and_another_seed_writes_others(tmp_path: Path) -> None:
    summaries = [
        build_documents(tmp_path / name, seed=seed, sizes=_SMALL)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert summaries[0] == summaries[1]
    assert _bytes_of(tmp_path / "a") == _bytes_of(tmp_path / "b")
    for name, data in _bytes_of(tmp_path / "a").items():
        assert (tmp_path / "c" / name).read_bytes() != data


def test_a_poor_environment_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    places = PythonPlaces(stdlib=tmp_path / "lib", packages=(tmp_path / "packages",))
    with pytest.raises(BadInput) as caught:
        build_from(places, tmp_path / "out", seed=0, sizes=DomainSizes())
    message = str(caught.value)
    assert (
        "bytes of text in this Python environment, the demo needs 15,000,000 (code 0, " in message
    )
    assert f"where: {tmp_path / 'lib'}, {tmp_path / 'packages'}" in message
    assert "effect: no documents were written" in message
    assert "fix: run the demo from an environment with more packages" in message
    assert not (tmp_path / "out").exists()
