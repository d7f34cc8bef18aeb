"""The page of a set: its figures, and names that are no markup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dsv3data.audit.report import report_set
from dsv3data.contracts.progress import NullSink
from dsv3data.report.set_page import changes_table, set_page
from dsv3data.report.svg import histogram


@pytest.fixture(scope="module")
def tree(tiny_packed: Path) -> dict[str, Any]:
    return report_set(tiny_packed, sink=NullSink())


def test_a_packed_sets_page(tree: dict[str, Any]) -> None:
    page = set_page(tree)
    assert page.count("<svg") == 2
    for name, figures in tree["domains"].items():
        assert f">{name}</td>" in page
        assert f">{figures['padding']:,}</td>" in page
    assert tree["root"] in page
    assert not re.search(r"<script|src=|https?:|url\(", page)


def test_names_are_escaped(tree: dict[str, Any]) -> None:
    hostile = "<script>alert(1)</script>"
    longest = [{"tokens": 1, "source": hostile, "position": 0}]
    page = set_page({**tree, "folder": hostile, "longest": longest})
    assert hostile not in page
    assert page.count("&lt;script&gt;alert(1)") == 3  # title, heading, table


def test_what_packing_changed_has_a_table(tree: dict[str, Any]) -> None:
    made = changes_table(tree)
    assert made is not None
    columns, rows = made
    figures = dict(zip(columns[1:5], rows[-1][1:5], strict=True))
    counted = tree["all"]["debias"]
    assert figures["FIM documents"] == f"{tree['all']['fim_documents']:,}"
    assert figures["split tokens"] == f"{counted['split']:,}"
    assert rows[-1][-1] == f"{counted['split'] / counted['splittable']:.2%}"
    page = set_page({**tree, "all": {**tree["all"], "fim_left_plain": {"too_short": 1234}}})
    assert "stayed plain: too short 1,234." in page


def test_a_token_sets_page(tiny_tokens: Path) -> None:
    page = set_page(report_set(tiny_tokens, sink=NullSink()))
    assert page.count("<svg") == 1
    assert "bytes per token" in page


def test_bars_stand_on_one_another() -> None:
    svg = histogram(["a", "b"], {"x": [10, 0], "<y>": [5, 5]}, x_label="<l>", y_label="n")
    bars = re.findall(
        r'<rect class="fill-(\d)" x="([\d.]+)" y="([\d.]+)" .*? height="([\d.]+)"', svg
    )
    heights = [(int(c), float(y), float(h)) for c, _, y, h in bars[:4]]
    (_, x_top, x_height), (_, y_top, y_height) = heights[:2]
    assert x_height == pytest.approx(2 * y_height, abs=0.2)
    assert y_top + y_height == pytest.approx(x_top, abs=0.2)
    assert heights[2][2] == 0
    assert "<y>" not in svg
    assert "<l>" not in svg
    assert "<svg" in histogram([], {}, x_label="x", y_label="y")
