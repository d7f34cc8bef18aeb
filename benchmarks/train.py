#!/usr/bin/env python3
"""Training steps of the tiny model here and of the same model built from `transformers`.

    python benchmarks/train.py RESULTS.json [--steps N] [--rows N] [--context N] [--vocab-size N]

One process, steps taken in turns; a step is forward, backward, clipping and AdamW on the same rows
of random ids, in fp32 on the CPU. Both have the shapes of configs/tiny.toml without the MTP
module, which `transformers` does not have. Ours includes the sequence-wise balance loss and the
update of the router biases, which it does not have either.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import transformers

from dsv3data.contracts.config import load_config
from dsv3data.model.hf_config import hf_config
from dsv3data.model.init import init_weights
from dsv3data.model.transformer import Transformer
from dsv3data.training.config import TrainConfig
from dsv3data.training.optimizer import AdamW
from dsv3data.training.schedule import knobs
from dsv3data.training.spikes import NO_LIMITS
from dsv3data.training.step import train_step
from measuring import machine

# Wall time, and processor time of all threads: the latter says more on a machine that is shared.
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
TINY = Path(__file__).parents[1] / "configs" / "tiny.toml"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows as the loader gives them."""

    input_ids: np.ndarray
    n_tokens: np.ndarray
    row_ids: np.ndarray
    domain_ids: np.ndarray


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    config = load_config(TrainConfig, TINY)
    config = replace(config, batch_rows=arguments.rows, model=replace(config.model, mtp_depth=0))
    config = config.with_model(vocab_size=arguments.vocab_size, context=arguments.context)
    batch = _batch(config)
    steps = {"dsv3data": _ours(config, batch), "transformers": _theirs(config, batch)}
    seconds = {clock: {name: [] for name in steps} for clock in CLOCKS}
    for number in range(arguments.steps + 2):
        for name, step in steps.items():
            started = {clock: now() for clock, now in CLOCKS.items()}
            step()
            for clock, now in CLOCKS.items() if number >= 2 else ():
                seconds[clock][name].append(now() - started[clock])
    tokens = arguments.rows * arguments.context
    result = {
        "machine": machine("torch", "transformers") | {"threads": arguments.threads},
        "arguments": sys.argv[1:],
        "tokens_per_step": tokens,
        "step_s": {
            clock: {name: [round(value, 4) for value in values] for name, values in runs.items()}
            for clock, runs in seconds.items()
        },
        "tokens_per_s": {
            name: round(tokens / statistics.median(values))
            for name, values in seconds["wall"].items()
        },
        "ratio": {clock: _ratio(runs) for clock, runs in seconds.items()},
    }
    arguments.results.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result[key] for key in ("tokens_per_s", "ratio")}))


def _ratio(runs: dict[str, list[float]]) -> float:
    """Median of theirs over ours, step by step: neighbours in time share what else the machine
    does."""
    pairs = zip(runs["transformers"], runs["dsv3data"], strict=True)
    return round(statistics.median(theirs / ours for theirs, ours in pairs), 3)


def _batch(config: TrainConfig) -> Batch:
    rows, context = config.batch_rows, config.model.context
    ids = np.random.default_rng(0).integers(3, config.model.vocab_size, (rows, context))
    return Batch(
        input_ids=ids.astype(np.int32),
        n_tokens=np.full(rows, context, np.int32),
        row_ids=np.arange(rows),
        domain_ids=np.zeros(rows, np.int32),
    )


def _ours(config: TrainConfig, batch: Batch) -> Callable[[], None]:
    model = Transformer(config.model)
    init_weights(model, 0)
    optimizer = AdamW(model.named_parameters(), config.optimizer)
    values = knobs(config, step=100, tokens=0)

    def step() -> None:
        train_step(model, optimizer, batch, values, config, NO_LIMITS)

    return step


def _theirs(config: TrainConfig, batch: Batch) -> Callable[[], None]:
    torch.manual_seed(0)
    model = transformers.DeepseekV3ForCausalLM(
        transformers.DeepseekV3Config(**hf_config(config.model), attn_implementation="sdpa")
    )
    model.train()
    shape = config.optimizer
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=shape.lr,
        betas=(shape.beta1, shape.beta2),
        weight_decay=shape.weight_decay,
    )
    ids = torch.from_numpy(batch.input_ids.astype(np.int64))

    def step() -> None:
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), shape.clip)
        optimizer.step()

    return step


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--vocab-size", type=int, default=17_280)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
