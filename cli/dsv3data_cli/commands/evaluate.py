"""`dsv3data evaluate`: measure what a trained model can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsv3data.contracts.errors import BadInput
from dsv3data_cli.options import PATH, InOrder, as_overrides, numbers, output_options
from dsv3data_cli.output import Output, table

if TYPE_CHECKING:
    from rich.console import Console


@click.group(cls=InOrder, short_help="Measure what a trained model can do.")
def evaluate() -> None:
    """Measure what a trained model can do."""


@evaluate.command(short_help="Find one sentence in a long text.")
@click.argument("run", type=PATH)
@click.option("--data", type=PATH, required=True, help="Packed set that the haystacks are made of.")
@click.option(
    "--lengths",
    callback=numbers(int),
    metavar="IDS",
    help="Lengths with commas.  [default: the model's context and its halves]",
)
@click.option(
    "--depths",
    callback=numbers(float),
    metavar="SHARES",
    help="Places of the needle, 0 the beginning.  [default: 0,0.25,0.5,0.75,1]",
)
@click.option("--samples", type=int, help="Haystacks of each length and depth.  [default: 4]")
@click.option("--seed", type=int, help="Of the haystacks.  [default: 0]")
@click.option("--average", is_flag=True, help="Take the moving average of the weights.")
@output_options
def needle(run: Path, data: Path, average: bool, output: Output, **given: Any) -> None:
    """Hide one sentence in long texts and ask the newest checkpoint of the training run in RUN.

    The sentence says a number of a city, the end of the text asks for it; it is found if greedy
    generation would give the number. RUN/needle.json keeps the table for `dsv3data report`.
    """
    from dsv3data_cli.commands.train import require_torch

    require_torch()
    from dsv3data.contracts.config import load_config, to_dict
    from dsv3data.encoding.huggingface import HuggingFaceEncoder
    from dsv3data.generation.load import load_trained
    from dsv3data.generation.needle import RESULT_NAME, NeedleConfig, find_needles
    from dsv3data.io.atomic import write_atomic
    from dsv3data.loader.packed_dataset import PackedDataset

    config = load_config(NeedleConfig, None, as_overrides(given))
    trained = load_trained(run, average=average)
    dataset = PackedDataset.open(data)
    _check_vocabulary(dataset.vocab_size, trained.model.config.vocab_size, data)
    encoder = HuggingFaceEncoder(dataset.vocabulary)
    cells = find_needles(
        trained.model,
        dataset,
        lambda text: encoder.encode([text])[0].tolist(),
        config,
        output.sink,
    )
    tree = {
        "step": trained.step,
        "checkpoint": str(trained.checkpoint),
        "context": trained.model.config.context,
        "data": dataset.root,
        "config": to_dict(config),
        "cells": [cell.to_tree() for cell in cells],
    }
    write_atomic(run / RESULT_NAME, json.dumps(tree, indent=1).encode())
    output.result(tree, lambda console: _render(console, tree))


def _check_vocabulary(needed: int, rows: int, data: Path) -> None:
    if needed > rows:
        raise BadInput(
            f"the packed set needs an embedding of {needed:,} rows, the model has {rows:,}",
            where=str(data),
            effect="nothing was measured",
            fix="give the packed set that the model was trained on, or one of its tokenizer",
        )


def _render(console: Console, tree: dict[str, Any]) -> None:
    """Lengths down, depths across; share found, and the loss of the number below 100 %."""
    cells = {(cell["length"], cell["depth"]): cell for cell in tree["cells"]}
    depths = sorted({depth for _, depth in cells})
    made = table(">tokens", *(f">at {depth:.0%}" for depth in depths))
    for length in sorted({length for length, _ in cells}):
        row = [cells[length, depth] for depth in depths]
        made.add_row(f"{length:,}", *(f"{one['found']:.0%} · {one['nats']:.2f}" for one in row))
    console.print(made)
    console.print("share of needles found · nats a token of the number, by the needle's depth")
    console.print(f"step {tree['step']:,}: {tree['checkpoint']}", soft_wrap=True, markup=False)
