#!/usr/bin/env python3
"""How fast rows are read, and what each check of them costs.

    python benchmarks/loader.py PACKED RESULTS.json [--repeat N]

PACKED is a packed set, best of a few hundred MB, that fits the page cache: it is read once before
anything is timed. Rivals take turns within each round; the figures are medians over the rounds.

- random rows through `PackedDataset.rows`, in batches of 32, 256 and 1,024;
- the same rows by reading alone, by reading and CRC, and copied from a mapping without any check;
- the stream: natural order, a mixture of all domains, and read ahead by a thread;
- a record batch that is touched for the first time, against the same row again;
- indices alone in a simulated set of 10^10 rows: time per index, and the growth of memory.

A set of 450 MB takes less than a minute.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import os
import resource
import statistics
import sys
import time
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from dsv3data.io.manifest_file import read_manifest
from dsv3data.loader.mixture import Stage
from dsv3data.loader.packed_dataset import PackedDataset
from dsv3data.loader.prefetch import Prefetcher
from dsv3data.loader.schedule import Domain, Mixture, WholeSet
from dsv3data.loader.stream import SequenceStream
from measuring import machine

_BATCH = 256
_AHEAD = 64
_SIMULATED_ROWS = 10**10
_SIMULATED_DOMAINS = 8
_INDICES = 1 << 16


def main() -> None:
    arguments = _arguments()
    dataset = PackedDataset.open(arguments.packed)
    dataset.rows(np.arange(dataset.n_rows))  # into the page cache, and every batch's index
    rounds: dict[str, list[tuple[float, float]]] = {}
    tasks = {**_reading(arguments.packed, dataset), **_streams(dataset)}
    for _ in range(arguments.repeat):
        for name, (task, rows) in tasks.items():
            wall, cpu = _seconds(task)
            rounds.setdefault(name, []).append((wall / rows, cpu / rows))
    row_bytes = 4 * dataset.context
    result = {
        "machine": machine("numpy", "pyarrow") | {"zlib": zlib.ZLIB_RUNTIME_VERSION},
        "arguments": sys.argv[1:],
        "set": {"root": dataset.root, "rows": dataset.n_rows, "context": dataset.context},
        "rows": {name: _rates(seconds, row_bytes) for name, seconds in rounds.items()},
        "first_touch": _first_touch(dataset, arguments.repeat),
        "indices": _indices(arguments.repeat),
    }
    arguments.results.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in list(result)[3:]}, indent=1))


def _reading(folder: Path, dataset: PackedDataset) -> dict[str, tuple[Callable[[], Any], int]]:
    rng = np.random.default_rng(0)
    tasks: dict[str, tuple[Callable[[], Any], int]] = {}
    for size in (32, _BATCH, 1024):
        batches = [rng.integers(0, dataset.n_rows, size) for _ in range(2048 // size)]
        tasks[f"rows, batches of {size}"] = (_each(dataset.rows, batches), 2048)
    bare = _Bare(folder, dataset.context)
    batches = [rng.integers(0, dataset.n_rows, _BATCH) for _ in range(2048 // _BATCH)]
    tasks["read alone"] = (_each(bare.read, batches), 2048)
    tasks["read and CRC"] = (_each(bare.read_and_crc, batches), 2048)
    tasks["copied from a mapping"] = (_each(bare.copy_mapped, batches), 2048)
    return tasks


def _streams(dataset: PackedDataset) -> dict[str, tuple[Callable[[], Any], int]]:
    stage = Stage(shares=tuple(f"{name}=1" for name in dataset.domains))
    natural = SequenceStream(dataset, seed=0)
    mixed = SequenceStream(dataset, seed=0, stages=[stage])

    def read_ahead() -> None:
        with Prefetcher(natural.copy(), _BATCH) as ahead:
            for _ in range(_AHEAD):
                ahead.next()

    return {
        "stream": (lambda: [natural.next(_BATCH) for _ in range(8)], 8 * _BATCH),
        "stream, mixture": (lambda: [mixed.next(_BATCH) for _ in range(8)], 8 * _BATCH),
        # With the start of the thread, and up to three batches that are read and thrown away.
        "stream, read ahead": (read_ahead, _AHEAD * _BATCH),
    }


class _Bare:
    """The same rows without the loader: what the parts of its work cost."""

    def __init__(self, folder: Path, context: int) -> None:
        self._row_bytes = 4 * context
        records = read_manifest(folder).shards()
        self._files = [os.open(folder / record.name, os.O_RDONLY) for record in records]
        places = [
            (shard, segment.buffers["input_ids"] + self._row_bytes * row)
            for shard, record in enumerate(records)
            for segment in record.segments[1:-1]
            for row in range(segment.rows)
        ]
        self._shard, self._offset = (np.array(column) for column in zip(*places, strict=True))
        self._maps = [np.memmap(folder / record.name, mode="r") for record in records]

    def read(self, numbers: np.ndarray) -> memoryview:
        memory = np.empty(len(numbers) * self._row_bytes, dtype=np.uint8).data
        places = zip(self._shard[numbers].tolist(), self._offset[numbers].tolist(), strict=True)
        for number, (shard, offset) in enumerate(places):
            start = number * self._row_bytes
            os.preadv(self._files[shard], [memory[start : start + self._row_bytes]], offset)
        return memory

    def read_and_crc(self, numbers: np.ndarray) -> list[int]:
        memory = self.read(numbers)
        starts = range(0, len(memory), self._row_bytes)
        return [zlib.crc32(memory[start : start + self._row_bytes]) for start in starts]

    def copy_mapped(self, numbers: np.ndarray) -> np.ndarray:
        rows = np.empty((len(numbers), self._row_bytes), dtype=np.uint8)
        places = zip(self._shard[numbers].tolist(), self._offset[numbers].tolist(), strict=True)
        for number, (shard, offset) in enumerate(places):
            rows[number] = self._maps[shard][offset : offset + self._row_bytes]
        return rows


def _first_touch(dataset: PackedDataset, repeat: int) -> dict[str, Any]:
    """Milliseconds for a row of each full record batch, the first and the second time."""
    batches = [segment for record in dataset.manifest.shards() for segment in record.segments[1:-1]]
    rows = np.cumsum([0, *(batch.rows for batch in batches)])[:-1]
    most = max(batch.rows for batch in batches)
    rows = [row for row, batch in zip(rows.tolist(), batches, strict=True) if batch.rows == most]
    times: dict[str, list[float]] = {"first": [], "again": []}
    for _ in range(repeat):
        fresh = copy.copy(dataset)  # with nothing read
        for found in times.values():
            for row in rows:
                found.append(_seconds(functools.partial(fresh.rows, np.array([row])))[0])
    medians = {name: round(statistics.median(found) * 1e3, 3) for name, found in times.items()}
    return {"rows_of_a_batch": most, "ms": medians}


def _indices(repeat: int) -> dict[str, Any]:
    """Places all over a stream of 10^10 rows and three epochs."""
    per_domain = _SIMULATED_ROWS // _SIMULATED_DOMAINS
    domains = {
        f"d{number}": Domain(rows=per_domain, tokens_per_row=Fraction(4096))
        for number in range(_SIMULATED_DOMAINS)
    }
    first = {name: number * per_domain for number, name in enumerate(domains)}
    stage = Stage(shares=tuple(f"{name}={n + 1}" for n, name in enumerate(domains)))
    schedules = {
        "whole set": WholeSet(_SIMULATED_ROWS, seed=0),
        "mixture of 8 domains": Mixture(
            [stage], domains, lambda name, rows: rows + first[name], context=4096, seed=0
        ),
    }
    rng = np.random.default_rng(0)
    result: dict[str, Any] = {"rows": _SIMULATED_ROWS, "indices_at_once": _INDICES}
    for name, schedule in schedules.items():
        starts = rng.integers(0, 3 * _SIMULATED_ROWS, repeat + 1)
        runs = [start + np.arange(_INDICES) for start in starts.tolist()]
        schedule.row_numbers(runs[0])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = [_seconds(functools.partial(schedule.row_numbers, run)) for run in runs[1:]]
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result[name] = {
            "us_per_index": round(
                statistics.median(wall for wall, _ in seconds) / _INDICES * 1e6, 4
            ),
            "cpu_us_per_index": round(min(cpu for _, cpu in seconds) / _INDICES * 1e6, 4),
            "peak_memory_growth_kib": after - before,
        }
    return result


def _each(task: Callable[[Any], Any], arguments: list[Any]) -> Callable[[], None]:
    def run() -> None:
        for argument in arguments:
            task(argument)

    return run


def _seconds(task: Callable[[], Any]) -> tuple[float, float]:
    """(wall, processor) seconds; the processor's are those of all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    task()
    return time.perf_counter() - wall, time.process_time() - cpu


def _rates(seconds: list[tuple[float, float]], row_bytes: int) -> dict[str, float]:
    median = statistics.median(wall for wall, _ in seconds)
    return {
        "us_per_row": round(median * 1e6, 2),
        "rows_per_s": round(1 / median),
        "gb_per_s": round(row_bytes / median / 1e9, 3),
        "us_per_row_least": round(min(wall for wall, _ in seconds) * 1e6, 2),
        "cpu_us_per_row": round(statistics.median(cpu for _, cpu in seconds) * 1e6, 2),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packed", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--repeat", type=int, default=15)
    return parser.parse_args()


if __name__ == "__main__":
    main()
