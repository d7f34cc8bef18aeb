"""The file of strings that may not become tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.manifest import TOKENIZER
from dsv3data.encoding.vocabulary import load_vocabulary
from dsv3data.io.manifest_file import read_manifest
from dsv3data_tokenizer.without import read_without, without_lines, without_record
from run_cli import run_cli
from tiny_data import write_jsonl


def test_what_is_written_is_read(tmp_path: Path) -> None:
    strings = frozenset({b"ab", "é中".encode(), b"\xe4\xb8", b"line\nbreak", b'"quoted"'})
    (tmp_path / "a.jsonl").write_bytes(without_lines(strings))
    (tmp_path / "b.jsonl").write_text('\n{"text": "by hand", "why": "ugly"}\n\n', encoding="utf-8")
    assert read_without([tmp_path / "a.jsonl", tmp_path / "b.jsonl"]) == strings | {b"by hand"}
    assert without_record(strings)["strings"] == 5
    assert without_record(strings) == without_record(frozenset(sorted(strings)))
    assert without_record(strings) != without_record(strings | {b"cd"})


@pytest.mark.parametrize(
    "line",
    ["ab", "7", '{"bytes": "zz"}', '{"bytes": 7}', '{"text": "a"}', '{"text": ["ab"]}', "{}", "[]"],
)
def test_other_lines_are_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match="no string of at least two bytes") as caught:
        read_without([path])
    assert caught.value.where == f"{path}:2"


@pytest.mark.parametrize("data", [None, b"\xff\xfe"])
def test_an_unreadable_file_is_refused(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "list.jsonl"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BadInput, match="the list of strings cannot be read"):
        read_without([path])


def test_junk_is_listed_and_left_out(tmp_path: Path, tiny_corpus: Path) -> None:
    """From the command that lists it to a tokenizer without it."""
    rule = "-=" * 24
    documents = [json.loads(line) for path in sorted(tiny_corpus.iterdir()) for line in path.open()]
    corpus = write_jsonl(
        tmp_path / "in.jsonl", [*documents, {"text": f"{rule} é\n" * 40, "domain": "log"}]
    )
    first, second, junk = tmp_path / "first", tmp_path / "second", tmp_path / "junk.jsonl"
    training = ["tokenizer", "train", corpus, "--vocab-size", "2000", "--out"]
    assert run_cli(*training, first).code == 0
    told = run_cli("tokenizer", "report", first, corpus, "--junk", junk)
    assert told.code == 0, told.err
    rows = [json.loads(line) for line in junk.read_text(encoding="utf-8").splitlines()]
    assert {row["why"] for row in rows} == {"over_long", "single_source"}
    assert f"{len(rows)} junk candidates: {junk}" in told.out
    single = [row for row in rows if row["why"] == "single_source"]
    assert rule in {row["text"] for row in rows}
    assert {(row["source"], row["domain"]) for row in single if set(row["text"]) == {"-", "="}} == {
        ("in.jsonl", "log")
    }
    strings = {bytes.fromhex(row["bytes"]) for row in rows}
    assert strings <= set(load_vocabulary(first).token_bytes)

    done = run_cli(*training, second, "--without", junk, "--ladder", "1000")
    assert done.code == 0, done.err
    for folder in (second, tmp_path / "second-1000"):
        assert strings.isdisjoint(load_vocabulary(folder).token_bytes)
        assert read_without([folder / "without.jsonl"]) == strings
        plan = read_manifest(folder, expect=(TOKENIZER,)).plan
        assert plan["without"]["strings"] == len(strings)
        assert f"{len(strings):,} strings, see without.jsonl" in (folder / "README.md").read_text()
    refused = run_cli(*training, second)
    assert refused.code == 3  # another recipe
