#!/usr/bin/env python3
"""A training run that is killed on its way, beside one that is not: the same numbers, to the bit?

    python benchmarks/killed_run.py PACKED CONFIG RESULTS.json --work FOLDER
        [--kill 760:KILL --kill 1530:TERM] [--compare-only]

Both runs go on at the same time, a thread of torch each; give it half an hour or more. A signal is
sent when metrics.jsonl has that many lines. Compared are all lines but for times, and the files of
the last checkpoint. `--compare-only` takes the runs that FOLDER already holds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import PROGRAM, machine

TIMES = {"tokens_per_s", "tflop_per_s", "data_wait_s", "checkpoint_wait_s"}
STRETCHES = 8  # means of the losses are taken over so many parts of the run
Record = dict[str, Any]


def main() -> None:
    arguments = _arguments()
    work: Path = arguments.work
    killed, unbroken, events = work / "killed", work / "unbroken", work / "events.jsonl"
    if not arguments.compare_only:
        work.mkdir(parents=True)
        twin = _start(arguments, unbroken)
        _run_and_kill(arguments, killed, events)
        if twin.wait():
            raise SystemExit(f"the unbroken run ended with {twin.returncode}")
    result = {
        "machine": machine("torch"),
        "arguments": sys.argv[1:],
        "config": arguments.config.read_text().splitlines(),
        "events": [json.loads(line) for line in events.read_text().splitlines()],
        "same_lines": _lines(killed) == _lines(unbroken),
        "checkpoint": _checkpoint(unbroken),
        "same_checkpoint": _checkpoint(killed) == _checkpoint(unbroken),
        "losses": list(_losses(_lines(unbroken))),
    }
    arguments.results.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: result[name] for name in ("same_lines", "same_checkpoint")}))


def _run_and_kill(arguments: argparse.Namespace, out: Path, events: Path) -> None:
    with events.open("w") as log:

        def say(**event: Any) -> None:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            print(json.dumps({"at": now, **event}), file=log, flush=True)

        for kill in arguments.kill:
            step, name = kill.split(":")
            say(event="start", step=_steps(out))
            process = _start(arguments, out)
            while _steps(out) < int(step) and process.poll() is None:
                time.sleep(1)
            say(event=f"SIG{name}", step=_steps(out))
            process.send_signal(signal.Signals[f"SIG{name}"])
            say(event="exit", code=process.wait(), step=_steps(out))
        say(event="start", step=_steps(out))
        say(event="exit", code=_start(arguments, out).wait(), step=_steps(out))


def _start(arguments: argparse.Namespace, out: Path) -> subprocess.Popen[bytes]:
    words = ["train", "--data", arguments.packed, "--config", arguments.config, "--out", out]
    return subprocess.Popen(
        [PROGRAM, *map(str, words), "--quiet"], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def _steps(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def _lines(run: Path) -> list[Record]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: record[name] for name in record.keys() - TIMES} for record in records]


def _checkpoint(run: Path) -> dict[str, str]:
    """SHA-256 of each file of the newest checkpoint."""
    newest = max((run / "checkpoints").glob("step-*"))
    return {
        f"{newest.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(newest.iterdir())
    }


def _losses(lines: list[Record]) -> Iterator[Record]:
    """Mean main loss in nats a token, in all and of each domain, over stretches of the run."""
    size = len(lines) // STRETCHES
    for start in range(0, size * STRETCHES, size):
        losses: dict[str, list[float]] = defaultdict(list)
        for record in lines[start : start + size]:
            losses["all"].append(record["main_loss"])
            losses["bits per byte"].append(record["bits_per_byte"])
            for domain, loss in record["loss_by_domain"].items():
                losses[domain].append(loss)
        means = {name: round(statistics.fmean(values), 3) for name, values in losses.items()}
        yield {"steps": [start + 1, start + size], **dict(sorted(means.items()))}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("packed", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kill", action="append", default=[])
    parser.add_argument("--compare-only", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
