"""Adding up the counts of units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def add_counts(trees: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum of trees of numbers, key by key, keys sorted; text values are left out."""
    total: dict[str, Any] = {}
    for key in sorted({key for tree in trees for key in tree}):
        values = [tree[key] for tree in trees if key in tree]
        if isinstance(values[0], Mapping):
            total[key] = add_counts(values)
        elif not isinstance(values[0], str):
            total[key] = sum(values)
    return total
