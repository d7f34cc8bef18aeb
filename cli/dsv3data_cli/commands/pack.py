"""`dsv3data pack`: token shards to training rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsv3data_cli.cluster import Cluster
from dsv3data_cli.options import (
    PATH,
    as_overrides,
    config_options,
    executor_options,
    output_options,
    workers_option,
    writing_options,
)
from dsv3data_cli.output import Output, quantity, table

if TYPE_CHECKING:
    from rich.console import Console


def _contexts(
    context: click.Context, option: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """`4096` or, for a forecast, `4096,32768,131072`."""
    try:
        return tuple(int(part) for part in value.split(",")) if value is not None else None
    except ValueError:
        problem = f"{value!r} is not a number, or numbers with commas"
        raise click.BadParameter(problem, ctx=context, param=option) from None


@click.command(short_help="Token shards to training rows, with FIM and lineage.")
@click.argument("tokens", type=PATH)
@click.option(
    "--context",
    callback=_contexts,
    metavar="IDS",
    help="Ids in a row; several with commas for --dry-run.  [default: 4096]",
)
@click.option("--fim-rate", type=float, help="Share of documents with FIM.  [default: 0.1]")
@click.option("--seed", type=int, help="Seed of every keyed choice.  [default: 0]")
@executor_options
@workers_option
@writing_options
@config_options
@output_options
def pack(
    tokens: Path,
    context: tuple[int, ...] | None,
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
    """Pack the token set in folder TOKENS into rows of exactly --context ids.

    Chosen documents become fill-in-the-middle samples (PSM); documents longer than a row are cut;
    best-fit-decreasing fills the rows. Every piece's origin is in the lineage files.
    """
    from dsv3data.contracts.config import load_config
    from dsv3data.packing.config import PackConfig
    from dsv3data_pipelines.pack import forecast, plan_pack
    from dsv3data_pipelines.pack import pack as run

    if context is not None and len(context) > 1 and not dry_run:
        raise click.UsageError("several contexts are for --dry-run; pack each into its own --out")
    first = context[0] if context else None
    flags = as_overrides({"context": first, **given})
    config = load_config(PackConfig, config_file, [*flags, *overrides])
    if dry_run:
        plans = forecast(tokens, contexts=context or (config.context,), config=config)
        output.result({"plans": plans}, lambda console: console.print(_forecast(plans)))
        return
    facts = {"out": str(out), "context": config.context}
    if cluster is not None:
        from dsv3data_pipelines.executors import pack_stage

        stage = pack_stage(plan_pack(tokens.absolute(), out=out.absolute(), config=config))
        manifest = cluster.run(stage, fresh=fresh, output=output)
        if manifest is not None:
            _show(output, {**facts, "root": manifest.root, **manifest.counts})
        return
    result = run(tokens, out=out, config=config, sink=output.sink, workers=workers, fresh=fresh)
    _show(output, {**facts, "root": result.root, "seconds": result.seconds, **result.counts})


def _show(output: Output, tree: dict[str, Any]) -> None:
    output.result(tree, lambda console: _render(console, tree))


def _forecast(plans: list[dict[str, Any]]) -> Any:
    made = table(">context", ">rows", ">padding", ">documents cut", ">disk")
    for plan in plans:
        made.add_row(
            f"{plan['context']:,}",
            f"{plan['rows']:,}",
            f"{plan['padding_share']:.4%}",
            f"{plan['documents_cut']:,}",
            quantity(plan["disk_bytes_estimate"], "B"),
        )
    return made


def _render(console: Console, tree: dict[str, Any]) -> None:
    made = table(
        "domain", ">documents", ">cut", ">rows", ">padding", ">FIM documents", ">FIM tokens"
    )
    for name, figures in [*tree["domains"].items(), ("all", tree)]:
        fim = figures["fim"]
        made.add_row(
            name,
            f"{figures['documents']:,}",
            f"{figures['documents_cut']:,}",
            f"{figures['rows']:,}",
            f"{figures['padding'] / (figures['rows'] * tree['context']):.4%}",
            f"{fim['documents_fim'] / figures['documents']:.2%}",
            f"{fim['source_tokens_fim'] / figures['text_tokens']:.2%}",
        )
    console.print(made)
    console.print(f"root {tree['root']}", soft_wrap=True)
    console.print(f"written: {tree['out']}", soft_wrap=True)
