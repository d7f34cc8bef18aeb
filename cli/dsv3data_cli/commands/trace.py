"""`dsv3data trace`: follow one id back to the source."""

from __future__ import annotations

import dataclasses
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
from dsv3data_cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from dsv3data.audit.trace import Trace


@click.command(short_help="Follow one token back to its source.")
@click.argument("folder", type=PATH)
@click.option("--row", type=click.IntRange(min=0), required=True, help="Row, or document, from 0.")
@click.option("--shard", metavar="NAME", help="Count --row in this shard, as lineage does.")
@click.option("--position", type=click.IntRange(min=0), required=True, help="Id in it, from 0.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="PATH",
    help="What was tokenized: adds the line, and checks the text. May be given again.",
)
@reading_options
@output_options
def trace(
    folder: Path,
    row: int,
    shard: str | None,
    position: int,
    inputs: tuple[str, ...],
    output: Output,
    **given: Any,
) -> None:
    """Say where one id of the packed or token set in FOLDER comes from.

    Source file, place in it, characters of the document, FIM part. With --input the original file
    is opened, and what it holds there must be the text that was packed. How to read it is known of
    a token set; for a packed set give the options that `tokenize` was given.
    """
    from dsv3data.audit.trace import trace as run
    from dsv3data.contracts.config import load_config
    from dsv3data.io.sources import ReadOptions

    flags = as_overrides(take(given, READING))
    options = load_config(ReadOptions, None, flags) if flags else None
    found = run(folder, row, position, shard=shard, inputs=inputs, options=options)
    output.result(dataclasses.asdict(found), lambda console: _render(console, found))


def _render(console: Console, found: Trace) -> None:
    for name, value in _facts(found):
        console.print(f"{name:<11}{value}", soft_wrap=True)
    if found.characters is not None:
        console.print(_excerpt(found))


def _facts(found: Trace) -> list[tuple[str, str]]:
    kind = f"{found.kind} {printable(found.control)}".strip()
    facts = [("id", f"{found.token_id} at position {found.position:,} of row {found.row:,}")]
    facts += [("kind", kind), ("domain", found.domain)]
    if found.source is not None:
        line = "" if found.line is None else f", line {found.line:,}"
        facts += [
            ("source", f"{printable(found.source)} at {found.source_position:,}{line}"),
            ("piece", f"{found.piece + 1} of {found.n_pieces}"),
            ("key", str(found.key)),
        ]
    if found.characters is not None and found.bytes_range is not None:
        start, stop = found.characters
        part = "" if found.whole_characters else " (a part of them)"
        first, end = found.bytes_range
        facts.append(("characters", f"{start:,} to {stop:,}{part}, bytes {first:,} to {end:,}"))
    if found.file is not None:
        facts.append(("checked in", printable(found.file)))
    return facts


def _excerpt(found: Trace) -> Text:
    from rich.text import Text

    from dsv3data.audit.trace import AROUND_CHARACTERS

    assert found.characters is not None
    more_before = found.characters[0] > len(found.before)
    return Text.assemble(
        "…" * more_before + found.before,
        (found.text, "bold reverse"),
        found.after + "…" * (len(found.after) >= AROUND_CHARACTERS),
    )
