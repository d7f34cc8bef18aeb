"""`dsv3data tokenizer`: train a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsv3data_cli.cluster import Cluster
from dsv3data_cli.options import (
    PATH,
    PATH_OR_URL,
    READING,
    InOrder,
    as_overrides,
    config_options,
    executor_options,
    memory_option,
    numbers,
    output_options,
    reading_options,
    take,
    workers_option,
    writing_options,
)
from dsv3data_cli.output import Output, duration, peak_memory_bytes, quantity, table

if TYPE_CHECKING:
    from rich.console import Console


@click.group(cls=InOrder)
def tokenizer() -> None:
    """Train and judge DeepSeek-V3's byte-level BPE tokenizer."""


@tokenizer.command("train", short_help="Documents to a tokenizer.")
@click.argument("inputs", nargs=-1, required=True, type=PATH)
@click.option("--vocab-size", type=int, help="Model entries.  [default: 128000]")
@click.option("--min-frequency", type=int, help="Rarer pairs are not merged.  [default: 0]")
@click.option("--max-token-bytes", type=int, help="Longest token; 0: no limit.  [default: 0]")
@click.option(
    "--allow-smaller/--no-allow-smaller",
    default=None,
    help="Accept fewer entries when the corpus has no more pairs.",
)
@click.option(
    "--ladder",
    callback=numbers(int),
    metavar="SIZES",
    help="Also cut smaller vocabularies, e.g. 32000,64000, into OUT-32000 and OUT-64000.",
)
@click.option(
    "--without",
    "without_files",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="Strings that may not become tokens, as `tokenizer report --junk` lists them.",
)
@click.option(
    "--counts",
    "from_counts",
    is_flag=True,
    help="INPUTS are folders of `tokenizer count`; several add up.",
)
@workers_option
@memory_option
@writing_options
@reading_options
@config_options
@output_options
def train(
    inputs: tuple[Path, ...],
    from_counts: bool,
    without_files: tuple[Path, ...],
    ladder: tuple[int, ...] | None,
    workers: int,
    memory_bytes: int,
    out: Path,
    fresh: bool,
    dry_run: bool,
    config_file: Path | None,
    overrides: tuple[str, ...],
    output: Output,
    **given: Any,
) -> None:
    """Train on the documents below INPUTS (files or folders; `tokenizer count` takes URLs too).

    Reads .jsonl and .csv (.gz, .zst), .parquet, .arrow and text files. Writes tokenizer.json (for
    `tokenizers` and `transformers`), tokenizer_config.json, report.json and manifest.json.
    """
    from dsv3data.contracts.config import load_config
    from dsv3data_tokenizer.config import TokenizerTrainConfig
    from dsv3data_tokenizer.forecast import forecast
    from dsv3data_tokenizer.train import train_tokenizer
    from dsv3data_tokenizer.without import read_without

    reading = as_overrides(take(given, READING), prefix="read.")
    config = load_config(
        TokenizerTrainConfig, config_file, [*reading, *as_overrides(given), *overrides]
    )
    if dry_run:
        if from_counts:
            raise click.UsageError("--dry-run forecasts counting; with --counts there is none")
        facts = forecast(inputs, config, workers=workers, sink=output.sink)
        output.result(facts, lambda console: console.print(_facts(facts)))
        return
    result = train_tokenizer(
        inputs,
        out=out,
        config=config,
        sink=output.sink,
        workers=workers,
        memory_bytes=memory_bytes,
        from_counts=from_counts,
        ladder=ladder or (),
        without=read_without(without_files),
        fresh=fresh,
    )
    tree = {
        "out": str(out),
        "reused": result.reused,
        "peak_memory_bytes": peak_memory_bytes(),
        **result.report,
    }
    output.result(tree, lambda console: _render(console, tree))


