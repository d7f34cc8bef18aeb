"""Figures as short text, the same on the page and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Estimated = Mapping[str, float | None]

_TOKEN_CHARACTERS = 40
# White space and what would move the text around it.
_MARKS = str.maketrans({"\n": "⏎", "\r": "␍", "\t": "→", "\u2028": "⏎", "\u2029": "⏎"})


def interval(estimate: Estimated, digits: int = 2) -> str:
    """`4.32 (4.23–4.41)`, the value alone where there is no interval."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def by_unit(row: Mapping[str, Any]) -> str:
    """`word: 1.75 (1.67–1.83)`."""
    return f"{row['unit']}: {interval(row['tokens_per_unit'])}"


def relative(estimate: Estimated, *, short: bool = False) -> str:
    """`+10.8 % (+10.0 to +11.7)`, or without the interval: more or fewer than the measure of 1."""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    if value is None:
        return "–"
    if short or low is None or high is None:
        return f"{100 * (value - 1):+.1f} %"
    return f"{100 * (value - 1):+.1f} % ({100 * (low - 1):+.1f} to {100 * (high - 1):+.1f})"


def percent(share: float | None) -> str:
    """`24.1 %`, `0.024 %`: one decimal, or two significant digits where that would show little."""
    if share is None:
        return "–"
    return f"{100 * share:.1f} %" if share >= 0.01 or share == 0 else f"{100 * share:.2g} %"


def visible(text: str) -> str:
    """A text in one line."""
    return text.translate(_MARKS)


def token_rows(tokens: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """(text, id, bytes, occurrences) of each token; blanks and breaks made visible."""
    return [
        (_token(row["text"]), f"{row['id']:,}", f"{row['bytes']:,}", f"{row['count']:,}")
        for row in tokens
    ]


def _token(text: str) -> str:
    shown = visible(text).replace(" ", "␣")
    if len(shown) <= _TOKEN_CHARACTERS:
        return shown
    half = _TOKEN_CHARACTERS // 2
    return f"{shown[:half]}…{shown[-half:]}"
