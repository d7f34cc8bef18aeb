#!/usr/bin/env python3
"""Throughput and memory of tokenizing JSONL to shards, beside others and beside the bare engine.

    python benchmarks/tokenize_engines.py CORPUS TOKENIZER RESULTS.json [--rounds N]
        [--engines NAME,NAME…] [--bytes-per-domain N] [--slow-bytes-per-domain N]
        [--datatrove-python FILE]

CORPUS is a folder of JSONL files, one a domain, with the field `text`; the first N bytes of text of
each are the input. `hugging-face` and `datatrove` take hours for what the others do in seconds:
they get the smaller input of --slow-bytes-per-domain. A round runs each engine once, so that what
else happens on the machine meets all of them; figures are medians of the rounds.

Each run is a process of its own: wall, CPU and peak memory are the operating system's figures for
it and its children. `start_s` is the same process with one short document; `mb_per_s` is text per
second of wall time, `steady_mb_per_s` per second after the start, `encode_mb_per_s` per second that
the bare engine encoded.

    dsv3data W             the command, W workers, with its checks
    dsv3data W unchecked   without the sample that Hugging Face encodes once more (--check-rate 0)
    engine W               a loop of orjson and fastokens, W threads of it; ids are dropped
    hugging-face W         a loop of orjson and encode_batch_fast, W threads of it; ids are dropped
    datatrove W            JsonlReader and DocumentTokenizer, W threads of Hugging Face's tokenizers
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from measuring import PROGRAM, machine, measured

OURS, ENGINE, HUGGING_FACE, DATATROVE = "dsv3data", "engine", "hugging-face", "datatrove"
ENGINES = (
    *(f"{OURS} 1", f"{OURS} 2", f"{OURS} 1 unchecked", f"{OURS} 2 unchecked"),
    *(f"{ENGINE} 1", f"{ENGINE} 2"),
    *(f"{HUGGING_FACE} 1", f"{HUGGING_FACE} 2", f"{DATATROVE} 1", f"{DATATROVE} 2"),
)
SLOW = (HUGGING_FACE, DATATROVE)
GROUP_CHARACTERS = 1 << 20
MEASURES = ("wall_s", "start_s", "cpu_s", "peak_rss_mib", "mb_per_s", "steady_mb_per_s")
ENCODING = "encode_mb_per_s"


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        _child(arguments.child, arguments.corpus, arguments.tokenizer, arguments.results)
        return
    with tempfile.TemporaryDirectory() as work:
        _compare(arguments, Path(work))


def _compare(arguments: argparse.Namespace, work: Path) -> None:
    fast, slow, start = work / "fast", work / "slow", work / "start"
    result: dict[str, Any] = {
        "machine": machine("fastokens", "tokenizers", "datatrove", "orjson", "pyarrow", "numpy"),
        "arguments": sys.argv[1:],
        "rounds": arguments.rounds,
        "input": _write_sample(arguments.corpus, fast, arguments.bytes_per_domain),
        "slow_input": _write_sample(arguments.corpus, slow, arguments.slow_bytes_per_domain),
        "engines": {},
    }
    start.mkdir()
    (start / "one.jsonl").write_text('{"text": "one"}\n')
    engines = arguments.engines.split(",")
    for number in range(arguments.rounds):
        for engine in engines:
            is_slow = engine.split()[0] in SLOW
            sample, size = (slow, "slow_input") if is_slow else (fast, "input")
            figures = _run(engine, sample, arguments, work)
            figures["start_s"] = _run(engine, start, arguments, work)["wall_s"]
            _add_rates(figures, result[size]["bytes"])
            print(f"round {number + 1}  {engine:22} {figures}", flush=True)
            runs = result["engines"].setdefault(engine, {"input": size, "runs": []})
            runs["runs"].append(figures)
            for name in (*MEASURES, *({ENCODING} & set(figures))):
                runs[name] = statistics.median(run[name] for run in runs["runs"])
        arguments.results.write_text(json.dumps(result, indent=1) + "\n")


def _write_sample(corpus: Path, folder: Path, bytes_per_domain: int) -> dict[str, int]:
    folder.mkdir()
    documents = total = 0
    for path in sorted(corpus.glob("*.jsonl")):
        size = 0
        with path.open("rb") as lines, (folder / path.name).open("wb") as out:
            for line in lines:
                out.write(line)
                size += len(json.loads(line)["text"].encode())
                documents += 1
                if size >= bytes_per_domain:
                    break
        total += size
    return {"documents": documents, "bytes": total}


def _add_rates(figures: dict[str, Any], n_bytes: int) -> None:
    wall = figures["wall_s"]
    figures["mb_per_s"] = round(n_bytes / 1e6 / wall, 2)
    figures["steady_mb_per_s"] = round(n_bytes / 1e6 / (wall - figures["start_s"]), 2)
    if "encode_s" in figures:
        figures[ENCODING] = round(n_bytes / 1e6 / figures["encode_s"], 2)


def _run(engine: str, sample: Path, arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One engine in its own process, whose output folder is removed afterwards."""
    name, threads, *options = engine.split()
    out = work / "out"
    if name == OURS:
        program = [str(PROGRAM), "tokenize", str(sample)]
        command = [*program, "--tokenizer", str(arguments.tokenizer), "--out", str(out), "--json"]
        command += ["--quiet", "--workers", threads]
        command += ["--check-rate", "0"] if options else []
    else:
        python = arguments.datatrove_python if name == DATATROVE else sys.executable
        program = [str(python), str(Path(__file__)), str(sample), str(arguments.tokenizer)]
        command = [*program, str(out), "--child", name]
    threads_of = {
        "FASTOKENS_BPE_THREADS": threads,
        "RAYON_NUM_THREADS": threads,  # Hugging Face's
        "TOKENIZERS_PARALLELISM": "true" if threads != "1" else "false",
    }
    environment = {**os.environ, **({} if name == OURS else threads_of)}
    figures, output = measured(command, environment=environment)
    shutil.rmtree(out, ignore_errors=True)
    facts = json.loads(output)
    if "peak_memory_bytes" in facts:
        figures["peak_rss_mib"] = round(facts["peak_memory_bytes"] / 2**20)
    return figures | {key: facts[key] for key in ("tokens", "encode_s", "root") if key in facts}


