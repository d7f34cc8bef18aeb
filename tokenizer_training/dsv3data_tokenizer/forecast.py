"""What training would cost, from counting the first megabytes of the input."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dsv3data.contracts.progress import Sink
from dsv3data.io.sources import Document, discover, plan_units, read_unit
from dsv3data_tokenizer.config import TokenizerTrainConfig
from dsv3data_tokenizer.word_counts import WordCounts

_PROBE_BYTES = 8 << 20
# Upper ends of what `WordCounts` and `train_merges` state: table and arena; layout and pairs.
_COUNT_BYTES_PER_WORD = 100
_MERGE_BYTES_PER_WORD_BYTE = 10
_MERGE_BYTES_PER_WORD = 300
_BASE_BYTES = 200 << 20


def forecast(
    inputs: Sequence[Path], config: TokenizerTrainConfig, *, workers: int, sink: Sink
) -> dict[str, Any]:
    """Files, text, unique words, time, memory and disk of a run, each an estimate but the first.

    Unique words grow as a power of the text (Heaps' law); the exponent is that of the two halves of
    the probe.
    """
    files, skipped = discover(inputs, text_files=config.read.text_files)
    if skipped:
        sink.note(f"{len(skipped)} files are skipped, the first: {skipped[0]}")
    size = sum(file.size for file in files)
    counts, halves, seconds = WordCounts(), [], 0.0
    for part in _probe(inputs, config):
        started = time.monotonic()
        counts.add_documents(part)
        seconds += time.monotonic() - started
        halves.append((sum(map(len, part)), len(counts)))
    probed = sum(text for text, _ in halves) or 1
    words = _extrapolate(halves, size)
    word_bytes = words * _mean_word_bytes(counts)
    return {
        "files": len(files),
        "input_bytes": size,
        "vocab_size": config.vocab_size,
        "unique_words_estimate": words,
        "count_seconds_estimate": round(size * seconds / probed / workers, 1),
        "memory_bytes_estimate": round(
            _BASE_BYTES
            + max(
                words * _COUNT_BYTES_PER_WORD + word_bytes,
                words * _MERGE_BYTES_PER_WORD + word_bytes * _MERGE_BYTES_PER_WORD_BYTE,
            )
        ),
        "disk_bytes_estimate": round(2 * (word_bytes + 12 * words)),
    }


def _probe(inputs: Sequence[Path], config: TokenizerTrainConfig) -> Iterator[list[bytes]]:
    """Two equal parts of the first documents; the first part also compiles the kernels."""
    part: list[bytes] = []
    size = 0
    for data in _documents(inputs, config):
        part.append(data)
        size += len(data)
        if size >= _PROBE_BYTES // 2:
            yield part
            part, size = [], 0
    if part:
        yield part


def _documents(inputs: Sequence[Path], config: TokenizerTrainConfig) -> Iterator[bytes]:
    files, _ = discover(inputs, text_files=config.read.text_files)
    left = _PROBE_BYTES
    for unit in plan_units(files, unit_bytes=config.unit_bytes):
        for document in read_unit(unit, config.read):
            if isinstance(document, Document):
                yield document.data
                left -= len(document.data)
                if left <= 0:
                    return


def _extrapolate(halves: Sequence[tuple[int, int]], size: int) -> int:
    if not halves:
        return 0
    (first, first_words), last_words = halves[0], halves[-1][1]
    probed = sum(text for text, _ in halves)
    exponent = 0.7  # of ordinary text; used when the input is too short to tell
    if probed > first and last_words > first_words:
        exponent = math.log(last_words / first_words) / math.log(probed / first)
    growth = float(max(size, probed) / probed)
    return int(last_words * growth ** min(1.0, exponent))


def _mean_word_bytes(counts: WordCounts) -> float:
    table = counts.to_table()
    return float(table["word"].nbytes / max(1, table.num_rows))
