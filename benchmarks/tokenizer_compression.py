#!/usr/bin/env python3
"""Compression of a tokenizer trained here beside public ones, on sources that it has not seen.

    python benchmarks/tokenizer_compression.py CORPUS WORK RESULTS.json --hold-out SOURCE,SOURCE…
        [--against NAME=tokenizer.json …] [--vocab-size N] [--sample-mb N]

CORPUS is a folder of JSONL files with the fields `text`, `source` and `domain`. Documents of the
held-out sources are what is judged; the tokenizer is trained on all others, by the installed
commands. WORK (it must not exist) keeps both halves and the tokenizer.

Public tokenizers were trained on the web, ours on the kind of text that this corpus consists of,
if not on these sources: the comparison flatters ours, less than its own training text would.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from measuring import dsv3data, machine


def main() -> None:
    arguments = _arguments()
    arguments.work.mkdir(parents=True)
    split = _split(arguments.corpus, arguments.work, set(arguments.hold_out.split(",")))
    tokenizer = arguments.work / "ours"
    size = ("--vocab-size", arguments.vocab_size)
    dsv3data("tokenizer", "train", arguments.work / "train", "--out", tokenizer, *size)
    against = [word for text in arguments.against for word in ("--against", text)]
    _, output = dsv3data(
        *("tokenizer", "report", tokenizer, arguments.work / "held-out", *against),
        *("--sample-mb", arguments.sample_mb),
    )
    report = json.loads(output)
    names = [facts["name"] for facts in report["tokenizers"]]
    result = {
        "machine": machine(),
        "arguments": sys.argv[1:],
        "bytes_by_source": split,
        "tokenizers": report["tokenizers"],
        "sample": report["sample"],
        "compression": {
            domain: dict(zip(names, figures, strict=True))
            for domain, figures in report["compression"]["domains"].items()
        },
    }
    arguments.results.write_text(json.dumps(result, indent=1) + "\n")
    _print(result["compression"], names)


def _split(corpus: Path, work: Path, held_out: set[str]) -> dict[str, dict[str, int]]:
    """Write WORK/train and WORK/held-out; bytes of text of each source in each."""
    sizes: dict[str, Counter[str]] = {"train": Counter(), "held-out": Counter()}
    for half in sizes:
        (work / half).mkdir()
    for path in sorted(corpus.glob("*.jsonl")):
        files = {half: (work / half / path.name).open("wb") for half in sizes}
        with path.open("rb") as lines:
            for line in lines:
                fields = json.loads(line)
                half = "held-out" if fields["source"] in held_out else "train"
                files[half].write(line)
                sizes[half][f"{fields['domain']}/{fields['source']}"] += len(
                    fields["text"].encode()
                )
        for file in files.values():
            file.close()
    missing = held_out - {name.partition("/")[2] for name in sizes["held-out"]}
    if missing:
        sys.exit(f"no source in the corpus is called {', '.join(sorted(missing))}")
    return {half: dict(sorted(counts.items())) for half, counts in sizes.items()}


def _print(compression: dict[str, dict[str, Any]], names: list[str]) -> None:
    print("bytes per token".ljust(16), *(name.rjust(14) for name in names))
    for domain, figures in compression.items():
        values = (f"{figures[name]['bytes_per_token']['value']:.3f}" for name in names)
        print(domain.ljust(16), *(value.rjust(14) for value in values))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--hold-out", required=True)
    parser.add_argument("--against", action="append", default=[])
    parser.add_argument("--vocab-size", type=int, default=128_000)
    parser.add_argument("--sample-mb", type=float, default=4.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
