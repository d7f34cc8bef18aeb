"""`dsv3data tokenizer`: train a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsv3data_cli.options import (
    PATH,
    READING,
    as_overrides,
    config_options,
    output_options,
    reading_options,
    take,
    writing_options,
)
from dsv3data_cli.output import Output, quantity, table

if TYPE_CHECKING:
    from rich.console import Console


@click.group()
def tokenizer() -> None:
    """Train DeepSeek-V3's byte-level BPE tokenizer."""


@tokenizer.command("train", short_help="Documents to a tokenizer.")
@click.argument("inputs", nargs=-1, required=True, type=PATH)
@click.option("--vocab-size", type=int, help="Model entries.  [default: 128000]")
@click.option("--min-frequency", type=int, help="Rarer pairs are not merged.  [default: 0]")
@click.option(
    "--allow-smaller/--no-allow-smaller",
    default=None,
    help="Accept fewer entries when the corpus has no more pairs.",
)
@writing_options
@reading_options
@config_options
@output_options
def train(
    inputs: tuple[Path, ...],
    out: Path,
    fresh: bool,
    dry_run: bool,
    config_file: Path | None,
    overrides: tuple[str, ...],
    output: Output,
    **given: Any,
) -> None:
    """Train on the documents below INPUTS (files or folders).

    Reads .jsonl (.gz, .zst), .parquet, .arrow and text files. Writes tokenizer.json (for
    `tokenizers` and `transformers`), tokenizer_config.json, report.json and manifest.json.
    """
    from dsv3data.contracts.config import load_config
    from dsv3data_tokenizer.config import TokenizerTrainConfig
    from dsv3data_tokenizer.train import describe_input, train_tokenizer

    reading = as_overrides(take(given, READING), prefix="read.")
    config = load_config(
        TokenizerTrainConfig, config_file, [*reading, *as_overrides(given), *overrides]
    )
    if dry_run:
        facts = describe_input(inputs, config, sink=output.sink)
        output.result(facts, lambda console: console.print(_facts(facts)))
        return
    result = train_tokenizer(inputs, out=out, config=config, sink=output.sink, fresh=fresh)
    tree = {"out": str(out), "reused": result.reused, **result.report}
    output.result(tree, lambda console: _render(console, tree))


def _facts(facts: dict[str, Any]) -> Any:
    made = table("would read", ">amount")
    made.add_row("files", f"{facts['files']:,}")
    made.add_row("input", quantity(facts["input_bytes"], "B"))
    made.add_row("vocabulary", f"{facts['vocab_size']:,}")
    return made


def _render(console: Console, tree: dict[str, Any]) -> None:
    made = table("domain", ">documents", ">text", ">bytes per token")
    domains = tree["training_text"]["domains"]
    for name, figures in tree["compression"].items():
        made.add_row(
            name,
            f"{domains[name]['documents']:,}",
            quantity(domains[name]["bytes"], "B"),
            f"{figures['bytes_per_token']:.3f}",
        )
    console.print(made)
    console.print(
        f"{tree['ids']:,} ids (embedding rows {tree['embedding_rows']:,}), "
        f"{tree['punctuation_break_tokens']:,} punctuation+newline tokens"
    )
    console.print(f"tokenizer {tree['sha256']}", soft_wrap=True)
    reused = "unchanged since an earlier run" if tree["reused"] else "written"
    console.print(f"{reused}: {tree['out']}", soft_wrap=True)
