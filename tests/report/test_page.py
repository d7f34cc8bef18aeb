"""Pages: hostile text stays text, and nothing is fetched from anywhere."""

from __future__ import annotations

from html.parser import HTMLParser

from dsv3data.report.page import code_block, html_table, page, paragraph
from dsv3data_pipelines.demo.page import demo_page

HOSTILE = "</title></style></pre><script>alert(1)</script><img src=x onerror='a'>\" & &amp;"


class Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def safe(text: str) -> Reader:
    reader = Reader(text)
    assert "script" not in reader.tags
    assert "img" not in reader.tags
    for name, value in reader.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "href")
        assert "url(" not in (value or "")
    assert "http" not in text
    assert "url(" not in text
    assert "@import" not in text
    return reader


def test_hostile_text_is_shown_as_text() -> None:
    body = (
        html_table((HOSTILE, "b"), [(HOSTILE, "1")])
        + code_block([HOSTILE, "x"])
        + paragraph(HOSTILE)
    )
    reader = safe(page(HOSTILE, HOSTILE, [(HOSTILE, body)]))
    assert [text for text in reader.texts if HOSTILE in text] != []
    assert sum(text.count(HOSTILE) for text in reader.texts) == 8
    assert reader.tags.count("style") == 1


def test_structure() -> None:
    text = page("Title", "Lead", [("One", "<p>1</p>"), ("Two", "")])
    reader = safe(text)
    assert text.startswith("<!doctype html>")
    assert reader.tags.count("section") == 2
    assert "utf-8" in text


def test_tables_have_a_cell_for_each_value() -> None:
    reader = Reader(html_table(("a", "b"), [("1", "2"), ("3", "4")]))
    assert (reader.tags.count("th"), reader.tags.count("td")) == (2, 4)
    assert "thead" in reader.tags
    kinds = [value for name, value in reader.attributes if name == "class"]
    assert kinds == ["wide", *["text", "number"] * 3]
    reader = Reader(html_table(("a", "b", "c"), [("1", "2", "3")], text_columns=(0, 2)))
    kinds = [value for name, value in reader.attributes if name == "class"]
    assert kinds == ["wide", *["text", "number", "text"] * 2]


def test_the_page_of_the_demo_holds_every_figure() -> None:
    figures = {"documents": 10, "bytes": 2_500_000, "tokens": 1000, "rows": 7, "padding_share": 0.5}
    summary = {
        **figures,
        "context": 128,
        "domains": {"web": figures, HOSTILE: figures},
        "train": {
            "first_loss": 9.123,
            "last_loss": 3.456,
            "step": [1, 2, 3],
            "losses": [9.0, 5.0, 3.0],
            "mtp_losses": [9.5, None, 4.0],
            "bits_per_byte_curve": [3.0, 2.0, 1.25],
            "bits_per_byte": 1.234,
            "tokens_per_s": 5432.1,
            "wall_s": 12.3,
        },
        "fim": {"documents": 0.1, "tokens": 0.0987},
        "tokenizer_sha256": "t" * 64,
        "tokens_root": "r" * 64,
        "packed_root": "p" * 64,
        "commands": [HOSTILE],
        "next": ["dsv3data inspect x"],
    }
    text = demo_page(summary)
    reader = safe(text)
    shown = "\n".join(reader.texts)
    for expected in ("9.12", "3.46", "1.23 bits per byte", "9.87%", "50.0000%", "p" * 64, HOSTILE):
        assert expected in shown
    assert reader.tags.count("svg") >= 2
    assert reader.tags.count("polyline") >= 2
