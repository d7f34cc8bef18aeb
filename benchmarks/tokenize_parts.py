#!/usr/bin/env python3
"""What a worker of `tokenize` spends its CPU time on, part by part.

    python benchmarks/tokenize_parts.py CORPUS TOKENIZER RESULTS.json [--rounds N]

All units of CORPUS after the first one (which loads the engine) are done on a clock of CPU time, so
that what else happens on the machine matters little, by an engine that is new in each round and has
met no word yet; figures are medians of the rounds.
`start_s` is the CPU time of the installed command on one short document: the start of a worker.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import dsv3data_pipelines.tokenize.parts_clock as parts_clock
import dsv3data_pipelines.tokenize.unit as unit
from dsv3data.contracts.progress import NullSink
from dsv3data.stages.units import complete_unit
from dsv3data_pipelines.tokenize import TokenizeConfig, plan_tokenize
from measuring import dsv3data, machine

UNIT_BYTES = 16 << 20


class Parts(NullSink):
    """Adds up what units tell."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def advance(self, amount: int, **counts: int) -> None:
        self.counts.update(counts)


class CpuTime:
    """In the place of `time` in the unit's clock of its parts."""

    perf_counter_ns = staticmethod(time.process_time_ns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rounds = []
    for _ in range(arguments.rounds):
        unit._load.cache_clear()
        with mock.patch.object(parts_clock, "time", CpuTime):
            parts = _parts(arguments)
        rounds.append({**parts, "start_s": _start(arguments.tokenizer)})
        print(rounds[-1], flush=True)
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    result = {
        "machine": machine("fastokens", "tokenizers", "orjson", "pyarrow"),
        "arguments": sys.argv[1:],
        "rounds": rounds,
        "medians": medians,
    }
    arguments.results.write_text(json.dumps(result, indent=1) + "\n")


def _parts(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as work:
        plan = plan_tokenize(
            [arguments.corpus],
            tokenizer=arguments.tokenizer,
            out=Path(work),
            config=TokenizeConfig(unit_bytes=UNIT_BYTES),
            sink=NullSink(),
        )
        complete_unit(plan.tasks[0], NullSink())
        sink = Parts()
        started = time.process_time()
        for task in plan.tasks[1:]:
            complete_unit(task, sink)
        seconds = time.process_time() - started
    parts = {name[:-3]: count / 1e6 for name, count in sink.counts.items() if name[-3:] == "_us"}
    return {
        "input_bytes": sum(task.size for task in plan.tasks[1:]),
        "documents": sink.counts["documents"],
        "cpu_s": round(seconds, 3),
        **{f"{name}_s": round(value, 3) for name, value in parts.items()},
    }


def _start(tokenizer: Path) -> float:
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "one.jsonl").write_text('{"text": "one"}\n')
        words = ["tokenize", f"{work}/one.jsonl", "--tokenizer", tokenizer, "--out", f"{work}/out"]
        seconds: float = dsv3data(*words, "--workers", 1)[0]["cpu_s"]
        return seconds


if __name__ == "__main__":
    main()
