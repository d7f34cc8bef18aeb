"""Packing against what others do, on the lengths of a token set; end-to-end speed of `pack`.

    python -P benchmarks/pack.py TOKENS --out benchmarks/results/pack.json

(-P, because another file here has the name of a module that pandas imports.)

Rivals get the same document lengths (end-of-sentence counted), cut at the context as they do it:
- `segment-tree`: best-fit-decreasing with a segment tree over remaining room, one document at a
  time, written from the description in arXiv 2404.10830 (the method of TRL's "bfd" and of OLMo);
- `trl`: TRL's own `pack_dataset(strategy="bfd")`, where `trl` is importable;
- `concat`: documents one after the other, a row every L ids (Megatron).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dsv3data.contracts.manifest import TOKENS
from dsv3data.contracts.progress import NullSink
from dsv3data.io.manifest_file import read_manifest
from dsv3data.packing.best_fit import assign, length_histogram, plan
from dsv3data.packing.config import PackConfig
from dsv3data.packing.cut import cut_documents
from dsv3data_pipelines.pack import forecast, pack
from dsv3data_pipelines.pack.batches import batch_lengths, unchecked_batches

Lengths = np.ndarray[Any, np.dtype[np.int64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tokens", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    manifest = read_manifest(given.tokens, expect=(TOKENS,))
    lengths = np.concatenate(
        [batch_lengths(batch) for batch in unchecked_batches(given.tokens, manifest)]
    ).astype(np.int64)
    result = {
        "command": " ".join(sys.argv),
        "commit": _commit(),
        "machine": f"{platform.machine()}, {platform.processor() or platform.platform()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "documents": len(lengths),
        "tokens": int(lengths.sum()),
        "packers": _packers(lengths, given.context, given.repeat),
        "plan_seconds_1e9_documents": _plan_seconds(given.repeat),
        "assign_documents_per_second": _assign_rate(given.repeat),
        "forecast_seconds": _seconds(lambda: _forecast(given.tokens), given.repeat),
        "end_to_end": _end_to_end(given.tokens, manifest.counts["tokens"], given),
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _packers(lengths: Lengths, context: int, repeat: int) -> dict[str, Any]:
    """Rows and padding of each, and the median time, measured in turns."""
    rivals: dict[str, Callable[[], int]] = {
        "dsv3data": lambda: int(
            assign(cut_documents(lengths, context).length, context).max(initial=-1) + 1
        ),
        "segment-tree": lambda: _segment_tree(cut_documents(lengths, context).length, context),
        "concat": lambda: -(-int((lengths + 1).sum()) // context),
    }
    if importlib.util.find_spec("trl"):
        rivals["trl"] = lambda: _trl(lengths, context)
    times: dict[str, list[float]] = {name: [] for name in rivals}
    rows = {}
    for _ in range(repeat):
        for name, run in rivals.items():
            started = time.perf_counter()
            rows[name] = run()
            times[name].append(time.perf_counter() - started)
    ids = int((lengths + 1).sum())
    too_long = int((lengths + 1 > context).sum())
    ends = np.cumsum(lengths + 1)
    crossing = int(((ends - 1) // context != (ends - lengths - 1) // context).sum())
    return {
        name: {
            "seconds": statistics.median(times[name]),
            "rows": rows[name],
            "padding_share": 1 - ids / (rows[name] * context),
            "documents_cut": crossing if name == "concat" else too_long,
        }
        for name in rivals
    }


def _segment_tree(lengths: Lengths, context: int) -> int:
    """Best-fit-decreasing as published: a tree over rooms 0..L, its leaves the bins of that room.
    A node holds the largest room below it that some bin has; each piece is one walk."""
    leaves = 1 << context.bit_length()
    tree = [0] * (2 * leaves)
    bins = [0] * (context + 1)

    def change(room: int, by: int) -> None:
        bins[room] += by
        node = leaves + room
        tree[node] = room if bins[room] else 0
        while node > 1:
            node //= 2
            tree[node] = max(tree[2 * node], tree[2 * node + 1])

    def best(size: int) -> int:
        """Smallest room of at least `size` that a bin has, 0 if none."""
        node = leaves + size
        if tree[node] >= size:
            return size
        while node > 1:
            if node % 2 == 0 and tree[node + 1] >= size:
                node += 1
                while node < leaves:
                    node = 2 * node if tree[2 * node] >= size else 2 * node + 1
                return tree[node]
            node //= 2
        return 0

    rows = 0
    for size in np.sort(lengths)[::-1].tolist():
        room = best(size)
        if room:
            change(room, -1)
        else:
            rows, room = rows + 1, context
        if room > size:
            change(room - size, 1)
    return rows


def _trl(lengths: Lengths, context: int) -> int:
    from datasets import Dataset  # type: ignore[import-not-found,unused-ignore]
    from trl import pack_dataset  # type: ignore[import-not-found,unused-ignore]

    pieces = cut_documents(lengths, context).length
    rows = Dataset.from_dict({"input_ids": [[0] * n for n in pieces.tolist()]})
    return len(pack_dataset(rows, seq_length=context, strategy="bfd"))


def _plan_seconds(repeat: int) -> float:
    """A plan for 1e9 lognormal lengths at L = 4096."""
    drawn = np.random.default_rng(0).lognormal(6.0, 1.0, 1_000_000).astype(np.int64)
    histogram = length_histogram(np.clip(drawn, 1, 4096), 4096) * 1000
    return _seconds(lambda: plan(histogram, 4096), repeat)


def _assign_rate(repeat: int) -> float:
    drawn = np.random.default_rng(0).lognormal(6.0, 1.0, 2_000_000).astype(np.int64)
    lengths = np.clip(drawn, 1, 4096)
    return len(lengths) / _seconds(lambda: assign(lengths, 4096), repeat)


def _forecast(tokens: Path) -> None:
    forecast(tokens, contexts=(4096, 32768, 131072), config=PackConfig())


def _end_to_end(tokens: Path, count: int, given: argparse.Namespace) -> dict[str, Any]:
    """MB/s of token data on one core, after one run to load what is loaded once."""
    variants = {
        "plain": PackConfig(context=given.context, fim_rate=0.0, debias_rate=0.0),
        "debias": PackConfig(context=given.context, fim_rate=0.0),
        "fim": PackConfig(context=given.context, debias_rate=0.0),
        "fim and debias": PackConfig(context=given.context),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(given.repeat + 1):
        for name, config in variants.items():
            folder = Path(tempfile.mkdtemp(dir=given.scratch))
            started = time.perf_counter()
            pack(tokens, out=folder / "out", config=config, sink=NullSink())
            if turn:
                times[name].append(time.perf_counter() - started)
            shutil.rmtree(folder)
    return {
        name: {
            "seconds": statistics.median(found),
            "token_mb_per_s": 4 * count / 1e6 / statistics.median(found),
        }
        for name, found in times.items()
    }


def _seconds(run: Callable[[], object], repeat: int) -> float:
    found = []
    for _ in range(repeat):
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
