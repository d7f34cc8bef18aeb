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
    memory_option,
    numbers,
    output_options,
    workers_option,
    writing_options,
)
from dsv3data_cli.output import Output, quantity, table

if TYPE_CHECKING:
    from rich.console import Console


def _rates(
    context: click.Context, option: click.Parameter, values: tuple[str, ...]
) -> dict[str, Any]:
    """`0.1` or `default=0.1` for all domains, `code=0.5` for one."""
    named = [text if "=" in text else f"default={text}" for text in values]
    everywhere = [text.removeprefix("default=") for text in named if text.startswith("default=")]
    try:
        rate = float(everywhere[-1]) if everywhere else None
    except ValueError:
        problem = f"{everywhere[-1]!r} is not a number"
        raise click.BadParameter(problem, ctx=context, param=option) from None
    others = tuple(text for text in named if not text.startswith("default="))
    return {"fim_rate": rate, "fim_domain_rates": others}


@click.command(short_help="Token shards to training rows, with FIM and lineage.")
@click.argument("tokens", type=PATH)
@click.option(
    "--context",
    callback=numbers(int),
    metavar="IDS",
    help="Ids in a row; several with commas, each packed into OUT/IDS.  [default: 4096]",
)
@click.option(
    "--fim-rate",
    multiple=True,
    callback=_rates,
    metavar="[DOMAIN=]RATE",
    help="Share of documents with FIM, of all domains or of one.  [default: 0.1]",
)
@click.option(
    "--fim-mode",
    type=click.Choice(["psm", "spm", "mixed"]),
    help="Order of a sample's parts.  [default: psm]",
)
@click.option(
    "--fim-lines",
    "fim_line_domains",
    multiple=True,
    metavar="DOMAIN",
    help="Split samples of this domain at line starts.",
)
@click.option(
    "--debias-rate",
    type=float,
    help="Share of tokens of punctuation and line breaks that are split in two.  [default: 0.1]",
)
@click.option("--seed", type=int, help="Seed of every keyed choice.  [default: 0]")
@click.option("--epoch", type=int, help="Other companions, FIM and splits each.  [default: 0]")
@click.option(
    "--exclude",
    type=PATH,
    metavar="FILE",
    help="Documents that stay out: a key, or JSON with source and position, a line.",
)
@click.option(
    "--remove-source", multiple=True, metavar="NAME", help="Leave out all documents of a source."
)
@click.option(
    "--update",
    is_flag=True,
    help="Pack anew only what other tokens or exclusions than before touch.",
)
@executor_options
@workers_option
@memory_option
@writing_options
@config_options
@output_options
def pack(
    tokens: Path,
    context: tuple[int, ...] | None,
    fim_rate: dict[str, Any],
    exclude: Path | None,
    remove_source: tuple[str, ...],
    update: bool,
    cluster: Cluster | None,
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
    """Pack the token set in folder TOKENS into rows of exactly --context ids.

    Chosen documents become fill-in-the-middle samples; documents longer than a row are cut;
    best-fit-decreasing fills the rows. Every piece's origin is in the lineage files.
    """
    from dsv3data.contracts.config import load_config
    from dsv3data.packing.config import PackConfig
    from dsv3data_pipelines.pack import forecast, pack_contexts, plan_pack, read_exclusions

    first = context[0] if context else None
    flags = as_overrides({"context": first, **fim_rate, **given})
    config = load_config(PackConfig, config_file, [*flags, *overrides])
    exclusions = read_exclusions(exclude, remove_source)
    contexts = context if context and len(context) > 1 else (config.context,)
    if dry_run:
        plans = forecast(tokens, contexts=contexts, config=config, exclusions=exclusions)
        output.result({"plans": plans}, lambda console: _forecast(console, plans))
        return
    if cluster is not None:
        from dsv3data_pipelines.executors import pack_stage

        if len(contexts) > 1 or update:
            raise click.UsageError("several contexts, and --update, are for --executor local")
        plan = plan_pack(
            tokens.absolute(), out=out.absolute(), config=config, exclusions=exclusions
        )
        manifest = cluster.run(pack_stage(plan), fresh=fresh, output=output)
        if manifest is not None:
            facts = {"out": str(out), "context": config.context, "root": manifest.root}
            _show(output, [{**facts, **manifest.counts}])
        return
    several = len(contexts) > 1
    results = pack_contexts(
        tokens,
        outs={length: out / str(length) if several else out for length in contexts},
        config=config,
        sink=output.sink,
        workers=workers,
        fresh=fresh,
        update=update,
        exclusions=exclusions,
        memory_bytes=memory_bytes,
    )
    trees = [
        {
            "out": str(result.out),
            "context": result.context,
            "root": result.root,
            "seconds": result.seconds,
            **result.counts,
        }
        for result in results
    ]
    _show(output, trees)


def _show(output: Output, trees: list[dict[str, Any]]) -> None:
    """One set as it is, several as a list."""
    tree = trees[0] if len(trees) == 1 else {"sets": trees}
    output.result(tree, lambda console: _render_all(console, trees))


def _render_all(console: Console, trees: list[dict[str, Any]]) -> None:
    for tree in trees:
        _render(console, tree)


def _forecast(console: Console, plans: list[dict[str, Any]]) -> None:
    made = table(">context", ">rows", ">padding", ">documents cut", ">disk")
    for plan in plans:
        made.add_row(
            f"{plan['context']:,}",
            f"{plan['rows']:,}",
            f"{plan['padding_share']:.4%}",
            f"{plan['documents_cut']:,}",
            quantity(plan["disk_bytes_estimate"], "B"),
        )
    console.print(made)
    if not all(plan["exact"] for plan in plans):
        console.print("Encoding FIM samples anew and splitting tokens adds a little to this.")


def _render(console: Console, tree: dict[str, Any]) -> None:
    made = table(
        "domain", ">documents", ">cut", ">rows", ">padding", ">FIM docs", ">FIM tokens", ">split"
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
            f"{figures['debias']['split']:,}",
        )
    console.print(made)
    console.print(f"root {tree['root']}", soft_wrap=True)
    console.print(f"written: {tree['out']}", soft_wrap=True)
