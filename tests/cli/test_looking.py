"""trace, report, export, inspect --html and verify --quick as a user gives them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from run_cli import CliResult

Cli = Callable[..., CliResult]


def test_trace(cli: Cli, tiny_packed: Path, tiny_corpus: Path) -> None:
    place = ("trace", tiny_packed, "--row", "3", "--position")
    tree = cli(*place, "1", "--input", tiny_corpus, "--json").json
    line = (tiny_corpus / tree["source"]).read_bytes().splitlines()[tree["line"] - 1]
    start, stop = tree["bytes_range"]
    assert json.loads(line)["text"].encode()[start:stop]
    result = cli(*place, "1", "--input", tiny_corpus)
    assert (result.code, result.err) == (0, "")
    for words in (f"line {tree['line']:,}", f"{tree['source']} at", tree["key"], "checked in"):
        assert words in result.out
    last = cli(*place, "127").out
    assert "kind       control" in last or "kind       padding" in last or "characters" in last


def test_trace_names_what_is_wrong(cli: Cli, tiny_packed: Path, tmp_path: Path) -> None:
    result = cli("trace", tiny_packed, "--row", "3", "--position", "999")
    assert result.code == 3
    assert "there is no position 999 in row 3" in result.err
    result = cli("trace", tiny_packed, "--row", "3", "--position", "1", "--input", tmp_path / "x")
    assert result.code == 3
    assert "no such input" in result.err
    assert cli("trace", tiny_packed, "--row", "3").code == 2


@pytest.mark.parametrize("kind", ["tokens", "packed"])
def test_report(cli: Cli, kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{kind}")
    page = tmp_path / "page.html"
    tree = cli("report", folder, "--json", "-q").json
    assert {"format", "root", "all", "domains", "lengths", "longest"} <= set(tree)
    result = cli("report", folder, "--html", page, "-q")
    assert (result.code, result.err) == (0, "")
    for words in (*tree["domains"], tree["root"], "█", f"page: {page}"):
        assert words in result.out
    assert tree["root"] in page.read_text(encoding="utf-8")


def test_export(cli: Cli, tiny_packed: Path, tmp_path: Path) -> None:
    command = ("export", tiny_packed, "--format", "megatron", "--out", tmp_path / "out")
    planned = cli(*command, "--dry-run", "--json", "-q").json
    assert planned["units"]["web"][1:] == ["web_text_document.bin", "web_text_document.idx"]
    assert "code_text_document.idx" in cli(*command, "--dry-run", "-q").out
    assert not (tmp_path / "out").exists()
    tree = cli(*command, "--json", "-q").json
    assert tree["files"]["web_text_document.bin"] > 1000
    assert cli(*command, "--json", "-q").json == tree
    result = cli("export", tiny_packed, "--format", "hf", "--out", tmp_path / "out")
    assert result.code == 3
    assert "format: megatron → hf" in result.err
    result = cli(*command, "--fresh", "-q")
    assert result.code == 0
    assert "web_text_document.idx" in result.out
    assert cli("export", tiny_packed, "--format", "csv", "--out", tmp_path / "x").code == 2
    model = ("export", tiny_packed, "--format", "hf-model", "--out", tmp_path / "x", "--dry-run")
    assert "--dry-run is for sets, not for hf-model" in cli(*model).err


def test_rows_are_found_in_their_shard(cli: Cli, tiny_packed: Path, tiny_tokens: Path) -> None:
    last = cli("report", tiny_packed, "--json", "-q").json["all"]["rows"] - 1
    view = cli("inspect", tiny_packed, "--row", str(last), "--json").json
    assert 0 < view["row_in_shard"] < last
    place = ("--shard", view["shard"], "--row", str(view["row_in_shard"]))
    assert cli("inspect", tiny_packed, *place, "--json").json == view
    traced = ("trace", tiny_packed, "--position", "1", "--json")
    assert cli(*traced, *place).json == cli(*traced, "--row", str(last)).json
    beyond = cli("inspect", tiny_packed, *place[:2], "--row", str(view["row_in_shard"] + 1))
    assert beyond.code == 3
    assert f"the shard has no row {view['row_in_shard'] + 1}" in beyond.err
    unknown = cli("inspect", tiny_packed, "--shard", view["shard"][:-1], "--row", "0")
    assert unknown.code == 3
    assert "the set has no shard" in unknown.err
    assert f"for example {view['shard']}" in unknown.err
    (shard,) = [path.name for path in tiny_tokens.glob("tokens-00000-*")]
    of_tokens = cli(
        "trace", tiny_tokens, "--shard", shard, "--row", "1", "--position", "0", "--json"
    )
    assert of_tokens.json["row"] == 1


def test_inspect_writes_a_page(cli: Cli, tiny_packed: Path, tmp_path: Path) -> None:
    page = tmp_path / "rows.html"
    result = cli("inspect", tiny_packed, "--row", "2", "--rows", "3", "--html", page)
    assert result.code == 0
    assert f"page: {page}" in result.out
    text = page.read_text(encoding="utf-8")
    assert text.count('class="bar"') == 3
    assert "Row 2 ·" in text
    assert "Row 5 ·" not in text
    assert cli("inspect", tiny_packed, "--html", tmp_path / "no" / "x.html").code == 5


def test_verify_quick(cli: Cli, tiny_packed: Path) -> None:
    quick, full = (
        cli("verify", tiny_packed, *flags, "--json", "-q").json for flags in (("--quick",), ())
    )
    assert (quick["quick"], full["quick"]) == (True, False)
    assert quick["root"] == full["root"]
    assert quick["facts"] == {}
    assert "looked at, not read" in cli("verify", tiny_packed, "--quick", "-q").out
