"""Packing against what others do, on the documents of a token set; end-to-end speed of `pack`.

    python benchmarks/pack.py TOKENS --out benchmarks/results/pack.json

Less than six minutes for a set of 450 MB.

`packers`: who stands where, from lengths alone (end-of-sentence counted), for all documents:
- `segment-tree`: best-fit-decreasing with a segment tree over remaining room, one document at a
  time, written from the description in arXiv 2404.10830;
- `olmo`: OLMo-core's own `InstancePacker`, where `olmo_core` is importable.

`rows`: the same and the rows of ids, in memory:
- `megatron`: documents one after the other, a row every L ids;
- `trl …`: TRL's own `pack_dataset` with each of its strategies, where `trl` is importable; it packs
  a thousand documents at a time, `all at once` with the batch size set to all of them. `bfd` drops
  what exceeds a row: `ids_lost`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from dsv3data.contracts.manifest import TOKENS
from dsv3data.contracts.progress import NullSink
from dsv3data.io.make_columns import column_of
from dsv3data.io.manifest_file import read_manifest
from dsv3data.packing.best_fit import assign, length_histogram, plan
from dsv3data.packing.config import PackConfig
from dsv3data.packing.cut import cut_documents
from dsv3data.packing.order import arrange, packing_words
from dsv3data.packing.rows import PieceIds, build_rows
from dsv3data_pipelines.pack import forecast, pack
from dsv3data_pipelines.pack.batches import batch_ids, batch_lengths, unchecked_batches
from measuring import machine

EOS, PAD = 1, 2

Lengths = np.ndarray[Any, np.dtype[np.int64]]
Ids = np.ndarray[Any, np.dtype[np.int32]]
Made = TypeVar("Made")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tokens", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    manifest = read_manifest(given.tokens, expect=(TOKENS,))
    batches = [*unchecked_batches(given.tokens, manifest)]
    lengths = np.concatenate([batch_lengths(batch) for batch in batches])
    ids = np.concatenate([batch_ids(batch) for batch in batches])
    result = {
        "command": " ".join(sys.argv),
        "machine": machine("numpy", "pyarrow", "datasets", "trl", "ai2-olmo-core"),
        "documents": len(lengths),
        "tokens": int(lengths.sum()),
        "plan_seconds_1e9_documents": _plan_seconds(given.repeat),
        "assign_documents_per_second": _assign_rate(given.repeat),
        "forecast_seconds": _seconds(lambda: _forecast(given.tokens), given.repeat),
        "packers": _packers(lengths, given.context, given.repeat),
        "rows": _rows(lengths, ids, given.context, given.repeat),
        "end_to_end": _end_to_end(given.tokens, manifest.counts["tokens"], given),
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _packers(lengths: Lengths, context: int, repeat: int) -> dict[str, Any]:
    """Rows and padding of each, and the median time, measured in turns."""
    pieces = cut_documents(lengths, context).length
    rivals: dict[str, Callable[[], int]] = {
        "dsv3data": lambda: int(assign(pieces, context).max(initial=-1) + 1),
        "segment-tree": lambda: _segment_tree(pieces, context),
    }
    if _importable("olmo_core.data.utils") and context & (context - 1) == 0:
        rivals["olmo"] = lambda: _olmo(pieces, context)
    rows, seconds = _in_turns(rivals, repeat)
    ids = int(pieces.sum())
    return {
        name: {
            "seconds": seconds[name],
            "documents_per_second": len(lengths) / seconds[name],
            "rows": rows[name],
            "padding_share": 1 - ids / (rows[name] * context),
        }
        for name in rivals
    }


def _rows(lengths: Lengths, ids: Ids, context: int, repeat: int) -> dict[str, Any]:
    """Rows of ids of the same documents by each, in memory."""
    ends = np.cumsum(lengths)
    stream = np.insert(ids, ends, EOS)
    rivals: dict[str, Callable[[], tuple[int, int]]] = {
        "dsv3data": lambda: _our_rows(lengths, ids, context),
        "megatron": lambda: _megatron(stream, context),
    }
    if _importable("trl"):
        for strategy in ("bfd", "bfd_split", "wrapped"):
            rivals[f"trl {strategy}"] = partial(_trl, lengths, stream, context, strategy, 1000)
        rivals["trl bfd_split, all at once"] = partial(
            _trl, lengths, stream, context, "bfd_split", len(lengths)
        )
    made, seconds = _in_turns(rivals, repeat)
    starts = ends + np.arange(len(ends)) - lengths  # in the stream
    crossing = int((starts // context != (starts + lengths) // context).sum())
    too_long = int((lengths + 1 > context).sum())
    cut = {"megatron": crossing, "trl wrapped": _crossing_in_windows(lengths, context)}
    return {
        name: {
            "seconds": seconds[name],
            "token_mb_per_s": 4e-6 * len(stream) / seconds[name],
            "rows": rows,
            "padding_share": 1 - held / (rows * context),
            "documents_cut": cut.get(name, too_long),
            "ids_lost": len(stream) - held,
        }
        for name, (rows, held) in made.items()
    }


def _in_turns(
    rivals: dict[str, Callable[[], Made]], repeat: int
) -> tuple[dict[str, Made], dict[str, float]]:
    """What each made, and its median time; all take a turn before anyone takes the next."""
    made: dict[str, Made] = {}
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(repeat):
        for name, run in rivals.items():
            started = time.perf_counter()
            made[name] = run()
            times[name].append(time.perf_counter() - started)
    return made, {name: statistics.median(found) for name, found in times.items()}


def _our_rows(lengths: Lengths, ids: Ids, context: int) -> tuple[int, int]:
    """As `pack` does without FIM and debias, but for reading and writing: rows, ids in them."""
    keys = np.random.default_rng(0).integers(0, 2**64, (len(lengths), 2), dtype=np.uint64)
    table = cut_documents(lengths, context)
    words, starts = keys[table.document], np.cumsum(lengths) - lengths
    bins = assign(table.length, context, packing_words(words, table.piece, seed=0))
    arrangement = arrange(bins, words, table.piece, seed=0)
    pieces = PieceIds(
        values=(ids,),
        source=np.zeros(len(bins), dtype=np.int64),
        start=starts[table.document] + table.start,
        length=table.length,
        eos=table.has_eos,
    )
    rows = build_rows(pieces, arrangement, context=context, pad_id=PAD, eos_id=EOS)
    return len(rows.input_ids), int(rows.n_tokens.sum())


def _megatron(stream: Ids, context: int) -> tuple[int, int]:
    """Concatenate and cut; what is left at the end fills no row."""
    rows = stream[: len(stream) // context * context].reshape(-1, context).copy()
    return len(rows), rows.size


def _trl(
    lengths: Lengths, stream: Ids, context: int, strategy: str, window: int
) -> tuple[int, int]:
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    offsets = np.concatenate([[0], np.cumsum(lengths + 1)]).astype(np.int32)
    lists = pa.ListArray.from_arrays(column_of(offsets), column_of(stream))
    made = pack_dataset(
        Dataset(pa.table({"input_ids": lists})),
        seq_length=context,
        strategy=strategy,
        map_kwargs={"batch_size": window, "keep_in_memory": True},
    )
    column = made.data.column("input_ids")
    return len(made), sum(len(chunk.flatten()) for chunk in column.chunks)


def _crossing_in_windows(lengths: Lengths, context: int) -> int:
    """Documents cut by concatenation that begins anew every thousand documents."""
    cut = 0
    for start in range(0, len(lengths), 1000):
        ends = np.cumsum(lengths[start : start + 1000] + 1)
        starts = ends - lengths[start : start + 1000] - 1
        cut += int((starts // context != (ends - 1) // context).sum())
    return cut


def _olmo(pieces: Lengths, context: int) -> int:
    from olmo_core.data.utils import (
        InstancePacker,
    )

    ends = np.cumsum(pieces)
    places = np.stack([ends - pieces, ends], axis=1).astype(np.uint64)
    instances, _, _ = InstancePacker(context).pack_documents(places)
    return len(instances)


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
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for turn in range(given.repeat + 1):
        for name, config in variants.items():
            folder = Path(tempfile.mkdtemp(dir=given.scratch))
            started, used = time.perf_counter(), _cpu_seconds()
            pack(tokens, out=folder / "out", config=config, sink=NullSink())
            if turn:
                spent = _cpu_seconds() - used
                times[name].append((time.perf_counter() - started, spent))
            shutil.rmtree(folder)
    found = {}
    for name, pairs in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*pairs, strict=True))
        mega = 4e-6 * count
        found[name] = {
            "seconds": wall,
            "cpu_seconds": cpu,
            "token_mb_per_s": mega / wall,
            "token_mb_per_cpu_second": mega / cpu,
        }
    for figures in found.values():
        figures["share_of_plain"] = found["plain"]["cpu_seconds"] / figures["cpu_seconds"]
    return found


def _importable(module: str) -> bool:
    """Whether it is there; if so, it is imported, so that no rival's time holds that."""
    if importlib.util.find_spec(module.split(".")[0]) is None:
        return False
    importlib.import_module(module)
    return True


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system


def _seconds(run: Callable[[], object], repeat: int) -> float:
    found = []
    for _ in range(repeat):
        started = time.perf_counter()
        run()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


if __name__ == "__main__":
    main()