@tokenizer.command("count", short_help="Documents to word counts, for several vocabularies.")
@click.argument("inputs", nargs=-1, required=True, type=PATH_OR_URL)
@executor_options
@workers_option
@memory_option
@click.option("--out", type=PATH, required=True, help="Output folder.")
@click.option("--fresh", is_flag=True, help="Move old output aside and start anew.")
@reading_options
@config_options
@output_options
def count(
    inputs: tuple[Path | str, ...],
    cluster: Cluster | None,
    workers: int,
    memory_bytes: int,
    out: Path,
    fresh: bool,
    config_file: Path | None,
    overrides: tuple[str, ...],
    output: Output,
    **given: Any,
) -> None:
    """Count the pre-tokens of the documents below INPUTS (files, folders or URLs).

    Writes counts.arrow (word, count; sorted, so the same for any number of workers) and its
    manifest. `tokenizer train --counts` takes one or several such folders; SQL engines that read
    Arrow can query them. On a cluster --memory is that of each task.
    """
    from dsv3data.contracts.config import load_config
    from dsv3data_tokenizer.count import CountConfig, count_corpus, plan_count

    reading = as_overrides(take(given, READING), prefix="read.")
    config = load_config(CountConfig, config_file, [*reading, *overrides])
    if cluster is not None:
        from dsv3data_pipelines.executors import count_stage

        plan = plan_count(
            [one if isinstance(one, str) else one.absolute() for one in inputs],
            out=out.absolute(),
            config=config,
            sink=output.sink,
        )
        stage = count_stage(plan, memory_bytes=memory_bytes, fresh=fresh, sink=output.sink)
        manifest = cluster.run(stage, fresh=False, output=output)
        if manifest is not None:
            _show_counts(output, {"out": str(out), "root": manifest.root, **manifest.counts})
        return
    result = count_corpus(
        inputs,
        out=out,
        config=config,
        sink=output.sink,
        workers=workers,
        memory_bytes=memory_bytes,
        fresh=fresh,
    )
    facts = {"out": str(out), "root": result.root, "peak_memory_bytes": peak_memory_bytes()}
    _show_counts(output, {**facts, **result.counts})


def _show_counts(output: Output, tree: dict[str, Any]) -> None:
    output.result(tree, lambda console: _render_counts(console, tree))


def _render_counts(console: Console, tree: dict[str, Any]) -> None:
    made = table("domain", ">documents", ">text", ">share")
    for name, figures in tree["domains"].items():
        share = figures["bytes"] / tree["bytes"]
        made.add_row(
            name, f"{figures['documents']:,}", quantity(figures["bytes"], "B"), f"{share:.2%}"
        )
    console.print(made)
    console.print(f"{tree['words']:,} unique words")
    console.print(f"root {tree['root']}", soft_wrap=True)
    console.print(f"written: {tree['out']}", soft_wrap=True, markup=False)


def _facts(facts: dict[str, Any]) -> Any:
    made = table("would read", ">amount")
    made.add_row("files", f"{facts['files']:,}")
    made.add_row("input", quantity(facts["input_bytes"], "B"))
    made.add_row("vocabulary", f"{facts['vocab_size']:,}")
    made.add_row("unique words, about", quantity(facts["unique_words_estimate"], "words"))
    made.add_row("counting, about", duration(facts["count_seconds_estimate"]))
    made.add_row("memory, about", quantity(facts["memory_bytes_estimate"], "B"))
    made.add_row("disk, about", quantity(facts["disk_bytes_estimate"], "B"))
    return made


def _render(console: Console, tree: dict[str, Any]) -> None:
    made = table("domain", ">documents", ">text", ">share", ">bytes per token")
    domains = tree["training_text"]["domains"]
    for name, figures in domains.items():
        judged = tree["compression"].get(name)
        made.add_row(
            name,
            f"{figures['documents']:,}",
            quantity(figures["bytes"], "B"),
            f"{figures['bytes'] / tree['training_text']['bytes']:.2%}",
            f"{judged['bytes_per_token']:.3f}" if judged else "not read",
        )
    console.print(made)
    console.print(
        f"{tree['ids']:,} ids (embedding rows {tree['embedding_rows']:,}), "
        f"{tree['punctuation_break_tokens']:,} punctuation+newline tokens"
    )
    console.print(f"tokenizer {tree['sha256']}", soft_wrap=True)
    console.print(f"peak memory {quantity(tree['peak_memory_bytes'], 'B')}")
    reused = "unchanged since an earlier run" if tree["reused"] else "written"
    console.print(f"{reused}: {tree['out']}", soft_wrap=True)
