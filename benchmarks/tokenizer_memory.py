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
import shutil
import sys
from pathlib import Path
from typing import Any

from measuring import dsv3data, machine


def main() -> None:
    arguments = _arguments()
    arguments.work.mkdir(parents=True)
    files = sorted(arguments.corpus.glob("*.jsonl"))
    total = sum(path.stat().st_size for path in files)
    result: dict[str, Any] = {"machine": machine(), "arguments": sys.argv[1:], "parts": []}
    for megabytes in map(int, arguments.megabytes.split(",")):
        part, out = arguments.work / "part", arguments.work / "out"
        _take(files, part, share=min(1.0, megabytes * 1e6 / total))
        bound = ("--memory", arguments.memory, "--workers", arguments.workers)
        count = _dsv3data("tokenizer", "count", part, "--out", out / "counts", *bound)
        train = _dsv3data(
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


def _dsv3data(*words: object) -> dict[str, Any]:
    figures, output = dsv3data(*words)
    return {**figures, "result": json.loads(output)}


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
