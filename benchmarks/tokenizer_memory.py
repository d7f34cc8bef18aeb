#!/usr/bin/env python3
"""Time and memory of training a tokenizer as the corpus grows, with a bound on counting tables.

    python benchmarks/tokenizer_memory.py CORPUS WORK RESULTS.json
        [--megabytes 100,400,900,1800] [--memory 512M] [--workers N] [--vocab-size N]

CORPUS is a folder of JSONL files. A part of it is the same share from the front of each file. The
two phases run as a user would: `tokenizer count --memory …`, then `tokenizer train --counts`;
wall time is that of the whole command, peak memory that of its largest process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("dsv3data")


def main() -> None:
    arguments = _arguments()
    arguments.work.mkdir(parents=True)
    files = sorted(arguments.corpus.glob("*.jsonl"))
    total = sum(path.stat().st_size for path in files)
    result: dict[str, Any] = {"machine": _machine(), "arguments": sys.argv[1:], "parts": []}
    for megabytes in map(int, arguments.megabytes.split(",")):
        part, out = arguments.work / "part", arguments.work / "out"
        _take(files, part, share=min(1.0, megabytes * 1e6 / total))
        bound = ("--memory", arguments.memory, "--workers", arguments.workers)
        count = _run("tokenizer", "count", part, "--out", out / "counts", *bound)
        train = _run(
            *("tokenizer", "train", out / "counts", "--counts", "--out", out / "tokenizer"),
            *("--vocab-size", arguments.vocab_size),
        )
        figures = {
            "input_bytes": sum(path.stat().st_size for path in part.iterdir()),
            "unique_words": count["result"]["words"],
            **{f"count_{name}": count[name] for name in ("wall_s", "cpu_s", "peak_rss_mib")},
            **{f"train_{name}": train[name] for name in ("wall_s", "cpu_s", "peak_rss_mib")},
        }
        print(json.dumps(figures), flush=True)
        result["parts"].append(figures)
        arguments.results.write_text(json.dumps(result, indent=1) + "\n")
        shutil.rmtree(part)
        shutil.rmtree(out)


def _take(files: list[Path], folder: Path, *, share: float) -> None:
    """The first lines of each file, up to a share of its bytes."""
    folder.mkdir()
    for path in files:
        left = path.stat().st_size * share
        with path.open("rb") as lines, (folder / path.name).open("wb") as out:
            for line in lines:
                left -= len(line)
                if left < 0:
                    break
                out.write(line)


def _run(*words: object) -> dict[str, Any]:
    started = time.monotonic()
    process = subprocess.Popen(
        [str(PROGRAM), *map(str, words), "--json", "--quiet"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, words))} ended with status {status}")
    return {
        "wall_s": round(time.monotonic() - started, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_rss_mib": round(usage.ru_maxrss / 1024),
        "result": json.loads(output),
    }


def _machine() -> dict[str, Any]:
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "commit": commit,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--megabytes", default="100,400,900,1800")
    parser.add_argument("--memory", default="512M")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--vocab-size", type=int, default=128_000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