# What runs in a child: tokenize the sample, print how many tokens there were.


def _child(name: str, sample: Path, tokenizer: Path, out: Path) -> None:
    work = {ENGINE: _bare_engine, HUGGING_FACE: _hugging_face, DATATROVE: _datatrove}[name]
    print(json.dumps(work(sample, tokenizer / "tokenizer.json", out)))


def _bare_engine(sample: Path, tokenizer: Path, out: Path) -> dict[str, Any]:
    from fastokens import Tokenizer

    engine = Tokenizer.from_json_str(_document_json(tokenizer))
    tokens, seconds = 0, 0.0
    for group in _groups(sample):
        started = time.perf_counter()
        ids, _ = engine.encode_batch_flat(group)
        seconds += time.perf_counter() - started
        tokens += len(ids) // 4
    return {"tokens": tokens, "encode_s": round(seconds, 3)}


def _hugging_face(sample: Path, tokenizer: Path, out: Path) -> dict[str, Any]:
    from tokenizers import Tokenizer

    engine = Tokenizer.from_str(_document_json(tokenizer))
    tokens = 0
    for group in _groups(sample):
        encodings = engine.encode_batch_fast(group, add_special_tokens=False)
        tokens += sum(len(encoding.ids) for encoding in encodings)
    return {"tokens": tokens}


def _datatrove(sample: Path, tokenizer: Path, out: Path) -> dict[str, Any]:
    """As its documentation shows it, on the tokenizer as it is: it writes ids of 4 bytes."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(sample)),
            DocumentTokenizer(
                output_folder=str(out / "tokens"),
                tokenizer_name_or_path=str(tokenizer),
                shuffle_documents=False,
            ),
        ],
        logging_dir=str(out / "logs"),
        tasks=1,
    ).run()
    size = sum(path.stat().st_size for path in (out / "tokens").rglob("*.ds"))
    return {"tokens": size // 4}


def _groups(sample: Path) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for path in sorted(sample.glob("*.jsonl")):
        for line in path.open("rb"):
            group.append(orjson.loads(line)["text"])
            size += len(group[-1])
            if size >= GROUP_CHARACTERS:
                yield group
                group, size = [], 0
    yield group


def _document_json(tokenizer: Path) -> str:
    tree = json.loads(tokenizer.read_bytes())
    return json.dumps({**tree, "added_tokens": [], "post_processor": None})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bytes-per-domain", type=int, default=1 << 40)
    parser.add_argument("--slow-bytes-per-domain", type=int, default=4_000_000)
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--datatrove-python", type=Path, default=Path(sys.executable))
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
