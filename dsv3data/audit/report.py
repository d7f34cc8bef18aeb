"""`dsv3data report`: what a finished set holds, in figures: from the manifest and the lineage.

A packed set's figures come from manifest and lineage files alone, a token set's from its shards;
each file is checked before it is read. Memory is that of one file's lengths.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dsv3data.audit.lineage import read_lineage
from dsv3data.audit.run_report import METRICS_NAME, report_run
from dsv3data.contracts.manifest import MANIFEST_NAME, PACKED, TOKENS, FileRecord, Manifest
from dsv3data.contracts.progress import Sink
from dsv3data.io.columns import column_values, list_lengths
from dsv3data.io.manifest_file import read_manifest
from dsv3data.io.shards import ShardReader

# Upper ends of the fill's classes, in parts of a row.
_FILL_ENDS = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
FILL_NAMES = ("≤ 50%", "≤ 75%", "≤ 90%", "≤ 95%", "≤ 99%", "≤ 99.9%", "< 100%", "100%")
# Document lengths: 1, 2-3, 4-7, … tokens.
_LENGTH_CLASSES = 32
_LONGEST = 10
_FIM_REASONS = "plain_"
_LINEAGE = ("row", "n_tokens", "piece", "n_pieces", "token_stop", "source", "position")


@dataclass
class _Longest:
    """The longest documents seen: (tokens, source, position)."""

    found: list[tuple[int, str, int]] = field(default_factory=list)

    def add(
        self,
        tokens: NDArray[np.int64],
        table: pa.Table | pa.RecordBatch,
        rows: NDArray[np.int64],
    ) -> None:
        """Rows of a table with the columns `source` and `position`, and the length of each."""
        for row in rows[np.argsort(-tokens[rows], kind="stable")[:_LONGEST]].tolist():
            fields = table.slice(row, 1).select(["source", "position"]).to_pylist()[0]
            self.found.append((int(tokens[row]), fields["source"], fields["position"]))
        self.found = heapq.nsmallest(_LONGEST, self.found, key=lambda one: (-one[0], *one[1:]))

    def tree(self) -> list[dict[str, Any]]:
        return [{"tokens": n, "source": source, "position": at} for n, source, at in self.found]


def report_set(folder: Path, *, sink: Sink) -> dict[str, Any]:
    """Figures of a packed set, a token set or a training run, as plain values.

    Raises:
        BadInput: none of these.
        IntegrityError: a file that is read is damaged.
    """
    if not (folder / MANIFEST_NAME).is_file() and (folder / METRICS_NAME).is_file():
        return report_run(folder)
    manifest = read_manifest(folder, expect=(PACKED, TOKENS))
    head = {"folder": str(folder), "format": manifest.format, "root": manifest.root}
    figures = _report_packed if manifest.format == PACKED else _report_tokens
    return {**head, **figures(folder, manifest, sink)}


def _report_packed(folder: Path, manifest: Manifest, sink: Sink) -> dict[str, Any]:
    context = int(manifest.plan["pack"]["context"])
    shards = manifest.shards()
    lengths = {name: np.zeros(_LENGTH_CLASSES, np.int64) for name in manifest.counts["domains"]}
    fills = {name: np.zeros(len(FILL_NAMES), np.int64) for name in lengths}
    longest = _Longest()
    sink.phase("lineage", total=len(shards), unit="shards")
    for record in shards:
        domain = record.name.removeprefix("packed-").rpartition("-")[0]
        table = read_lineage(folder, manifest, record, _LINEAGE)
        column = {name: _int64(table[name]) for name in _LINEAGE if name != "source"}
        last = np.flatnonzero(column["piece"] == column["n_pieces"] - 1)
        lengths[domain] += _length_classes(column["token_stop"][last])
        longest.add(column["token_stop"], table, last)
        first = np.flatnonzero(np.diff(column["row"], prepend=-1))  # rows are in order
        fills[domain] += _fill_classes(np.add.reduceat(column["n_tokens"], first), context)
        sink.advance(1)
    domains = {
        name: _packed_figures(counts, context)
        for name, counts in manifest.counts["domains"].items()
    }
    return {
        "context": context,
        "seed": manifest.plan["pack"]["seed"],
        "fim_rate": manifest.plan["pack"]["fim_rate"],
        "all": _packed_figures(manifest.counts, context),
        "domains": domains,
        "lengths": _histogram(_length_names(), lengths),
        "fill": _histogram(list(FILL_NAMES), fills),
        "longest": longest.tree(),
    }


def _packed_figures(counts: Mapping[str, Any], context: int) -> dict[str, Any]:
    fim, documents = counts["fim"], counts["documents"]
    places = counts["rows"] * context
    return {
        **{name: counts[name] for name in ("documents", "documents_cut", "pieces", "rows")},
        **{name: counts[name] for name in ("text_tokens", "row_ids", "padding", "bytes")},
        "fill": _share(counts["row_ids"], places),
        "padding_share": _share(counts["padding"], places),
        "documents_cut_share": _share(counts["documents_cut"], documents),
        "fim_documents": fim["documents_fim"],
        "fim_documents_share": _share(fim["documents_fim"], documents),
        "fim_tokens_share": _share(fim["source_tokens_fim"], counts["text_tokens"]),
        "fim_left_plain": {
            name.removeprefix(_FIM_REASONS): number
            for name, number in fim.items()
            if name.startswith(_FIM_REASONS) and number
        },
        "debias": counts["debias"],
    }


def _report_tokens(folder: Path, manifest: Manifest, sink: Sink) -> dict[str, Any]:
    counts = manifest.counts
    lengths = {name: np.zeros(_LENGTH_CLASSES, np.int64) for name in counts["domains"]}
    longest = _Longest()
    sink.phase("documents", total=counts["documents"], unit="docs")
    for batch in _batches(folder, manifest.shards()):
        tokens = list_lengths(batch.column("ids"))
        domains = batch.column("domain").dictionary_encode()
        of_domain = column_values(domains.indices, np.int32)
        for number, domain in enumerate(domains.dictionary.to_pylist()):
            lengths[domain] += _length_classes(tokens[of_domain == number])
        longest.add(tokens, batch, np.arange(len(tokens)))
        sink.advance(batch.num_rows)
    names = ("documents", "tokens", "bytes")
    return {
        "all": {name: counts[name] for name in names}
        | {"bytes_per_token": _share(counts["bytes"], counts["tokens"])},
        "domains": {
            name: {**of_domain, "bytes_per_token": _share(of_domain["bytes"], of_domain["tokens"])}
            for name, of_domain in counts["domains"].items()
        },
        "rejected": dict(counts["rejected_by_reason"]),
        "lengths": _histogram(_length_names(), lengths),
        "longest": longest.tree(),
    }


def _int64(column: pa.ChunkedArray) -> NDArray[np.int64]:
    values: NDArray[np.generic] = column_values(column, column.type.to_pandas_dtype())
    return values.astype(np.int64)


def _batches(folder: Path, shards: Iterable[FileRecord]) -> Iterator[pa.RecordBatch]:
    for record in shards:
        yield from ShardReader(folder, record).batches()


def _length_classes(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """Documents with 2^k to 2^(k+1) - 1 tokens, int64 [32]."""
    classes = np.searchsorted(1 << np.arange(1, _LENGTH_CLASSES), tokens, side="right")
    return np.bincount(classes, minlength=_LENGTH_CLASSES)


def _length_names() -> list[str]:
    return [f"{1 << power:,}" for power in range(_LENGTH_CLASSES)]


def _fill_classes(n_tokens: NDArray[np.int64], context: int) -> NDArray[np.int64]:
    classes = np.searchsorted(_FILL_ENDS, n_tokens / context, side="left")
    classes += n_tokens == context
    return np.bincount(classes, minlength=len(FILL_NAMES))


def _histogram(names: list[str], counts: Mapping[str, NDArray[np.int64]]) -> dict[str, Any]:
    """Classes without the empty ones at the ends; counts by domain."""
    filled = np.flatnonzero(sum(counts.values(), np.zeros(len(names), np.int64)))
    low, high = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, 0)
    return {
        "classes": names[low:high],
        "domains": {name: values[low:high].tolist() for name, values in counts.items()},
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
