"""What tokenizing a unit counts, for the ledger and the manifest."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from dsv3data.io.sources.documents import EMPTY
from dsv3data_pipelines.tokenize.batches import Encoded


class UnitCounts:
    """What a unit, or a whole run, saw: sums that add up."""

    def __init__(self) -> None:
        self.domains: dict[str, list[int]] = {}  # documents, tokens, bytes
        self.rejected: Counter[str] = Counter()
        self.replaced = 0
        self.control_text = 0
        self.keys_digest = f"{0:032x}"

    def add(self, documents: Encoded) -> None:
        """Documents of one or more domains."""
        domains = np.array(documents.domains)
        for domain in set(documents.domains):
            here = domains == domain
            sums = self.domains.setdefault(domain, [0, 0, 0])
            sums[0] += int(here.sum())
            sums[1] += int(documents.n_tokens[here].sum())
            sums[2] += int(documents.n_bytes[here].sum())

    def tree(self) -> dict[str, Any]:
        """Plain values, as the ledger and the manifest hold them."""
        names = ("documents", "tokens", "bytes")
        totals = [sum(sums[number] for sums in self.domains.values()) for number in range(3)]
        return {
            **dict(zip(names, totals, strict=True)),
            "rejected": self.rejected.total() - self.rejected[EMPTY],
            "empty": self.rejected[EMPTY],
            "rejected_by_reason": {name: self.rejected[name] for name in sorted(self.rejected)},
            "replaced_characters_documents": self.replaced,
            "control_text_documents": self.control_text,
            "domains": {
                name: dict(zip(names, self.domains[name], strict=True))
                for name in sorted(self.domains)
            },
            "keys_digest": self.keys_digest,
        }
