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
import sys
from pathlib import Path
from typing import Any

from measuring import dsv3data, machine


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
    result: dict[str, Any] = {"machine": machine(), "arguments": sys.argv[1:], "stages": {}}
    for name, words in stages.items():
        figures, output = dsv3data(*words)
        command = ["dsv3data", *map(str, words)]
        print(name, figures, flush=True)
        result["stages"][name] = {"command": command, **figures, "result": json.loads(output)}
        arguments.results.write_text(json.dumps(result, indent=1) + "\n")


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
