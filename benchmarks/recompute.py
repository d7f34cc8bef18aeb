#!/usr/bin/env python3
"""What the backward pass keeps, and what a step costs, with and without each named recomputation.

    python benchmarks/recompute.py RESULTS.json [--context N] [--runs N]

One process on the CPU, in fp32: two layers (one dense, one with experts) and the MTP module of the
widths of configs/small.toml, over one row of random ids. Bytes are those that the graph holds when
the forward pass is over, weights left out, each piece of memory once; by hooks on what is saved.
Seconds are processor time of forward and backward, taken in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dsv3data.contracts.config import load_config
from dsv3data.model import recompute
from dsv3data.model.config import Remade
from dsv3data.model.init import init_weights
from dsv3data.model.transformer import Transformer
from dsv3data.training.config import TrainConfig
from measuring import machine

SMALL = Path(__file__).parents[1] / "configs" / "small.toml"
ALL: tuple[Remade, ...] = ("rms_norm", "mla_up", "swiglu")
CHOICES: list[tuple[Remade, ...]] = [(), *((name,) for name in ALL), ALL]


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    sizes = load_config(TrainConfig, SMALL).model
    config = replace(sizes, n_layers=2, vocab_size=1024, context=arguments.context)
    model = Transformer(config)
    init_weights(model, 0)
    ids_BT = torch.randint(3, 1024, (1, arguments.context))
    results = [{"recompute": list(names), "kept_bytes": 0, "cpu_s": []} for names in CHOICES]
    for _ in range(arguments.runs):
        for names, result in zip(CHOICES, results, strict=True):
            model.set_recompute(names)
            started = time.process_time()
            result["kept_bytes"] = _step(model, ids_BT)
            result["cpu_s"].append(round(time.process_time() - started, 3))
    for result in results:
        result["median_cpu_s"] = statistics.median(result["cpu_s"])
        print(json.dumps(result))
    tree = {"machine": machine("torch"), "arguments": sys.argv[1:], "results": results}
    arguments.results.write_text(json.dumps(tree, indent=1) + "\n")


def _step(model: Transformer, ids_BT: Tensor) -> int:
    """Forward and backward; bytes that were kept between them."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept_bytes: dict[int, int] = {}
    decide = recompute.kept_for_backward

    def keep(tensor: Tensor) -> Tensor | recompute.Note:
        kept = decide(tensor)
        if isinstance(kept, Tensor):
            memory = kept.untyped_storage()
            if memory.data_ptr() not in weights:
                kept_bytes[memory.data_ptr()] = memory.nbytes()
        return kept

    recompute.kept_for_backward = keep
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, recompute.given_to_backward):
            output = model(ids_BT)
    finally:
        recompute.kept_for_backward = decide
    assert output.mtp_hidden_BTD is not None
    (output.hidden_BTD.square().mean() + output.mtp_hidden_BTD.square().mean()).backward()
    model.zero_grad()
    return sum(kept_bytes.values())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
