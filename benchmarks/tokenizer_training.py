#!/usr/bin/env python3
"""Time and memory of training a BPE tokenizer, by Hugging Face, by fast peers and by this project.

    python benchmarks/tokenizer_training.py CORPUS RESULTS.json
        [--bytes-per-domain N] [--vocab-size N] [--engines NAME,NAME…]

CORPUS is a folder of JSONL files, one a domain, with the field `text`. The first N bytes of text of
each are one training text, the same for all engines. Each engine runs in a process of its own,
which reads that text and writes the tokens it found; wall time, CPU time and peak memory are the
operating system's figures for the process. `dsv3data cold` is the first run of all, with an empty
cache of compiled code. Tokens are compared with Hugging Face's, one by one.
`hugging-face count` and `dsv3data count` train no merge: pre-tokenizing and counting on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from measuring import machine, measured

OURS = "dsv3data"
HUGGING_FACE = "hugging-face"
PEERS = ("rustbpe", "ffbpe")
ENGINES = (f"{OURS} cold", OURS, f"{OURS} count", HUGGING_FACE, f"{HUGGING_FACE} count", *PEERS)
FIRST_MERGE_ID = 259


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        _child(arguments.child, arguments.corpus, arguments.results, arguments.vocab_size)
        return
    with tempfile.TemporaryDirectory() as work:
        _compare(arguments, Path(work))


def _compare(arguments: argparse.Namespace, work: Path) -> None:
    sample = work / "sample.jsonl"
    domains = _write_sample(arguments.corpus, sample, arguments.bytes_per_domain)
    text_bytes = sum(domain["bytes"] for domain in domains.values())
    result: dict[str, Any] = {
        "machine": machine("tokenizers", "numba", "numpy", *PEERS),
        "arguments": sys.argv[1:],
        "vocab_size": arguments.vocab_size,
        "text": {"bytes": text_bytes, "domains": domains},
        "engines": {},
    }
    for engine in arguments.engines.split(","):
        if engine in PEERS and importlib.util.find_spec(engine) is None:
            print(f"{engine}: not installed, skipped")
            continue
        figures = _run(engine, sample, work, arguments.vocab_size)
        figures["mb_per_s"] = round(text_bytes / 1e6 / figures["wall_s"], 2)
        result["engines"][engine] = figures
        _add_comparison(result["engines"], work)
        arguments.results.write_text(json.dumps(result, indent=1) + "\n")


def _write_sample(corpus: Path, sample: Path, bytes_per_domain: int) -> dict[str, Any]:
    domains = {}
    with sample.open("wb") as out:
        for path in sorted(corpus.glob("*.jsonl")):
            size, documents = 0, 0
            for line in path.open("rb"):
                text = json.loads(line)["text"]
                if documents and size + len(text.encode()) > bytes_per_domain:
                    break
                out.write(line)
                size += len(text.encode())
                documents += 1
            domains[path.stem] = {"documents": documents, "bytes": size}
    return domains


def _run(engine: str, sample: Path, work: Path, vocab_size: int) -> dict[str, Any]:
    """One engine in its own process."""
    tokens = work / f"{engine}.tokens"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(work / "compiled")}
    if engine.endswith("count"):
        environment["TOKENIZERS_PARALLELISM"] = "false"
        vocab_size = FIRST_MERGE_ID
    program = [sys.executable, str(Path(__file__)), str(sample), str(tokens)]
    command = [*program, "--child", engine, "--vocab-size", str(vocab_size)]
    figures, output = measured(command, environment=environment)
    figures |= json.loads(output)
    print(f"{engine:20} {figures}", flush=True)
    return figures


def _add_comparison(engines: dict[str, Any], work: Path) -> None:
    """Position of the first token that differs from Hugging Face's, None where none does."""
    oracle = work / f"{HUGGING_FACE}.tokens"
    if not oracle.exists():
        return
    expected = oracle.read_text().split()
    for engine, figures in engines.items():
        if engine.endswith("count"):
            continue
        found = (work / f"{engine}.tokens").read_text().split()
        pairs = enumerate(zip(expected, found, strict=False))
        first = next((place for place, (one, other) in pairs if one != other), None)
        figures["equal"] = found == expected
        figures["first_difference"] = first


