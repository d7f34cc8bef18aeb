"""The page of rows: everything of the rows is on it, and nothing of a document is markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from dsv3data.audit.inspect import Part, PieceView, RowView, count_rows, inspect_rows
from dsv3data.report.row_page import row_page

HOSTILE = "</pre></div><script>alert(1)</script><img src=x onerror='alert(2)'>&amp;\"'`"


class Tags(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    return tags


def view(text: str, source: str) -> RowView:
    parts = tuple(Part(kind=kind, text=text, n_tokens=3) for kind in ("prefix", "suffix", "middle"))
    piece = PieceView(
        slot=0, source=source, position=7, key="00", piece=1, n_pieces=2, token_start=5,
        token_stop=14, n_tokens=13, fim=True, ends_document=True, parts=parts,
    )  # fmt: skip
    return RowView(
        row=3,
        shard="s",
        row_in_shard=3,
        domain="web",
        context=16,
        n_tokens=13,
        padding=3,
        pieces=(piece,),
    )


def test_documents_cannot_become_markup() -> None:
    plain, hostile = (
        parsed(row_page("t", [view("x", "y")])),
        row_page("t", [view(HOSTILE, HOSTILE)]),
    )
    tags = parsed(hostile)
    assert tags.tags == plain.tags
    assert [name for name, _ in tags.attributes] == [name for name, _ in plain.attributes]
    assert tags.text.count(HOSTILE) == 4  # three parts and the heading
    assert hostile.count("<script>") == 1
    assert not re.search(r"""\b(src|on\w+)=["']|https?:|@import|url\(""", hostile.replace(
        "onerror=&#x27;", ""
    ))  # fmt: skip


def test_the_page_says_what_a_row_is() -> None:
    text = parsed(row_page("Rows", [view("some text", "a.jsonl")])).text
    for words in (
        "Row 3 · s, row 3 · web · 13 of 16 ids · 1 piece",
        "a.jsonl at 7 · piece 2 of 2 · FIM (PSM) · tokens 5 to 14 · 13 ids",
        "prefix some text",
        "suffix some text",
        "middle some text",
        "end of sentence",
        "padding: 3 ids",
    ):
        assert words in text


def test_all_text_of_real_rows_is_on_the_page(tiny_packed: Path) -> None:
    views = list(inspect_rows(tiny_packed, range(5, 25)))
    assert count_rows(tiny_packed) > 25
    page = row_page("Rows", views)
    text = parsed(page).text
    fim = 0
    for row in views:
        for piece in row.pieces:
            fim += piece.fim
            for part in piece.parts:
                assert part.text in text
    assert fim > 3
    assert page.count('class="bar"') == 20
