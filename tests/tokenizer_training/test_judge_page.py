"""The report's page and short texts: hostile text stays text, and figures are those of the tree."""

from __future__ import annotations

import copy
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dsv3data.contracts.progress import NullSink
from dsv3data.io.sources import ReadOptions
from dsv3data_tokenizer.judge.figures import (
    by_unit,
    interval,
    percent,
    relative,
    token_rows,
    visible,
)
from dsv3data_tokenizer.judge.judge import judge_tokenizer
from dsv3data_tokenizer.judge.page import report_page

HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror='a'>\" &amp;"


@pytest.fixture(scope="module")
def report(tiny_tokenizer: Path, tiny_corpus: Path, tmp_path_factory: Any) -> dict[str, Any]:
    lines = [line for path in sorted(tiny_corpus.iterdir()) for line in path.open(encoding="utf-8")]
    rows = [{**json.loads(line), "lang": "xx"} for line in lines]
    path = tmp_path_factory.mktemp("page") / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return judge_tokenizer(
        tiny_tokenizer,
        [path],
        options=ReadOptions(),
        sink=NullSink(),
        against=[("", tiny_tokenizer)],
        language_key="lang",
        sample_bytes=20_000,
    )


class Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not {name for name, _ in attributes if name.startswith("on") or name == "src"}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_every_section_and_figure_is_there(report: dict[str, Any]) -> None:
    reader = Reader(report_page(report))
    shown = "\n".join(reader.texts)
    for heading in (
        "Bytes per token",
        "Compression by domain",
        "Compression by language",
        "Growth of the vocabulary",
        "Use of the vocabulary",
        "Worst documents",
        "What was read",
    ):
        assert heading in reader.texts
    for rows in report["compression"]["domains"].values():
        assert interval(rows[0]["bytes_per_token"]) in shown
        assert by_unit(rows[1]) in shown
    assert report["tokenizers"][0]["sha256"] in shown
    assert reader.tags.count("svg") == 3
    assert reader.tags.count("polyline") == 3
    assert reader.tags.count("path") == 8  # whiskers: three domains and a language, two each


def test_texts_of_others_stay_texts(report: dict[str, Any]) -> None:
    tree = copy.deepcopy(report)
    tree["tokenizers"][0]["name"] = tree["tokenizers"][1]["name"] = HOSTILE
    for rows in (tree["worst_documents"], tree["vocabulary"]["longest"]):
        for row in rows:
            row |= {"beginning": HOSTILE, "source": HOSTILE, "text": HOSTILE}
    tree["compression"]["languages"] = {HOSTILE: tree["compression"]["languages"]["xx"]}
    reader = Reader(report_page(tree))
    assert not {"script", "img"} & set(reader.tags)
    assert sum(HOSTILE in text for text in reader.texts) > 10


def test_a_report_with_little_in_it(tiny_tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a"}', encoding="utf-8")
    tree = judge_tokenizer(
        tiny_tokenizer, [tmp_path / "x.jsonl"], options=ReadOptions(), sink=NullSink()
    )
    assert tree["worst_documents"] == []
    reader = Reader(report_page(tree))
    assert "Compression by language" not in reader.texts
    assert "1.00" in reader.texts


@pytest.mark.parametrize(
    ("value", "low", "high", "plain", "signed"),
    [
        (4.318, 4.2, 4.41, "4.32 (4.20–4.41)", "+331.8 % (+320.0 to +341.0)"),
        (0.95, 0.9, 1.01, "0.95 (0.90–1.01)", "-5.0 % (-10.0 to +1.0)"),
        (1.0, None, None, "1.00", "+0.0 %"),
        (None, None, None, "–", "–"),
    ],
)
def test_estimates_as_text(
    value: float | None, low: float | None, high: float | None, plain: str, signed: str
) -> None:
    estimate = {"value": value, "low": low, "high": high}
    assert interval(estimate) == plain
    assert relative(estimate) == signed
    assert relative(estimate, short=True) == signed.split(" (")[0]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (1.0, "100.0 %"),
        (0.2369, "23.7 %"),
        (0.00331, "0.33 %"),
        (0.0000134, "0.0013 %"),
        (0.0, "0.0 %"),
        (None, "–"),
    ],
)
def test_shares_as_text(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_tokens_in_one_line() -> None:
    row = {"text": " a\n\tb", "id": 1234, "bytes": 5, "count": 6789}
    assert token_rows([row]) == [("␣a⏎→b", "1,234", "5", "6,789")]
    ((text, *_),) = token_rows([{**row, "text": "-" * 100}])
    assert text == "-" * 20 + "…" + "-" * 20
    assert visible("a b\r\n") == "a b␍⏎"
