"""`dsv3data tokenize`: documents to token shards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsv3data_cli.cluster import Cluster
from dsv3data_cli.options import (
    PATH,
    PATH_OR_URL,
    READING,
    as_overrides,
    config_options,
    executor_options,
    output_options,
    reading_options,
    take,
    workers_option,
    writing_options,
)
from dsv3data_cli.output import Output, duration, peak_memory_bytes, quantity, table

if TYPE_CHECKING:
    from rich.console import Console


@click.command(short_help="Documents to token shards.")
@click.argument("inputs", nargs=-1, required=True, type=PATH_OR_URL)
@click.option(
    "--tokenizer", type=PATH, required=True, help="Folder of a tokenizer, or its tokenizer.json."
)
@click.option("--unit-bytes", type=int, help="Input bytes per work unit.  [default: 67108864]")
@click.option(
    "--max-rejected",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Share of rejected records above which the exit code is 6.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "fastokens", "huggingface"]),
    default="auto",
    show_default=True,
    help="Who encodes; the ids are the same. auto: who proves exact and measures fastest.",
)
@click.option(
    "--check-rate",
    type=click.FloatRange(0, 1),
    default=0.001,
    show_default=True,
    help="Share of documents that the reference engine encodes once more, to compare.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N documents: a trial.")
@executor_options
@workers_option
@writing_options
@reading_options
@config_options
@output_options
def tokenize(
    inputs: tuple[Path | str, ...],
    tokenizer: Path,
    max_rejected: float,
    engine: str,
    check_rate: float,
    limit: int | None,
    cluster: Cluster | None,
    workers: int,
    out: Path,
    fresh: bool,
    dry_run: bool,
    config_file: Path | None,
    overrides: tuple[str, ...],
    output: Output,
    **given: Any,
) -> None:
    """Tokenize the documents below INPUTS (files, folders or URLs) into Arrow token shards.

    One row per document, without FIM and without control tokens; text of control tokens inside a
    document stays text. What cannot be read is listed in rejected.jsonl with its reason.
    """
    from dsv3data.contracts.config import load_config
    from dsv3data_pipelines.tokenize import TokenizeConfig, forecast, plan_tokenize
    from dsv3data_pipelines.tokenize import tokenize as run

    reading = as_overrides(take(given, READING), prefix="read.")
    config = load_config(TokenizeConfig, config_file, [*reading, *as_overrides(given), *overrides])
    how: dict[str, Any] = {"engine": engine, "check_rate": check_rate, "limit": limit}
    if dry_run:
        facts = forecast(
            inputs,
            tokenizer=tokenizer,
            config=config,
            workers=workers,
            sink=output.sink,
            engine=engine,
        )
        output.result(facts, lambda console: console.print(_forecast(facts)))
        return
    if cluster is not None:
        from dsv3data_pipelines.executors import tokenize_stage

        plan = plan_tokenize(
            [one if isinstance(one, str) else one.absolute() for one in inputs],
            tokenizer=tokenizer.absolute(),
            out=out.absolute(),
            config=config,
            sink=output.sink,
            **how,
        )
        stage = tokenize_stage(plan, max_rejected=max_rejected)
        manifest = cluster.run(stage, fresh=fresh, output=output)
        if manifest is not None:
            _show(output, {"out": str(out), "root": manifest.root, **manifest.counts})
        return
    result = run(
        inputs,
        tokenizer=tokenizer,
        out=out,
        config=config,
        sink=output.sink,
        workers=workers,
        max_rejected=max_rejected,
        fresh=fresh,
        **how,
    )
    facts = {
        "out": str(out),
        "root": result.root,
        "seconds": result.seconds,
        "bytes_per_second": result.counts["bytes"] / max(result.seconds, 1e-9),
        "tokens_per_second": result.counts["tokens"] / max(result.seconds, 1e-9),
        "peak_memory_bytes": peak_memory_bytes(),
        **result.run,
    }
    _show(output, {**facts, **result.counts})


def _show(output: Output, tree: dict[str, Any]) -> None:
    output.result(tree, lambda console: _render(console, tree))


def _forecast(facts: dict[str, Any]) -> Any:
    made = table("would do", ">amount")
    made.add_row("files", f"{facts['files']:,}")
    made.add_row("work units", f"{facts['units']:,}")
    made.add_row("input", quantity(facts["input_bytes"], "B"))
    made.add_row("engine", facts["engine"])
    made.add_row("documents, about", f"{facts['documents_estimate']:,}")
    made.add_row("text, about", quantity(facts["text_bytes_estimate"], "B"))
    made.add_row("tokens, about", quantity(facts["tokens_estimate"], "tokens"))
    made.add_row("disk, about", quantity(facts["disk_bytes_estimate"], "B"))
    made.add_row("time, about", duration(facts["seconds_estimate"]))
    return made


def _render(console: Console, tree: dict[str, Any]) -> None:
    made = table("domain", ">documents", ">text", ">tokens", ">bytes per token")
    rows = [*tree["domains"].items()]
    for name, figures in [*rows, ("in all", tree)] if len(rows) > 1 else rows:
        made.add_row(
            name,
            f"{figures['documents']:,}",
            quantity(figures["bytes"], "B"),
            f"{figures['tokens']:,}",
            f"{figures['bytes'] / figures['tokens']:.3f}",
        )
    console.print(made)
    for count, text in (
        (tree["rejected"], "records rejected: see rejected.jsonl"),
        (tree["empty"], "documents empty"),
        (tree["control_text_documents"], "documents with text of control tokens, kept as text"),
        (tree["replaced_characters_documents"], "documents with replaced invalid characters"),
    ):
        if count:
            console.print(f"{count:,} {text}")
    if "seconds" in tree:
        console.print(_speed(tree), soft_wrap=True)
    console.print(f"root {tree['root']}", soft_wrap=True)
    console.print(f"written: {tree['out']}", soft_wrap=True)


def _speed(tree: dict[str, Any]) -> str:
    if tree["documents_encoded"] == tree["documents"]:
        rate = quantity(tree["tokens_per_second"], "tokens")
        done = (
            f"{quantity(tree['bytes_per_second'], 'B')} of text/s · {rate}/s"
            f" in {duration(tree['seconds'])}"
        )
    else:
        done = f"{tree['documents_encoded']:,} documents encoded, the others were done before"
    return (
        f"{done} · largest process {quantity(tree['peak_memory_bytes'], 'B')} · "
        f"{', '.join(tree['units_by_engine']) or 'no engine'}, "
        f"documents checked by the reference: {tree['documents_checked']:,}"
    )
