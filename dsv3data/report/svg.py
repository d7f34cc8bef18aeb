"""Figures as inline SVG. Colours come from the page's CSS classes, so that dark mode works."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

Series = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 16, 36


def line_chart(series: Mapping[str, Series], *, x_label: str, y_label: str) -> str:
    """Lines over a common x axis; each series is a list of finite (x, y) points.

    Points that are not finite are left out. No series, or none with points, gives an empty frame.
    """
    points = [
        point for values in series.values() for point in values if all(map(math.isfinite, point))
    ]
    x_ticks = _ticks([x for x, _ in points])
    y_ticks = _ticks([y for _, y in points])
    x = _Scale(x_ticks[0], x_ticks[-1], _LEFT, _WIDTH - _RIGHT)
    y = _Scale(y_ticks[0], y_ticks[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(x_ticks, y_ticks, x, y)]
    for number, values in enumerate(series.values()):
        path = " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in values if math.isfinite(a + b))
        parts.append(f'<polyline class="line series-{number % 4}" points="{path}"/>')
    parts.append(_labels(list(series), x_label, y_label))
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_label)} over '
        f'{escape(x_label)}">{"".join(parts)}</svg>'
    )


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


class _Scale:
    """Linear map of [low, high] to pixels."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        self._low, self._span = low, (high - low) or 1.0
        self._start, self._length = start, stop - start

    def at(self, value: float) -> float:
        return self._start + (value - self._low) / self._span * self._length


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


def _grid(x_ticks: Sequence[float], y_ticks: Sequence[float], x: _Scale, y: _Scale) -> str:
    lines = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y.at(tick):.1f}" '
        f'y2="{y.at(tick):.1f}"/><text class="tick" x="{_LEFT - 6}" y="{y.at(tick) + 4:.1f}" '
        f'text-anchor="end">{tick:g}</text>'
        for tick in y_ticks
    ]
    lines += [
        f'<text class="tick" x="{x.at(tick):.1f}" y="{_HEIGHT - _BOTTOM + 16}" '
        f'text-anchor="middle">{tick:g}</text>'
        for tick in x_ticks
    ]
    return "".join(lines)


def _labels(names: Sequence[str], x_label: str, y_label: str) -> str:
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts = [
        f'<text class="label" x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">'
        f"{escape(x_label)}</text>",
        f'<text class="label" x="14" y="{_HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {_HEIGHT / 2})">{escape(y_label)}</text>',
    ]
    for number, name in enumerate(names):
        top = _TOP + 8 + 18 * number
        parts.append(
            f'<line class="line series-{number % 4}" x1="{_WIDTH - 170}" x2="{_WIDTH - 146}" '
            f'y1="{top}" y2="{top}"/><text class="label" x="{_WIDTH - 140}" y="{top + 4}">'
            f"{escape(name)}</text>"
        )
    return "".join(parts)
