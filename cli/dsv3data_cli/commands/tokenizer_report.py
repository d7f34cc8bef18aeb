"""`dsv3data tokenizer report`: judge a tokenizer on text, alone or beside others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsv3data.contracts.terminal import printable
from dsv3data_cli.options import (
    PATH,
    READING,
    as_overrides,
    output_options,
    reading_options,
    take,
)
from dsv3data_cli.output import Output, quantity, table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WORST = 5
_EXCERPT = 40


def _named(text: str) -> tuple[str, Path]:
    """NAME=FILE, unless a file has that very name."""
    name, separator, path = text.partition("=")
    return ("", Path(text)) if not separator or Path(text).exists() else (name, Path(path))


def _kinds(context: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    from dsv3data_tokenizer.judge.junk import KINDS

    kinds = tuple(value.split(","))
    if set(kinds) <= set(KINDS):
        return kinds
    problem = f"{value!r} is not some of {', '.join(KINDS)}, with commas"
    raise click.BadParameter(problem, ctx=context, param=option)


@click.command("report", short_help="Judge a tokenizer on documents.")
@click.argument("folder", type=PATH)
@click.argument("inputs", nargs=-1, required=True, type=PATH)
@click.option(
    "--against",
    multiple=True,
    callback=lambda _context, _option, values: tuple(map(_named, values)),
    metavar="[NAME=]FILE",
    help="Another tokenizer.json (or its folder) to set beside; may be given again.",
)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write a page.")
@click.option(
    "--sample-mb",
    type=click.FloatRange(min=0, min_open=True),
    default=4.0,
    show_default=True,
    help="Megabytes of each domain that are encoded.",
)
@click.option(
    "--junk",
    "junk_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also list junk candidates, for `tokenizer train --without` once you have read them.",
)
@click.option(
    "--junk-kinds",
    callback=_kinds,
    default="over_long,single_source",
    show_default=True,
    metavar="KINDS",
    help="What to list: over_long, single_source (one document), unused (never in the sample).",
)
@click.option("--language-key", default="", help="Field that holds the language.")
@reading_options
@output_options
def report(
    folder: Path,
    inputs: tuple[Path, ...],
    against: tuple[tuple[str, Path], ...],
    html: Path | None,
    sample_mb: float,
    junk_file: Path | None,
    junk_kinds: tuple[str, ...],
    language_key: str,
    output: Output,
    **given: Any,
) -> None:
    """Judge the tokenizer in FOLDER on a sample of the documents below INPUTS.

    By domain and language: bytes per token, tokens per word or character, single-byte fallbacks,
    with 95 % intervals. Also growth of the vocabulary, tokens that are long, rare, unused or of one
    document, and the documents that compress worst. The sample is the same for the same documents.
    """
    from dsv3data.contracts.config import load_config
    from dsv3data.io.atomic import write_atomic
    from dsv3data.io.sources import ReadOptions
    from dsv3data_tokenizer.judge.judge import judge_tokenizer
    from dsv3data_tokenizer.judge.page import report_page
    from dsv3data_tokenizer.without import json_lines

    tree = judge_tokenizer(
        folder,
        inputs,
        options=load_config(ReadOptions, None, as_overrides(take(given, READING))),
        sink=output.sink,
        against=against,
        sample_bytes=max(1, round(sample_mb * 1e6)),
        language_key=language_key,
        junk=junk_kinds if junk_file else (),
    )
    if junk_file is not None:
        write_atomic(junk_file, json_lines(tree["junk"]))
    if html is not None:
        write_atomic(html, report_page(tree).encode("utf-8"))
    output.result(tree, lambda console: _render(console, tree, html, junk_file))


def _render(
    console: Console, tree: Mapping[str, Any], html: Path | None, junk_file: Path | None
) -> None:
    sample, figures = tree["sample"], tree["compression"]
    console.print(
        f"{sample['documents']:,} documents, {quantity(sample['bytes'], 'B')}, "
        f"{sum(sample['rejected'].values()):,} records rejected"
    )
    console.print(_compression("domain", tree, {**figures["domains"], **figures["all"]}))
    if "languages" in figures:
        console.print(_compression("language", tree, figures["languages"]))
    console.print(_growth(tree["growth"]))
    _render_vocabulary(console, tree["vocabulary"])
    if tree["worst_documents"]:
        console.print(_worst(tree["worst_documents"][:_WORST]))
    for tokenizer in tree["tokenizers"]:
        console.print(printable(f"{tokenizer['sha256']} {tokenizer['name']}"), soft_wrap=True)
    if html is not None:
        console.print(f"page: {printable(str(html))}", soft_wrap=True)
    if junk_file is not None:
        found = f"{len(tree['junk']):,} junk candidates"
        console.print(f"{found}: {printable(str(junk_file))}", soft_wrap=True)


def _compression(
    kind: str, tree: Mapping[str, Any], figures: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Table:
    from dsv3data_tokenizer.judge.figures import interval, percent, relative

    made = table(kind, "tokenizer", ">bytes per token", ">tokens per", ">single bytes", ">tokens")
    for group, compared in figures.items():
        for tokenizer, row in zip(tree["tokenizers"], compared, strict=True):
            first = row is compared[0]
            per_unit = row["tokens_per_unit"]["value"]
            made.add_row(
                group if first else "",
                printable(tokenizer["name"]),
                interval(row["bytes_per_token"]),
                "–" if per_unit is None else f"{row['unit']} {per_unit:.2f}",
                percent(row["single_byte_share"]["value"]),
                f"{row['tokens']:,}" if first else relative(row["relative_tokens"], short=True),
            )
    return made


def _growth(growth: Mapping[str, Any]) -> Table:
    made = table("entries", *(f">{size:,}" for size in growth["vocab_sizes"]))
    for domain, values in growth["bytes_per_token"].items():
        made.add_row(domain, *(f"{value:.2f}" for value in values))
    return made


def _render_vocabulary(console: Console, vocabulary: Mapping[str, Any]) -> None:
    console.print(
        f"{vocabulary['ids']:,} ids (embedding rows {vocabulary['embedding_rows']:,}), "
        f"{vocabulary['punctuation_break_tokens']:,} punctuation+newline tokens"
    )
    console.print(
        f"of {vocabulary['merged_ids']:,} merged ids "
        f"{vocabulary['unused']['count']:,} unused here, "
        f"{vocabulary['over_long']['count']:,} over-long, "
        f"{vocabulary['single_source']['count']:,} of one document"
    )
    for name, rows in (
        ("longest", vocabulary["longest"]),
        ("rarest", vocabulary["rarest"]),
        ("unused", vocabulary["unused"]["tokens"]),
        ("of one document", vocabulary["single_source"]["tokens"]),
    ):
        console.print(f"  {name}: {_tokens(rows)}", no_wrap=True, overflow="ellipsis")


def _tokens(rows: Sequence[Mapping[str, Any]]) -> str:
    from dsv3data_tokenizer.judge.figures import token_rows

    return printable("  ".join(text for text, *_ in token_rows(rows)))


def _worst(documents: Sequence[Mapping[str, Any]]) -> Table:
    from dsv3data_tokenizer.judge.figures import visible

    made = table("worst documents", "domain", ">bytes per token", "source")
    for row in documents:
        made.add_row(
            printable(visible(row["beginning"][:_EXCERPT])),
            row["domain"],
            f"{row['bytes_per_token']:.2f}",
            printable(f"{row['source']} at {row['position']:,}"),
        )
    return made
