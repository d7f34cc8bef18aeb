"""Which domain each row of the training stream comes from: exact shares, computed without history.

A stage has a weight for each domain: its share of the stage's tokens. How many of the first t rows
are of each domain is a pure function of t. Domains sit in a binary tree; a node that has c of the
first t rows gives floor(c · left / (left + right)) of them to its left half and the rest to its
right half, left and right being the halves' weights. Counts grow by one in exactly one domain at
each row, add up to t, and are off the exact share by less than one row at each of the tree's
log2(domains) levels, at every t.

D domains, N rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.errors import BadConfig

# Weights are whole numbers that add up to this, so that counts of 2^40 rows fit 64 bits.
_WEIGHT_UNITS = 1 << 20
MAX_ROWS = 1 << 40


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of training with one mixture.

    Attributes:
        shares: `domain=weight` for each domain that takes part; weights are relative shares of
            tokens and need not add up to 1.
        tokens: length in tokens (ids of rows, padding counted), rounded up to whole rows; 0 means
            to the end, which only the last stage may and must.
    """

    shares: tuple[str, ...]
    tokens: int = 0

    def weights(self) -> dict[str, Fraction]:
        """Weight of each domain, all above 0.

        Raises:
            BadConfig: a share that is no `domain=weight`, is not positive, or stands twice.
        """
        weights: dict[str, Fraction] = {}
        for share in self.shares:
            name, separator, text = share.rpartition("=")
            try:
                weight = Fraction(text)
            except (ValueError, ZeroDivisionError):
                weight = Fraction(0)
            if not separator or weight <= 0 or name in weights:
                raise _bad_stage(f"a share must be domain=weight, once each, not {share!r}")
            weights[name] = weight
        if not weights:
            raise _bad_stage("a stage has no shares")
        return weights


def row_weights(weights: Mapping[str, Fraction], fill: Mapping[str, Fraction]) -> dict[str, int]:
    """Whole row weights that add up to 2^20, from shares of tokens.

    Args:
        fill: tokens per row of each domain: a domain with more padding needs more rows for the
            same share.

    The remainder of rounding goes to the largest fractions (largest remainder, ties by name).
    """
    exact = {name: weights[name] / fill[name] for name in sorted(weights)}
    total = sum(exact.values())
    scaled = {name: value * _WEIGHT_UNITS / total for name, value in exact.items()}
    units = {name: math.floor(value) for name, value in scaled.items()}
    by_rest = sorted(units, key=lambda name: (units[name] - scaled[name], name))
    for name in by_rest[: _WEIGHT_UNITS - sum(units.values())]:
        units[name] += 1
    if min(units.values()) < 1:
        raise _bad_stage(
            f"the share of {min(units, key=lambda name: units[name])!r} is below one row in "
            f"{_WEIGHT_UNITS:,}"
        )
    return units


def interleave(
    rows: NDArray[np.int64], weights: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(domain of each row, how many rows of this domain came before it), both int64 [N].

    Args:
        rows: places in the stage, int64 [N], below 2^40.
        weights: whole numbers above 0, one for each domain, that add up to at most 2^20.

    Cost: O(N log D). `interleave_scalar` is the slow twin.
    """
    ends = np.concatenate([[0], np.cumsum(weights)])
    domain_low = np.zeros(len(rows), dtype=np.int64)
    domain_high = np.full(len(rows), len(weights), dtype=np.int64)
    before = rows.astype(np.int64)
    for _ in range((len(weights) - 1).bit_length()):
        middle = (domain_low + domain_high) // 2
        left, whole = ends[middle] - ends[domain_low], ends[domain_high] - ends[domain_low]
        in_left = before * left // whole
        goes_left = (before + 1) * left // whole > in_left
        # Nodes of one domain stay: their left half is empty, and all rows go to the right.
        before = np.where(goes_left, in_left, before - in_left)
        domain_high = np.where(goes_left, middle, domain_high)
        domain_low = np.where(goes_left, domain_low, middle)
    return domain_low, before


def interleave_scalar(row: int, weights: Sequence[int]) -> tuple[int, int]:
    """`interleave` by counting for every domain from the definition, for one row."""
    before, after = split_counts(row, weights), split_counts(row + 1, weights)
    (domain,) = [number for number, count in enumerate(before) if after[number] > count]
    return domain, before[domain]


def split_counts(rows: int, weights: Sequence[int]) -> list[int]:
    """How many of the first `rows` rows are of each domain."""
    if len(weights) == 1:
        return [rows]
    half = len(weights) // 2
    left = rows * sum(weights[:half]) // sum(weights)
    return [*split_counts(left, weights[:half]), *split_counts(rows - left, weights[half:])]


def _bad_stage(what: str) -> BadConfig:
    return BadConfig(
        what,
        where="mixture",
        effect="nothing was read",
        fix='for example Stage(shares=("code=0.3", "en=0.7"))',
    )
