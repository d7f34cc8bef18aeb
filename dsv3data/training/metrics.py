"""metrics.jsonl, one object a step, and what is computed for it."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dsv3data.io.atomic import environment_faults, write_atomic


class JsonLines:
    """An append-only JSONL file; a last line cut by a kill is dropped when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Numbers that are not finite become null: JSON has no NaN."""
        plain = {
            key: finite_or_none(value) if isinstance(value, float) else value
            for key, value in record.items()
        }
        line = json.dumps(plain, allow_nan=False)
        with environment_faults(self.path), self.path.open("a") as file:
            file.write(line + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All complete records."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def keep_until(self, step: int) -> None:
        """Forget steps after `step`: a resumed run writes them again."""
        if self.path.exists():
            kept = [json.dumps(record) for record in self.read() if record["step"] <= step]
            write_atomic(self.path, "".join(line + "\n" for line in kept).encode())


def bits_per_byte(main_loss: float, n_targets: int, n_bytes: int) -> float:
    """Mean nats per target → bits per UTF-8 byte of the targets' text; NaN without any byte."""
    return main_loss * n_targets / math.log(2) / n_bytes if n_bytes else math.nan


def loss_by_domain(
    row_losses_B: NDArray[np.float64],
    row_targets_B: NDArray[np.int64],
    domain_ids_B: NDArray[np.int32],
    domains: Sequence[str],
) -> dict[str, float | None]:
    """Nats per target of the rows of each domain that is in the batch."""
    losses = {}
    for domain in np.unique(domain_ids_B).tolist():
        targets = row_targets_B[domain_ids_B == domain]
        rows = row_losses_B[domain_ids_B == domain]
        nats = float((np.where(targets > 0, rows, 0.0) * targets).sum())
        losses[domains[domain]] = finite_or_none(
            nats / targets.sum() if targets.sum() else math.nan
        )
    return losses


def max_violation(load_E: Tensor) -> float:
    """MaxVio of one layer: largest load over the mean load, minus 1 [arXiv 2408.15664, Eq. 4]."""
    mean = float(load_E.double().mean())
    return float(load_E.max()) / mean - 1 if mean > 0 else 0.0


def mean_of(records: Sequence[Mapping[str, Any]], key: str) -> float:
    """Mean over the records where `key` was finite; NaN if nowhere."""
    values = [record[key] for record in records if record[key] is not None]
    return statistics.fmean(values) if values else math.nan


def clock(seconds: float) -> str:
    """63 → 1:03, 3723 → 1:02:03."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def finite_or_none(value: float) -> float | None:
    """None where JSON would have no number."""
    return value if math.isfinite(value) else None
