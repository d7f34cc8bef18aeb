#!/usr/bin/env python3
"""Time and memory of every data command on a corpus, through the installed command line.

    python benchmarks/path.py CORPUS WORK RESULTS.json [--vocab-size N] [--workers N]

CORPUS is a file or folder of documents, WORK a folder for the outputs (it must not exist). Each
command runs once, as a user would run it; wall time, CPU time and peak memory are the operating
system's figures for the whole process tree (peak memory: its largest process).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).with_name("dsv3data")


def main() -> None:
    arguments = _arguments()
    corpus, work = arguments.corpus, arguments.work
    work.mkdir(parents=True)
    tokenizer, tokens, packed = work / "tok", work / "tokens", work / "packed"
    workers = ("--workers", arguments.workers)
    tokenize = ("tokenize", corpus, "--tokenizer", tokenizer, "--out", tokens, *workers)
    stages: dict[str, tuple[object, ...]] = {
        "tokenizer train": (
            *("tokenizer", "train", corpus, "--out", tokenizer),
            *("--vocab-size", arguments.vocab_size),
        ),
        "tokenize": tokenize,
        "tokenize, found done": tokenize,
        "pack": ("pack", tokens, "--out", packed, *workers),
        "pack --dry-run": (
            *("pack", tokens, "--out", work / "none", "--dry-run"),
            *("--context", "4096,32768,131072"),
        ),
        "verify tokens": ("verify", tokens),
        "verify packed": ("verify", packed),
    }
    result: dict[str, Any] = {"machine": _machine(), "arguments": sys.argv[1:], "stages": {}}
    for name, words in stages.items():
        result["stages"][name] = _run([str(word) for word in words])
        arguments.results.write_text(json.dumps(result, indent=1) + "\n")


def _run(words: list[str]) -> dict[str, Any]:
    started = time.monotonic()
    process = subprocess.Popen(
        [str(PROGRAM), *words, "--json", "--quiet"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    code = os.waitstatus_to_exitcode(status)
    print(f"{seconds:8.1f} s  {usage.ru_maxrss / 1024:7.0f} MiB  {' '.join(words)}", flush=True)
    if code:
        raise SystemExit(f"exit code {code}")
    return {
        "command": ["dsv3data", *words],
        "wall_s": round(seconds, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_rss_mib": round(usage.ru_maxrss / 1024),
        "result": json.loads(output),
    }


def _machine() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--vocab-size", type=int, default=128_000)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
