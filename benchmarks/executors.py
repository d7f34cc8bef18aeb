#!/usr/bin/env python3
"""A corpus tokenized by each executor: one root hash, every document accounted for.

    PYTHONPATH=tests/helpers python benchmarks/executors.py CORPUS TOKENIZER RESULTS.json
        [--executors NAME,NAME…]

CORPUS is a folder of JSONL files without blank lines. Each way runs once; `root` must be the same,
and of each set `verify` recounts the documents, which with the rejected ones must be the lines of
the corpus. `wall_s` is that of the whole command, its start included. Slurm is a cluster of one
node, Ray one of two CPUs, both started for the run: times say how much a task's start costs, not
what a cluster can do.

    local W       the command, W workers
    datatrove     datatrove's LocalPipelineExecutor over our step: 4 tasks, 2 at a time
    ray           --executor ray --tasks 4
    slurm         --executor slurm --tasks 4 --wait
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from measuring import PROGRAM, dsv3data, machine, measured
from tiny_slurm import tiny_slurm, why_not

TASKS, AT_ONCE = 4, 2
DATATROVE, RAY, SLURM = "datatrove", "ray", "slurm"
EXECUTORS = ("local 1", "local 2", DATATROVE, RAY, SLURM)


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        print(
            json.dumps(
                {"root": _datatrove(arguments.corpus, arguments.tokenizer, arguments.results)}
            )
        )
        return
    executors = arguments.executors.split(",")
    if SLURM in executors and why_not():
        raise SystemExit(why_not())
    result: dict[str, Any] = {
        "machine": machine("datatrove", "ray", "fastokens", "tokenizers"),
        "arguments": sys.argv[1:],
        "lines": sum(sum(1 for _ in path.open("rb")) for path in arguments.corpus.glob("*.jsonl")),
        "executors": {},
    }
    with tempfile.TemporaryDirectory() as work, ExitStack() as clusters:
        environment = dict(os.environ)
        if SLURM in executors:
            environment |= clusters.enter_context(tiny_slurm()).env
        for executor in executors:
            out = Path(work) / "tokens"
            command = _command(executor, arguments, out)
            figures, output = measured(command, environment=environment)
            root = json.loads(output)["root"]
            recounted = json.loads(dsv3data("verify", out)[1])
            rejected = sum(1 for _ in (out / "rejected.jsonl").open("rb"))
            shutil.rmtree(out)
            found = {name: recounted["facts"][name] for name in ("documents", "tokens", "bytes")}
            assert (recounted["root"], found["documents"] + rejected) == (root, result["lines"])
            figures = {"root": root, "wall_s": figures["wall_s"], "rejected": rejected, **found}
            result["executors"][executor] = figures
            print(f"{executor:10} {figures}", flush=True)
            arguments.results.write_text(json.dumps(result, indent=1) + "\n")
    roots = {figures["root"] for figures in result["executors"].values()}
    if len(roots) != 1:
        raise SystemExit(f"{len(roots)} different roots")
    print(f"{len(executors)} executors, one root: {roots.pop()}")


def _command(executor: str, arguments: argparse.Namespace, out: Path) -> list[object]:
    name, *workers = executor.split()
    if name == DATATROVE:
        words = [sys.executable, __file__, arguments.corpus, arguments.tokenizer, out]
        return [*words, "--child"]
    words = [arguments.corpus, "--tokenizer", arguments.tokenizer, "--out", out]
    ours = [PROGRAM, "tokenize", *words, "--json", "--quiet"]
    if workers:
        return [*ours, "--workers", workers[0]]
    ours += ["--executor", name, "--tasks", TASKS, "--workers", AT_ONCE]
    return [*ours, "--wait"] if name == SLURM else ours


def _datatrove(corpus: Path, tokenizer: Path, out: Path) -> str:
    """The root of a set whose units datatrove's own local executor deals out."""
    from datatrove.executor import LocalPipelineExecutor

    from dsv3data.contracts.progress import NullSink
    from dsv3data.stages.shared_run import begin_run
    from dsv3data_pipelines.executors import tokenize_stage
    from dsv3data_pipelines.executors.steps import DoShare, publish
    from dsv3data_pipelines.tokenize import TokenizeConfig, plan_tokenize

    sink = NullSink()
    plan = plan_tokenize([corpus], tokenizer=tokenizer, out=out, config=TokenizeConfig(), sink=sink)
    stage = tokenize_stage(plan, max_rejected=0.01)
    run = begin_run(out, stage.plan, command="", fresh=False, sink=sink)
    logs = str(run.folder / "units")
    steps = [DoShare(run, stage.units)]
    LocalPipelineExecutor(steps, tasks=TASKS, workers=AT_ONCE, logging_dir=logs).run()
    return publish(stage, run, sink=sink).root


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--executors", default=",".join(EXECUTORS))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
