#!/usr/bin/env python3
"""From a text to a model that finds a number in it, and finds it further back by YaRN.

    python benchmarks/needle.py RESULTS.json TEXT.jsonl [--work FOLDER] [--samples N]

Makes exercises of the text (a number of a city is said, words follow, the city is asked for), then
runs the command line as a user would, and prints each command: a tokenizer of a thousand entries; a
training on rows of 128 ids where the number is said up to three times, and from there one where it
is said once; those weights in rows of 1,024 ids with and without YaRN, as they are and after a
phase of training; `evaluate needle` of each, in text that no exercise was made of. Digits of the
text are left out, so that the number is the only one. One thread. What is finished in the folder is
not done again; seconds are then those of the last run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dsv3data.generation.needle import CITIES, DIGITS, question_about
from measuring import dsv3data, machine

CONFIG = Path(__file__).parents[1] / "configs" / "needle.toml"
SHORT, LONG = 128, 1024
# Words of an exercise beside its questions; an id is about two fifths of a word here.
SHORT_WORDS, FAR_WORDS, LONG_WORDS = (3, 30), (12, 36), (100, 370)
TEXT_BYTES, HAY_BYTES = 6_000_000, 2_000_000
YARN = [f"model.yarn.factor={LONG // SHORT}", f"model.yarn.original_context={SHORT}"]


def main() -> None:
    arguments = _arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    arguments.work.mkdir(parents=True, exist_ok=True)
    os.chdir(arguments.work)
    make_documents(arguments.text)
    run("tokenizer", "train", "text.jsonl", "--vocab-size", 1024, "--out", "tok", "--workers", 1)
    for name, context in (("short", SHORT), ("far", SHORT), ("long", LONG), ("hay", LONG)):
        run("tokenize", f"{name}.jsonl", "--tokenizer", "tok", "--out", f"ids-{name}")
        plain = ["--fim-rate", 0, "--set", "debias_rate=0", "--context", context]
        run("pack", f"ids-{name}", *plain, "--out", f"rows-{name}")
    result: dict[str, Any] = {"machine": machine("torch", "dsv3data"), "arguments": sys.argv[1:]}
    result["base"] = train("base", "rows-short", f"steps={arguments.steps}")
    far = [f"steps={arguments.far_steps}", "optimizer.lr=2e-3", "schedule.min_lr=2e-4"]
    far += ["schedule.constant_tokens=1_000_000", "schedule.cosine_tokens=900_000"]
    result["far"] = train("far", "rows-far", *far, start="base")
    lengths = ["--lengths", "64,128"]
    result["tables"] = [{"what": "trained at 128", **needle("far", arguments.samples, lengths)}]
    still = ["steps=1", "optimizer.lr=1e-30", "balance.gamma=0"]
    phase = [f"steps={arguments.long_steps}", "optimizer.lr=5e-4", "batch_rows=4"]
    for what, how in (("as it is", still), ("after a phase", phase)):
        for name, yarn in (("without YaRN", []), ("with YaRN", YARN)):
            out = f"{name} {what}".lower().replace(" ", "-")
            trained = train(out, "rows-long", *how, *yarn, start="far")
            found = needle(out, arguments.samples, ["--lengths", "128,256,512,1024"])
            result["tables"].append(
                {"what": f"{name}, {what}", "wall_s": trained["wall_s"], **found}
            )
    arguments.results.write_text(json.dumps(result, indent=1) + "\n")


def train(out: str, rows: str, *values: str, start: str = "") -> dict[str, Any]:
    """A run of the configuration with some values changed."""
    words = [word for value in values for word in ("--set", value)]
    words += ["--from", start, "--set", "schedule.warmup_steps=0"] if start else []
    return run("train", "--config", CONFIG, "--data", rows, "--out", out, *words)


def needle(out: str, samples: int, lengths: list[str]) -> dict[str, Any]:
    """Its table: share found and nats, by length and depth."""
    tree = run("evaluate", "needle", out, "--data", "rows-hay", "--samples", samples, *lengths)
    for cell in tree["cells"]:
        print(
            f"  {cell['length']:5} at {cell['depth']:4.0%}: {cell['found']:4.0%} {cell['nats']:.2f}"
        )
    return {"samples": samples, "cells": tree["cells"]}


def run(*words: object) -> dict[str, Any]:
    """A command of the program, shown first."""
    print("dsv3data", shlex.join(map(str, words)), flush=True)
    figures, output = dsv3data(*words)
    print(f"  {figures['wall_s']} s", flush=True)
    tree: dict[str, Any] = json.loads(output)
    return tree


def make_documents(text: Path) -> None:
    """text.jsonl to learn from, hay.jsonl to search in, short.jsonl and long.jsonl: exercises."""
    source = without_digits(text)
    learnt, hay = taken(source, TEXT_BYTES), taken(source, HAY_BYTES)
    words = " ".join(learnt).split(" ")
    write("text", learnt)
    write("hay", hay)
    write("short", exercises(words, 60_000, SHORT_WORDS, most=3, seed=1))
    write("far", exercises(words, 20_000, FAR_WORDS, most=1, seed=2))
    write("long", exercises(words, 4_000, LONG_WORDS, most=1, seed=3))


def without_digits(text: Path) -> Iterator[str]:
    with text.open(encoding="utf-8") as lines:
        for line in lines:
            yield re.sub(r"[0-9]+", "", json.loads(line)["text"])


def taken(source: Iterator[str], n_bytes: int) -> list[str]:
    """The next documents, so many bytes of them or as many as there are."""
    documents: list[str] = []
    for document in source:
        documents.append(document)
        n_bytes -= len(document.encode())
        if n_bytes <= 0:
            break
    return documents


def exercises(
    words: list[str], n: int, sizes: tuple[int, int], *, most: int, seed: int
) -> Iterator[str]:
    """A city's number said once or more, `most` times at most, among words of the text, and at the
    end."""
    draw = random.Random(seed)
    for _ in range(n):
        size = draw.randint(*sizes)
        start = draw.randrange(len(words) - size)
        number = "".join(draw.choices("0123456789", k=DIGITS))
        said = f"{question_about(draw.choice(CITIES))} {number}"
        cuts = sorted(draw.randint(0, size) for _ in range(draw.randint(1, most)))
        parts = [
            " ".join(words[start + first : start + last])
            for first, last in zip([0, *cuts], [*cuts, size], strict=True)
        ]
        yield f"{said}.\n".join(parts) + said


def write(name: str, documents: Iterator[str] | list[str]) -> None:
    with Path(f"{name}.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": document}) + "\n" for document in documents)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=lambda name: Path(name).resolve())
    parser.add_argument("text", type=lambda name: Path(name).resolve())
    parser.add_argument("--work", type=Path, default=Path("runs/needle"))
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--far-steps", type=int, default=1200)
    parser.add_argument("--long-steps", type=int, default=60)
    parser.add_argument("--samples", type=int, default=16)
    return parser.parse_args()


if __name__ == "__main__":
    main()
