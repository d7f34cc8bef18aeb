#!/usr/bin/env python3
"""The start of `dsv3data tokenize`: a short input, of which almost all time is loading.

    python benchmarks/tokenize_start.py DOCUMENTS.jsonl TOKENIZER RESULTS.json
        [--versions NAME=CHECKOUT ...] [--unit-bytes N] [--workers 1,2] [--rounds N]

DOCUMENTS are a few megabytes, so that there is a unit for each worker. The installed command is run
with the code of each checkout, one after the other in each round; without --versions, with its own.
Wall and CPU time are the operating system's figures for the whole process tree. RESULTS holds every
run and the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import PROGRAM, machine, measured

_ROOTS = ("", "cli", "pipelines", "tokenizer_training")


def main() -> None:
    arguments = _arguments()
    versions = dict(version.split("=", 1) for version in arguments.versions)
    runs: list[dict[str, Any]] = []
    for _ in range(arguments.rounds):
        for workers in arguments.workers.split(","):
            for name, checkout in versions.items():
                runs.append(_run(arguments, name, checkout, workers))
                print(runs[-1], flush=True)
    assert len({run["root"] for run in runs}) == 1, "the versions write other bytes"
    result = {
        "machine": machine("fastokens", "tokenizers", "numpy", "pyarrow"),
        "arguments": sys.argv[1:],
        "medians": _medians(runs),
        "runs": runs,
    }
    arguments.results.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["medians"], indent=1))


def _run(arguments: argparse.Namespace, name: str, checkout: str, workers: str) -> dict[str, Any]:
    path = os.pathsep.join(str(Path(checkout).absolute() / root) for root in _ROOTS)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(PROGRAM, "tokenize", arguments.documents, "--tokenizer", arguments.tokenizer),
            *("--out", Path(folder) / "out", "--workers", workers),
            *("--unit-bytes", arguments.unit_bytes, "--json", "--quiet"),
        ]
        figures, output = measured(command, environment={**os.environ, "PYTHONPATH": path})
    root = json.loads(output)["root"]
    return {"version": name, "workers": int(workers), **figures, "root": root}


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = sorted({(run["workers"], run["version"]) for run in runs})
    return {
        f"{version}, workers {workers}": {
            figure: statistics.median(
                run[figure]
                for run in runs
                if (run["workers"], run["version"]) == (workers, version)
            )
            for figure in ("wall_s", "cpu_s", "peak_rss_mib")
        }
        for workers, version in kinds
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("documents", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("results", type=Path)
    here = Path(__file__).parent.parent
    parser.add_argument("--versions", nargs="+", default=[f"now={here}"])
    parser.add_argument("--unit-bytes", type=int, default=1 << 20)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
