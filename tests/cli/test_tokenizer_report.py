"""`dsv3data tokenizer report` as a user gives it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from folders import everything
from run_cli import CliResult
from tiny_data import write_texts

Cli = Callable[..., CliResult]


@pytest.fixture
def report(cli: Cli) -> Cli:
    return partial(cli, "tokenizer", "report")


def test_tables_for_people(report: Cli, tiny_tokenizer: Path, tiny_corpus: Path) -> None:
    before = everything(tiny_tokenizer)
    twice = ("--against", tiny_tokenizer, "--against", f"same={tiny_tokenizer}")
    result = report(tiny_tokenizer, tiny_corpus, *twice, "--sample-mb", "0.02")
    assert result.code == 0, result.err
    for expected in (
        "bytes per token",
        "tokenizer (2)",
        "same",
        "+0.0 %",
        "punctuation+newline tokens",
        "unused here",
        "worst documents",
        "1,500",
    ):
        assert expected in result.out
    assert [line.split(":")[0] for line in result.err.splitlines()] == [
        "read documents",
        "encode",
        "encode",
        "encode",
        "report",
    ]
    assert everything(tiny_tokenizer) == before


def test_json_is_the_whole_tree(report: Cli, tiny_tokenizer: Path, tiny_corpus: Path) -> None:
    result = report(tiny_tokenizer, tiny_corpus, "--json", "--sample-mb", "0.02")
    assert result.code == 0
    tree = json.loads(result.out, parse_constant=pytest.fail)
    assert list(tree) == [
        "folder",
        "tokenizers",
        "sample",
        "intervals",
        "compression",
        "growth",
        "vocabulary",
        "worst_documents",
        "junk",
    ]
    assert all(row["bytes"] <= 20_000 for row in tree["sample"]["domains"].values())
    quiet = report(tiny_tokenizer, tiny_corpus, "--json", "--quiet", "--sample-mb", "0.02")
    assert (quiet.err, json.loads(quiet.out)) == ("", tree)


def test_reading_options_and_languages(report: Cli, tiny_tokenizer: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"body": f"text {n}", "kind": "a", "lang": "en"} for n in range(3)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    options = ["--text-key", "body", "--domain-key", "kind", "--language-key", "lang"]
    tree = report(tiny_tokenizer, path, *options, "--json").json
    assert list(tree["compression"]["domains"]) == ["a"]
    assert list(tree["compression"]["languages"]) == ["en"]
    assert "language" in report(tiny_tokenizer, path, *options).out


def test_a_page(report: Cli, tiny_tokenizer: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "page.html"
    page.parent.mkdir()
    result = report(tiny_tokenizer, tiny_corpus, "--html", page, "--sample-mb", "0.02")
    assert result.code == 0
    assert result.out.splitlines()[-1] == f"page: {page}"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("size", ["0", "-1", "x"])
def test_sizes_that_are_usage_errors(
    report: Cli, tiny_tokenizer: Path, tiny_corpus: Path, size: str
) -> None:
    result = report(tiny_tokenizer, tiny_corpus, "--sample-mb", size)
    assert result.code == 2
    assert "--sample-mb" in result.err


def test_what_cannot_be_read_is_exit_code_3(
    report: Cli, tiny_tokenizer: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    for arguments in (
        (tmp_path, tiny_corpus),
        (tiny_tokenizer, tmp_path),
        (tiny_tokenizer, tiny_corpus, "--against", tmp_path / "none"),
        (tiny_tokenizer, tiny_corpus, "--language-key", "tongue"),
    ):
        result = report(*arguments, "-q")
        assert (result.code, result.out) == (3, "")
        assert [line.split(":")[0] for line in result.err.splitlines()] == [
            "error",
            "where",
            "effect",
            "fix",
        ]


def test_hostile_texts_and_names_cannot_drive_the_terminal(
    report: Cli, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    name = "[red]\x1b[2J\u202e"
    path = write_texts(tmp_path / f"{name}.jsonl", ["\x1b[31m[bold]\u202e" * 40, "[/x] \x9b"])
    other = tmp_path / f"{name}.json"
    other.write_bytes((tiny_tokenizer / "tokenizer.json").read_bytes())
    result = report(tiny_tokenizer, path, "--against", other)
    assert result.code == 0
    assert not set("\x1b\x9b\u202e") & set(result.out + result.err)
    assert "[red]␛[2J" in result.out
