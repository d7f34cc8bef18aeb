"""Figures as inline SVG. Colours come from the page's CSS classes, so that dark mode works."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

Series = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 16, 36
# Where many lines have their names: right of the lines instead of over them.
_NAMES_WIDTH, _MANY = 130, 3
# Colours of the page's style.
_COLOURS = 8
# Width of a character of a label, about.
_CHARACTER = 7


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A value and, where there is one, its interval."""

    value: float
    low: float | None = None
    high: float | None = None


def line_chart(
    series: Mapping[str, Series],
    *,
    x_label: str,
    y_label: str,
    x_scale: Literal["linear", "log"] = "linear",
    smoothed: bool = False,
) -> str:
    """Lines over a common x axis; each series is a list of (x, y) points.

    Smoothed, a line is the mean of the points before (`running_mean`), the points themselves are a
    faint one behind all lines.

    Points that are not finite are left out; on a log scale also those with x of 0 or less, and the
    values of x themselves are its ticks. No points give an empty frame.
    """
    log = x_scale == "log"
    drawn = {name: _drawable(values, log) for name, values in series.items()}
    points = [point for values in drawn.values() for point in values]
    x_values = [x for x, _ in points]
    x_ticks = _log_ticks(x_values) if log else _ticks(x_values)
    x_stop = x_ticks[-1]
    if not log and max(x_values, default=x_ticks[0]) > x_ticks[1]:
        # The frame ends with the lines: up to a round number half of it might be empty.
        x_stop = max(x_values)
        x_ticks = [tick for tick in x_ticks if tick <= x_stop]
    y_ticks = _ticks([y for _, y in points])
    right = _WIDTH - (_NAMES_WIDTH if len(series) >= _MANY else _RIGHT)
    x = _Scale(x_ticks[0], x_stop, _LEFT, right, log=log)
    y = _Scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(x_ticks, y_ticks, x, y, right)]
    if smoothed:
        parts += _lines(drawn.values(), x, y, "faint line")
        drawn = {name: running_mean(values) for name, values in drawn.items()}
    parts += _lines(drawn.values(), x, y, "line")
    # One line is what the heading says it is.
    parts.append(_labels(list(series) if len(series) > 1 else [], x_label, y_label, right))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_label)} over '
        f'{escape(x_label)}">{"".join(parts)}</svg>'
    )


def _lines(drawn: Iterable[Series], x: _Scale, y: _Scale, kind: str) -> Iterator[str]:
    for number, values in enumerate(drawn):
        path = " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in values)
        yield f'<polyline class="{kind} series-{number % _COLOURS}" points="{path}"/>'


def running_mean(values: Series) -> Series:
    """Each y replaced by the mean of the last twentieth of the points up to it."""
    width = max(1, len(values) // 20)
    return [
        (x, statistics.fmean(y for _, y in values[max(0, stop - width) : stop]))
        for stop, (x, _) in enumerate(values, start=1)
    ]


def bar_chart(values: Mapping[str, float], *, unit: str) -> str:
    """Horizontal bars with their values, in the given order."""
    row, label_width = 26, 90
    height = row * len(values) + 8
    largest = max(values.values(), default=0.0) or 1.0
    room = _WIDTH - label_width - 120
    parts = []
    for number, (name, value) in enumerate(values.items()):
        top, width = number * row + 4, max(1.0, room * value / largest)
        parts.append(
            f'<text class="label" x="{label_width - 8}" y="{top + 15}" text-anchor="end">'
            f"{escape(name)}</text>"
            f'<rect class="bar" x="{label_width}" y="{top}" width="{width:.1f}" height="18"/>'
            f'<text class="label" x="{label_width + width + 8:.1f}" y="{top + 15}">'
            f"{value:.3g} {escape(unit)}</text>"
        )
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(parts)}</svg>'


def histogram(
    classes: Sequence[str], counts: Mapping[str, Sequence[float]], *, x_label: str, y_label: str
) -> str:
    """Upright bars, one for each class; the series' counts stand on top of one another."""
    totals = [sum(series[number] for series in counts.values()) for number in range(len(classes))]
    ticks = _ticks([0.0, *totals])
    right = _WIDTH - (_NAMES_WIDTH if len(counts) > 1 else _RIGHT)
    y = _Scale(0.0, ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    width = (right - _LEFT) / max(1, len(classes))
    parts = [_y_grid(ticks, y, right)]
    for number, name in enumerate(classes):
        left, below = _LEFT + number * width, 0.0
        for colour, series in enumerate(counts.values()):
            top, bottom = y.at(below + series[number]), y.at(below)
            below += series[number]
            parts.append(
                f'<rect class="fill-{colour % _COLOURS}" x="{left + 1:.1f}" y="{top:.1f}" '
                f'width="{max(1.0, width - 2):.1f}" height="{bottom - top:.1f}"/>'
            )
        # Names that would run into one another are left out.
        if number % math.ceil(_CHARACTER * (len(max(classes, key=len)) + 1) / width) == 0:
            parts.append(
                f'<text class="tick" x="{left + width / 2:.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
                f'text-anchor="middle">{escape(name)}</text>'
            )
    parts.append(_axis_labels(x_label, y_label, right))
    if len(counts) > 1:
        parts += _fill_legend(list(counts), right + 12)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_label)} by '
        f'{escape(x_label)}">{"".join(parts)}</svg>'
    )


