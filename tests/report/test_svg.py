"""Figures: well-formed for any input, every coordinate finite and inside the frame."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3data.report.svg import (
    Bar,
    _log_ticks,
    _ticks,
    bar_chart,
    grouped_bars,
    heatmap,
    line_chart,
    running_mean,
)

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


def test_lines_fill_their_frame() -> None:
    svg = chart(loss=[(1, 9.0), (1034, 5.0)])
    start, end = (float(point.split(",")[0]) for point in lines(svg)[0].split())
    assert (start, end) == (pytest.approx(72, abs=1), 704)
    words = [element.text for element in drawn(svg) if element.tag == "text"]
    assert "1,000" in words
    assert "1,500" not in words


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


def test_a_log_scale_puts_doublings_at_equal_distances() -> None:
    points = [(1000.0 * 2**number, float(number)) for number in range(8)]
    svg = line_chart({"a": points}, x_label="size", y_label="y", x_scale="log")
    places = [float(point.split(",")[0]) for point in lines(svg)[0].split()]
    steps = [b - a for a, b in pairwise(places)]
    assert steps == pytest.approx([steps[0]] * 7, abs=0.2)
    words = [element.text for element in drawn(svg) if element.tag == "text"]
    assert {"1,000", "16,000", "128,000"} <= set(words)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(NAMES, st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5), max_size=20))
def test_any_series_on_a_log_scale(series: dict[str, list[tuple[float, float]]]) -> None:
    svg = line_chart(series, x_label="x", y_label="y", x_scale="log")
    drawable = [
        sum(math.isfinite(x) and math.isfinite(y) and x > 0 for x, y in values)
        for values in series.values()
    ]
    assert [len(points.split()) for points in lines(svg)] == drawable


@given(st.lists(st.floats(1e-9, 1e9), max_size=40))
def test_log_ticks_are_some_of_the_values(values: list[float]) -> None:
    ticks = _log_ticks(values)
    assert 2 <= len(ticks) <= 11
    assert all(a < b for a, b in pairwise(ticks))
    if len(set(values)) > 1:
        assert set(ticks) <= set(values)
        assert (ticks[0], ticks[-1]) == (min(values), max(values))


def test_many_names_stand_beside_the_lines() -> None:
    few = chart(a=[(0, 1.0), (9, 2.0)], b=[(0, 1.0), (9, 2.0)])
    many = chart(a=[(0, 1.0), (9, 2.0)], b=[(0, 1.0)], c=[(0, 1.0)])

    def end(svg: str) -> float:
        return float(lines(svg)[0].split()[-1].split(",")[0])

    assert end(many) < end(few)
    names = [e for e in drawn(many) if e.tag == "text" and e.text in ("a", "b", "c")]
    assert all(float(name.attrib["x"]) > end(many) for name in names)


def test_grouped_bars_with_whiskers() -> None:
    groups = {
        "web": [Bar(value=4.0, low=3.0, high=5.0), Bar(value=2.0)],
        "<z>": [Bar(value=1.0, low=1.0, high=1.0), Bar(value=0.0)],
    }
    root = drawn(grouped_bars(groups, ["ours", "<b>"], unit="bytes & more"))
    bars = [e for e in root if e.tag == "rect"]
    assert [e.attrib["class"] for e in bars] == ["fill-0", "fill-1"] * 3  # the legend first
    widths = [float(e.attrib["width"]) for e in bars[2:]]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2)
    assert widths[3] == 1.0
    whiskers = [e.attrib["d"] for e in root if e.tag == "path"]
    assert len(whiskers) == 2
    low, high = (
        float(re.findall(pattern, whiskers[0])[0]) for pattern in (r"M([\d.]+)", r"H([\d.]+)")
    )
    left = float(bars[2].attrib["x"])
    assert (low - left, high - left) == pytest.approx(
        (widths[0] * 3 / 4, widths[0] * 5 / 4), abs=0.3
    )
    words = [element.text for element in root if element.tag == "text"]
    assert words == ["ours", "<b>", "web", "4.00", "2.00", "<z>", "1.00", "0.00"]


def test_one_name_needs_no_legend() -> None:
    root = drawn(grouped_bars({"a": [Bar(value=1.0)]}, ["ours"], unit="x"))
    assert [e.text for e in root if e.tag == "text"] == ["a", "1.00"]


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=70).filter(lambda name: name.isprintable()),
        st.tuples(st.floats(0, 1e12), st.floats(0, 1e12), st.floats(0, 1e12)).map(sorted),
        max_size=6,
    ),
    st.integers(1, 10),
)
def test_any_bars(groups: dict[str, list[float]], names: int) -> None:
    bars = {
        group: [Bar(value=middle, low=low, high=high)] * names
        for group, (low, middle, high) in groups.items()
    }
    root = drawn(grouped_bars(bars, [f"{'n' * 40}{n}" for n in range(names)], unit="x"))
    legend = names if names > 1 else 0
    assert sum(e.tag == "rect" for e in root) == names * len(groups) + legend


def test_a_heatmap_has_a_cell_for_each_value() -> None:
    drawn = heatmap(
        [[1.0, 2.0], [3.0, 1.5], [1.0, 1.0]],
        columns=[10, 20, 30],
        rows=["<a>", "b"],
        x_label="step",
    )
    root = ElementTree.fromstring(drawn)
    cells = [one for one in root.iter() if one.tag.endswith("rect")]
    assert [cell.get("fill-opacity") for cell in cells[:4]] == ["0.000", "0.500", "1.000", "0.250"]
    assert "<a>, step 10: 1.00" in "".join(root.itertext())
    assert len(cells) == 6
    ElementTree.fromstring(heatmap([], columns=[], rows=[], x_label="step"))
    shares = heatmap(
        [[0.0, 0.25]], columns=[64], rows=["a", "b"], x_label="tokens", least=0.0, most=1.0,
        label=lambda share: f"{share:.0%}",
    )  # fmt: skip
    root = ElementTree.fromstring(shares)
    cells = [one for one in root.iter() if one.tag.endswith("rect")]
    assert [cell.get("fill-opacity") for cell in cells] == ["0.000", "0.250"]
    written = [one.text for one in root.iter() if one.get("class") == "cell"]
    assert written == ["0%", "25%"]


def test_one_line_needs_no_legend() -> None:
    one, two = {"a": [(0.0, 1.0), (1.0, 2.0)]}, {"b": [(0.0, 1.0)]}
    assert ">a</text>" not in line_chart(one, x_label="x", y_label="y")
    assert ">a</text>" in line_chart({**one, **two}, x_label="x", y_label="y")


def test_a_smoothed_line_is_the_mean_of_the_points_before_it() -> None:
    values = [(number, float(number % 7)) for number in range(60)]
    smooth = running_mean(values)
    assert smooth[0] == values[0]
    assert smooth[1] == (1, 0.5)
    assert smooth[50] == (50, pytest.approx((48 % 7 + 49 % 7 + 50 % 7) / 3))
    assert running_mean([]) == []
    svg = line_chart({"a": values}, x_label="x", y_label="y", smoothed=True)
    assert svg.count("<polyline") == 2
    assert svg.index('class="faint line series-0"') < svg.index('class="line series-0"')
