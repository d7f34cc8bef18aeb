"""Which unit a document belongs to: its domain, and a keyed partition of the domain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.manifest import Manifest
from dsv3data.io.columns import column_values
from dsv3data.io.make_columns import column_of, strings_of
from dsv3data.packing.config import PackConfig
from dsv3data.packing.order import partition_count, partition_of

_MISSING = column_of(np.array([-1], dtype=np.int32))[0]


@dataclass(frozen=True, kw_only=True)
class Partitions:
    """Units are numbered domain by domain, in alphabetical order, and inside of it by partition.

    Attributes:
        counts: partitions of each domain, fixed by its tokens: (domain, partitions).
        draws: seed of the keyed partition.
    """

    counts: tuple[tuple[str, int], ...]
    draws: int

    def __len__(self) -> int:
        return sum(count for _, count in self.counts)

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """(domain, partition, partitions of the domain) of each unit, in order."""
        for domain, count in self.counts:
            for partition in range(count):
                yield domain, partition, count

    def units_of(self, domain: pa.Array, words: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Unit of each document, int64 [N]; -1 for a domain that the manifest does not list."""
        index = pc.index_in(domain, value_set=self._domains)
        at = column_values(pc.fill_null(index, _MISSING), np.int32)
        partition = partition_of(words, self._sizes[at], seed=self.draws)
        units: NDArray[np.int64] = np.where(at < 0, -1, self._first[at] + partition)
        return units

    @cached_property
    def _domains(self) -> pa.Array:
        return strings_of([domain for domain, _ in self.counts])

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        return np.array([count for _, count in self.counts], dtype=np.int64)

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        first: NDArray[np.int64] = np.cumsum(self._sizes) - self._sizes
        return first


def partitions_of(
    manifest: Manifest, config: PackConfig, tokens_excluded: Mapping[str, int] | None = None
) -> Partitions:
    """Partitions of a token set without the tokens that stay out of each domain: those of a token
    set that never had them. A domain of which nothing is left has none."""
    excluded = tokens_excluded or {}
    left = {
        domain: figures["tokens"] - excluded.get(domain, 0)
        for domain, figures in sorted(manifest.counts["domains"].items())
    }
    counts = tuple(
        (domain, partition_count(tokens, config.partition_tokens))
        for domain, tokens in left.items()
        if tokens
    )
    return Partitions(counts=counts, draws=config.draws)


def refuse_unpackable(tokens: Path, manifest: Manifest, config: PackConfig) -> None:
    """A set without documents has no rows, and shards are named after their domains.

    Raises:
        BadInput: no document, two domains whose names differ in case only, or none of a name that
            the config gives: a typo would change nothing.
    """
    if not manifest.counts["documents"]:
        raise BadInput(
            "the token set has no document",
            where=str(tokens),
            effect="nothing was packed",
            fix="look at its rejected.jsonl for the reasons",
        )
    seen: dict[str, str] = {}
    for domain in sorted(manifest.counts["domains"]):
        other = seen.setdefault(domain.casefold(), domain)
        if other != domain:
            raise BadInput(
                f"domains {other!r} and {domain!r} differ in case only",
                where=str(tokens),
                effect="nothing was packed: on a disk that tells no case, the files of one "
                "would replace the other's",
                fix="give them one name, or two, with `dsv3data tokenize --domain NAME=GLOB`",
            )
    for domain in config.named_domains:
        if domain not in manifest.counts["domains"]:
            known = ", ".join(sorted(manifest.counts["domains"]))
            raise BadInput(
                f"the token set has no document of domain {domain!r}",
                where=str(tokens),
                effect="nothing was packed",
                fix=f"its domains are {known}",
            )
