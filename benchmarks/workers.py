#!/usr/bin/env python3
"""What a second worker brings, beside what the machine itself gives to a second process.

    python benchmarks/workers.py CORPUS TOKENIZER RESULTS.json [--rounds N] [--stages A,B…]

CORPUS is a folder of documents, TOKENIZER a tokenizer folder. A round runs each command with one
worker and with two, and before each pair a loop of integer arithmetic in one process and in two at
once: two cores of a shared machine are at times not worth two, and no program can be. Wall time is
that of the whole command, its start included. `gain` is the work done in a second by two, divided
by that by one. Peak memory is that of the largest process: a run with a larger CORPUS says whether
it grows with the input. Figures are medians of the rounds, `best` the best round's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import dsv3data, machine

COUNT, TOKENIZE, PACK = "tokenizer count", "tokenize", "pack"
LOOP = "total = 0\nfor number in range(40_000_000): total += number * number"


def main() -> None:
    arguments = _arguments()
    stages = arguments.stages.split(",")
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as work:
        words = _commands(arguments.corpus, arguments.tokenizer, Path(work))
        if PACK in stages:
            dsv3data(*words[TOKENIZE], "--out", Path(work) / "tokens")
        for _ in range(arguments.rounds):
            rounds.append({stage: _pair(words[stage], Path(work)) for stage in stages})
            print(json.dumps(rounds[-1]), flush=True)
            result = {
                "machine": machine(),
                "arguments": sys.argv[1:],
                "stages": {stage: _summary([one[stage] for one in rounds]) for stage in stages},
                "rounds": rounds,
            }
            arguments.results.write_text(json.dumps(result, indent=1) + "\n")


def _commands(corpus: Path, tokenizer: Path, work: Path) -> dict[str, list[object]]:
    """Each without --workers and --out; pack reads what tokenize leaves."""
    return {
        COUNT: ["tokenizer", "count", corpus],
        TOKENIZE: ["tokenize", corpus, "--tokenizer", tokenizer],
        PACK: ["pack", work / "tokens"],
    }


def _pair(words: list[object], work: Path) -> dict[str, float]:
    loops = [_seconds_of_loops(processes) for processes in (1, 2)]
    walls, cpus, peaks = [], [], []
    for workers in (1, 2):
        out = work / "out"
        figures, _ = dsv3data(*words, "--out", out, "--workers", workers)
        walls.append(figures["wall_s"])
        cpus.append(figures["cpu_s"])
        peaks.append(figures["peak_rss_mib"])
        shutil.rmtree(out)
    return {
        "wall_1_s": round(walls[0], 2),
        "wall_2_s": round(walls[1], 2),
        "cpu_1_s": round(cpus[0], 2),
        "cpu_2_s": round(cpus[1], 2),
        "peak_rss_1_mib": peaks[0],
        "peak_rss_2_mib": peaks[1],
        "gain": round(walls[0] / walls[1], 3),
        "machine_gain": round(2 * loops[0] / loops[1], 3),
    }


def _seconds_of_loops(processes: int) -> float:
    started = time.monotonic()
    running = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(processes)]
    for process in running:
        process.wait()
    return time.monotonic() - started


def _summary(pairs: list[dict[str, float]]) -> dict[str, float]:
    middle = {name: round(statistics.median(pair[name] for pair in pairs), 3) for name in pairs[0]}
    return {**middle, "best_gain": max(pair["gain"] for pair in pairs)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stages", default=f"{COUNT},{TOKENIZE},{PACK}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
