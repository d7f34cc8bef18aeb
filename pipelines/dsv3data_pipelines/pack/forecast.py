"""`pack --dry-run`: rows, padding and cut documents for any context, from lengths alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsv3data.contracts.manifest import TOKENS, Manifest
from dsv3data.io.manifest_file import read_manifest
from dsv3data.packing.best_fit import length_histogram, plan
from dsv3data.packing.config import PackConfig
from dsv3data.packing.cut import cut_documents
from dsv3data.packing.fim import SENTINELS, choose_documents
from dsv3data_pipelines.pack.batches import batch_lengths, batch_words, unchecked_batches
from dsv3data_pipelines.pack.exclude import Exclusions, count_excluded
from dsv3data_pipelines.pack.partitions import Partitions, partitions_of, refuse_unpackable

_Lengths = NDArray[np.int64]


def forecast(
    tokens: Path,
    *,
    contexts: Sequence[int],
    config: PackConfig,
    exclusions: Exclusions | None = None,
) -> list[dict[str, Any]]:
    """Rows, padding and cut documents for each context. No token is read, only lengths and keys.

    Exact (`exact`) without FIM and debias. With FIM the chosen documents are the true ones, each
    three sentinels longer; the few ids by which a sample grows when its parts are encoded anew, and
    those that debiasing adds, are not known from lengths and not counted.
    """
    for context in contexts:
        replace(config, context=context)  # refuses one out of range
    manifest = read_manifest(tokens, expect=(TOKENS,))
    refuse_unpackable(tokens, manifest, config)
    kept_out = exclusions or Exclusions()
    excluded = count_excluded(tokens, manifest, kept_out)
    partitions = partitions_of(manifest, config, excluded.tokens)
    lengths = _lengths(tokens, manifest, partitions, config, kept_out)
    return [_forecast_one(lengths, context, config) for context in contexts]


def _forecast_one(
    units: Sequence[tuple[_Lengths, _Lengths]], context: int, config: PackConfig
) -> dict[str, Any]:
    rows = padding = cut = ids = 0
    for tokens, added in units:
        table = cut_documents(tokens, context)
        # A sample that would not fit its row stays plain, and a cut document is counted as plain.
        longer = np.minimum(tokens + 1 + added, context)
        lengths = np.where(tokens[table.document] < context, longer[table.document], table.length)
        packed = plan(length_histogram(lengths, context), context)
        rows += packed.n_bins
        padding += packed.padding_ids
        cut += int((tokens + 1 > context).sum())
        ids += int(lengths.sum())
    fim = any(added.any() for _, added in units)
    return {
        "context": context,
        "rows": rows,
        "ids": ids,
        "padding": padding,
        "padding_share": padding / (rows * context) if rows else 0.0,
        "documents_cut": cut,
        "disk_bytes_estimate": rows * context * 4,
        "exact": not fim and not config.debias_rate,
    }


def _lengths(
    tokens: Path,
    manifest: Manifest,
    partitions: Partitions,
    config: PackConfig,
    exclusions: Exclusions,
) -> list[tuple[_Lengths, _Lengths]]:
    """For each unit: tokens of its documents, and ids that FIM adds to each."""
    rates = {domain: config.fim_rate_of(domain) for domain, _ in partitions.counts}
    none = np.empty(0, dtype=np.int64)
    parts: list[list[_Lengths]] = [[none] for _ in range(len(partitions))]
    words: list[list[NDArray[np.uint64]]] = [
        [np.empty((0, 2), dtype=np.uint64)] for _ in range(len(partitions))
    ]
    for batch in unchecked_batches(tokens, manifest):
        lengths, keys = batch_lengths(batch), batch_words(batch)
        units = partitions.units_of(batch.column("domain"), keys)
        units[exclusions.mask(batch, keys)] = -1
        for unit in np.unique(units[units >= 0]).tolist():
            parts[unit].append(lengths[units == unit])
            words[unit].append(keys[units == unit])
    made = []
    for (domain, _, _), of_unit, keys_of_unit in zip(partitions, parts, words, strict=True):
        keys = np.concatenate(keys_of_unit)
        chosen = choose_documents(keys, rate=rates[domain], seed=config.draws)
        made.append((np.concatenate(of_unit).astype(np.int64), chosen * SENTINELS))
    return made