def heatmap(
    values: Sequence[Sequence[float]],
    *,
    columns: Sequence[float],
    rows: Sequence[str],
    x_label: str,
    least: float = 1.0,
    most: float | None = None,
    label: Callable[[float], str] | None = None,
) -> str:
    """One cell for each value of `values` [columns][rows]: from `least`, clear, to `most` (if not
    given, the largest), full.

    Every cell has its value as a tooltip and, with `label`, written in it.
    """
    row_height, top = max(6, min(22, _HEIGHT // max(1, len(rows)))), 4
    right, bottom = _WIDTH - _RIGHT, top + row_height * len(rows)
    width = (right - _LEFT) / max(1, len(columns))
    if most is None:
        most = max((value for column in values for value in column), default=least)
    span = most - least or 1.0
    parts = []
    for number, column in enumerate(values):
        for row, value in enumerate(column):
            parts.append(
                f'<rect class="fill-0" x="{_LEFT + number * width:.1f}" '
                f'y="{top + row * row_height}" width="{width + 0.3:.1f}" height="{row_height}" '
                f'fill-opacity="{max(0.0, value - least) / span:.3f}"><title>{escape(rows[row])}, '
                f"{escape(x_label)} {columns[number]:,}: {value:.2f}</title></rect>"
            )
            if label is not None:
                parts.append(
                    f'<text class="cell" x="{_LEFT + (number + 0.5) * width:.1f}" '
                    f'y="{top + (row + 0.5) * row_height + 4}" text-anchor="middle">'
                    f"{escape(label(value))}</text>"
                )
    stride = max(1, -(-14 // row_height))
    for row in range(0, len(rows), stride):
        parts.append(
            f'<text class="tick" x="{_LEFT - 8}" y="{top + row * row_height + row_height / 2 + 4}" '
            f'text-anchor="end">{escape(rows[row])}</text>'
        )
    few = {0, len(columns) // 2, len(columns) - 1} if columns else set()
    for number in range(len(columns)) if len(columns) <= _COLOURS else sorted(few):
        parts.append(
            f'<text class="tick" x="{_LEFT + (number + 0.5) * width:.1f}" y="{bottom + 16}" '
            f'text-anchor="middle">{columns[number]:,}</text>'
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {bottom + 24}" role="img" aria-label="by {escape(x_label)}">'
        f"{''.join(parts)}</svg>"
    )


def _fill_legend(names: Sequence[str], left: float) -> list[str]:
    return [
        f'<rect class="fill-{number % _COLOURS}" x="{left}" y="{_TOP + 18 * number}" width="12" '
        f'height="12"/><text class="label" x="{left + 18}" y="{_TOP + 10 + 18 * number}">'
        f"{escape(_shortened(name, _WIDTH - left - 20))}</text>"
        for number, name in enumerate(names[: (_HEIGHT - _TOP) // 18])
    ]


def grouped_bars(groups: Mapping[str, Sequence[Bar]], names: Sequence[str], *, unit: str) -> str:
    """Horizontal bars from 0 on, one for each name in every group, with intervals as whiskers.

    `names` are the legend; a group has a bar for each. Values are finite and not negative.
    """
    bar, gap = 16, 12
    label_width = min(220, 24 + _CHARACTER * max(map(len, groups), default=0))
    legend = 26 if len(names) > 1 else 4
    height = legend + len(groups) * (bar * len(names) + gap)
    largest = max((_end(one) for bars in groups.values() for one in bars), default=0.0) or 1.0
    scale = _Scale(0.0, largest, label_width, _WIDTH - 90)
    parts = [_legend_row(names, label_width)] if len(names) > 1 else []
    for number, (group, bars) in enumerate(groups.items()):
        top = legend + number * (bar * len(names) + gap)
        parts.append(
            f'<text class="label" x="{label_width - 8}" y="{top + bar * len(bars) / 2 + 4:.1f}" '
            f'text-anchor="end">{escape(_shortened(group, label_width - 12))}</text>'
        )
        parts += [_bar(one, place, top + place * bar, bar, scale) for place, one in enumerate(bars)]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(unit)}">'
        f"{''.join(parts)}</svg>"
    )


def _end(bar: Bar) -> float:
    return max(bar.value, bar.high or 0.0)


def _bar(bar: Bar, place: int, top: int, height: int, scale: _Scale) -> str:
    start, stop = scale.at(0.0), scale.at(bar.value)
    parts = [
        f'<rect class="fill-{place % _COLOURS}" x="{start:.1f}" y="{top + 1}" '
        f'width="{max(1.0, stop - start):.1f}" height="{height - 2}"/>'
    ]
    if bar.low is not None and bar.high is not None:
        low, high, middle = scale.at(bar.low), scale.at(bar.high), top + height / 2
        parts.append(
            f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}'
            f'M{low:.1f} {middle - 3}v6M{high:.1f} {middle - 3}v6"/>'
        )
    parts.append(
        f'<text class="label" x="{scale.at(_end(bar)) + 8:.1f}" y="{top + height - 4}">'
        f"{bar.value:#.3g}</text>"
    )
    return "".join(parts)


def _legend_row(names: Sequence[str], left: int) -> str:
    room = (_WIDTH - left) // len(names)
    return "".join(
        f'<rect class="fill-{number % _COLOURS}" x="{left + number * room}" y="4" width="12" '
        f'height="12"/><text class="label" x="{left + number * room + 18}" y="14">'
        f"{escape(_shortened(name, room - 24))}</text>"
        for number, name in enumerate(names)
    )


def _shortened(text: str, width: float) -> str:
    """As much of a label as has room."""
    most = max(1, int(width / _CHARACTER))
    return text if len(text) <= most else text[: most - 1] + "…"


class _Scale:
    """Linear (or logarithmic) map of [low, high] to pixels."""

    def __init__(
        self, low: float, high: float, start: float, stop: float, *, log: bool = False
    ) -> None:
        self._of = math.log if log else float
        self._low = self._of(low)
        self._span = (self._of(high) - self._low) or 1.0
        self._start, self._length = start, stop - start

    def at(self, value: float) -> float:
        return self._start + (self._of(value) - self._low) / self._span * self._length


def _drawable(values: Series, log: bool) -> Series:
    return [
        (x, y) for x, y in values if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log)
    ]


def _log_ticks(values: Sequence[float]) -> list[float]:
    """The values, thinned out to at most ten."""
    distinct = sorted(set(values)) or [1.0]
    if len(distinct) == 1:
        distinct.append(2 * distinct[0])
    step = -(-len(distinct) // 10)
    return [*distinct[:-1][::step], distinct[-1]]


def _ticks(values: Sequence[float], count: int = 5) -> list[float]:
    """Round numbers that span the values."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    # Closer together than this, floats have no distinct round numbers between them.
    least = max(abs(low), abs(high), 1e-294) * 1e-6
    if high - low <= least:
        high = low + max(1.0, least)
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * number for number in range(first, last + 1)]


def _grid(
    x_ticks: Sequence[float], y_ticks: Sequence[float], x: _Scale, y: _Scale, right: int
) -> str:
    names = [
        f'<text class="tick" x="{x.at(tick):.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
        f'text-anchor="middle">{tick:,.7g}</text>'
        for tick in x_ticks
    ]
    return _y_grid(y_ticks, y, right) + "".join(names)


def _y_grid(ticks: Sequence[float], y: _Scale, right: int) -> str:
    return "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y.at(tick):.1f}" '
        f'y2="{y.at(tick):.1f}"/><text class="tick" x="{_LEFT - 6}" y="{y.at(tick) + 4:.1f}" '
        f'text-anchor="end">{_tick_text(tick)}</text>'
        for tick in ticks
    )


def _tick_text(tick: float) -> str:
    if tick >= 1_000_000:
        return f"{tick / 1_000_000:g} M"
    return f"{tick:,.0f}" if tick >= 1000 else f"{tick:g}"


def _axis_labels(x_label: str, y_label: str, right: int) -> str:
    middle = (_LEFT + right) / 2
    return (
        f'<text class="label" x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text class="label" x="14" y="{_HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {_HEIGHT / 2})">{escape(y_label)}</text>'
    )


def _labels(names: Sequence[str], x_label: str, y_label: str, right: int) -> str:
    parts = [_axis_labels(x_label, y_label, right)]
    left = _WIDTH - 170 if right == _WIDTH - _RIGHT else right + 12
    for number, name in enumerate(names[: (_HEIGHT - _TOP) // 18]):
        top = _TOP + 8 + 18 * number
        parts.append(
            f'<line class="line series-{number % _COLOURS}" x1="{left}" x2="{left + 24}" '
            f'y1="{top}" y2="{top}"/><text class="label" x="{left + 30}" y="{top + 4}">'
            f"{escape(_shortened(name, _WIDTH - left - 30))}</text>"
        )
    return "".join(parts)