# What runs in a child: read the sample, train, write the merged tokens as hexadecimal lines, print
# the times of the phases.


def _child(engine: str, sample: Path, tokens: Path, vocab_size: int) -> None:
    train = {
        HUGGING_FACE: _train_hugging_face,
        OURS: _train_ours,
        "rustbpe": _train_rustbpe,
        "ffbpe": _train_ffbpe,
    }[engine.split()[0]]
    lap = _Lap()
    found = train(_texts(sample), vocab_size, lap)
    tokens.write_text("\n".join(token.hex() for token in found))
    print(json.dumps(lap.facts))


class _Lap:
    """Seconds of each phase, and other facts about a run."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self._last = time.perf_counter()

    def __call__(self, name: str) -> None:
        now = time.perf_counter()
        self.facts[f"{name}_s"] = round(now - self._last, 2)
        self._last = now


def _texts(sample: Path) -> Iterator[str]:
    with sample.open("rb") as lines:
        for line in lines:
            yield orjson.loads(line)["text"]


def _train_hugging_face(texts: Iterator[str], vocab_size: int, lap: _Lap) -> list[bytes]:
    from dsv3data.encoding.vocabulary import byte_to_character
    from dsv3data_tokenizer.bpe import tokenizer_json, train_bpe

    lap("import")
    tokenizer = train_bpe(texts, vocab_size=vocab_size)
    lap("train")
    lap.facts["sha256"] = hashlib.sha256(tokenizer_json(tokenizer)).hexdigest()
    byte_of = {character: value for value, character in byte_to_character().items()}
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [bytes(map(byte_of.__getitem__, left + right)) for left, right in merges]


def _train_ours(texts: Iterator[str], vocab_size: int, lap: _Lap) -> list[bytes]:
    import numpy as np
    import pyarrow as pa

    from dsv3data_tokenizer.bpe import tokenizer_json
    from dsv3data_tokenizer.merges import bpe_tokenizer, train_merges
    from dsv3data_tokenizer.word_counts import count_words

    lap("import")
    count_words([b"load or compile"])
    train_merges(pa.array([b"abab"]), np.array([1]), vocab_size=FIRST_MERGE_ID + 2)
    lap("compile")
    table = count_words(text.encode() for text in texts)
    lap("count")
    merges = train_merges(table["word"], table["count"].to_numpy(), vocab_size=vocab_size)
    lap("merge")
    data = tokenizer_json(bpe_tokenizer(merges))
    lap("write")
    lap.facts["sha256"] = hashlib.sha256(data).hexdigest()
    lap.facts["unique_words"] = len(table)
    return list(merges.token_bytes[FIRST_MERGE_ID:])


def _train_rustbpe(texts: Iterator[str], vocab_size: int, lap: _Lap) -> list[bytes]:
    """rustbpe takes one pattern: the three splits as alternatives, which is not quite the same."""
    import rustbpe

    from dsv3data_tokenizer.pretokenizer import PATTERNS

    lap("import")
    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(texts, vocab_size - 3, 8192, "|".join(PATTERNS))
    lap("train")
    return [token for token, rank in tokenizer.get_mergeable_ranks() if rank >= 256]


def _train_ffbpe(texts: Iterator[str], vocab_size: int, lap: _Lap) -> list[bytes]:
    """ffbpe takes one pattern too, but also words and counts: it gets ours."""
    import ffbpe

    from dsv3data.contracts import special_tokens
    from dsv3data_tokenizer.word_counts import count_words

    lap("import")
    table = count_words(text.encode() for text in texts)
    lap("count_by_dsv3data")
    words = [word.decode() for word in table["word"].to_pylist()]
    trainer = ffbpe.BpeTrainer(
        special_tokens.IN_VOCABULARY,
        initial_alphabet="byte_level",
        tie_break="smallest_pair_id",
    )
    trainer.add_words(list(zip(words, table["count"].to_pylist(), strict=True)))
    trainer.train(vocab_size)
    lap("merge")
    tokens = sorted(trainer.vocab.items(), key=lambda item: item[1])
    return [token for token, number in tokens if number >= FIRST_MERGE_ID]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--vocab-size", type=int, default=128_000)
    parser.add_argument("--bytes-per-domain", type=int, default=20_000_000)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
