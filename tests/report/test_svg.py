"""Figures: well-formed for any input, every coordinate finite and inside the frame."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3data.report.svg import _ticks, bar_chart, line_chart

NUMBERS = st.floats(-1e30, 1e30) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e17])


def drawn(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    for element in root.iter():
        for name in ("x", "x1", "x2", "width"):
            if name in element.attrib:
                assert -1 <= float(element.attrib[name]) <= width + 1
        for name in ("y", "y1", "y2"):
            if name in element.attrib:
                assert -1 <= float(element.attrib[name]) <= height + 1
        for point in element.attrib.get("points", "").split():
            x, y = map(float, point.split(","))
            assert -1 <= x <= width + 1
            assert -1 <= y <= height + 1
    return root


def lines(svg: str) -> list[str]:
    return [e.attrib["points"] for e in drawn(svg) if e.tag == "polyline"]


def chart(**series: list[tuple[float, float]]) -> str:
    return line_chart(series, x_label="step", y_label="loss")


def test_each_series_is_a_line_with_a_legend() -> None:
    svg = chart(main=[(0, 4.0), (10, 2.0)], mtp=[(0, 5.0), (10, 3.0), (20, 2.5)])
    first, second = lines(svg)
    assert len(first.split()) == 2
    assert len(second.split()) == 3
    words = [element.text for element in drawn(svg) if element.tag == "text"]
    assert {"main", "mtp", "step", "loss"} <= set(words)
    (x_1, y_1), (x_2, y_2) = (map(float, point.split(",")) for point in first.split())
    assert x_1 < x_2
    assert y_1 < y_2  # down the page


@pytest.mark.parametrize("series", [{}, {"empty": []}, {"bad": [(math.nan, 1.0), (1.0, math.inf)]}])
def test_no_points_give_an_empty_frame(series: dict[str, list[tuple[float, float]]]) -> None:
    svg = chart(**series)
    assert lines(svg) == [""] * len(series)
    assert "nan" not in svg
    assert "inf" not in svg


@pytest.mark.parametrize("y", [0.0, 2.5, -3.0, 1e17, 1e300, 1e-300])
def test_one_point(y: float) -> None:
    (points,) = lines(chart(one=[(5, y)]))
    assert len(points.split()) == 1


def test_points_that_are_not_finite_are_left_out() -> None:
    (points,) = lines(chart(a=[(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)]))
    assert len(points.split()) == 2


NAMES = st.text("ab<&'\"é ", max_size=4)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(NAMES, st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5), max_size=4))
def test_any_series(series: dict[str, list[tuple[float, float]]]) -> None:
    svg = line_chart(series, x_label="<x>", y_label='"y" & z')
    assert not re.search(r"\b(nan|inf)\b", re.sub(r">[^<]*<", "><", svg))
    finite = [
        sum(math.isfinite(x) and math.isfinite(y) for x, y in values) for values in series.values()
    ]
    assert [len(points.split()) for points in lines(svg)] == finite


@given(st.lists(st.floats(-1e30, 1e30), max_size=4))
def test_ticks_span_the_values(values: list[float]) -> None:
    ticks = _ticks(values)
    assert 2 <= len(ticks) <= 12
    assert all(a < b for a, b in pairwise(ticks))
    if values:
        slack = (ticks[-1] - ticks[0]) * 1e-6
        assert ticks[0] - slack <= min(values)
        assert max(values) <= ticks[-1] + slack


def test_bars() -> None:
    svg = bar_chart({"web": 4.0, "zh": 2.0, "<x>": 0.0}, unit="bytes & more")
    root = drawn(svg)
    widths = [float(e.attrib["width"]) for e in root if e.tag == "rect"]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert widths[2] == 1.0
    words = [element.text for element in root if element.tag == "text"]
    assert words == ["web", "4 bytes & more", "zh", "2 bytes & more", "<x>", "0 bytes & more"]


@pytest.mark.parametrize(
    "values", [{}, {"a": 0.0}, {"a": math.nan, "b": 1.0}, {"a": -1.0}, {"a": math.inf, "b": 1.0}]
)
def test_bars_without_sense_are_still_drawn(values: dict[str, float]) -> None:
    drawn(bar_chart(values, unit="x"))
