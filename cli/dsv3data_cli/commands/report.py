"""`dsv3data report`: what a finished set holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsv3data.contracts.terminal import printable
from dsv3data_cli.options import PATH, output_options
from dsv3data_cli.output import Output, table

if TYPE_CHECKING:
    from rich.console import Console

_BAR = 40


@click.command(short_help="What a set holds, in figures and a page.")
@click.argument("folder", type=PATH)
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write a page.")
@output_options
def report(folder: Path, html: Path | None, output: Output) -> None:
    """Say what the packed set, token set or training run in FOLDER holds.

    By domain: documents, tokens, fill, padding, cut documents, FIM by documents and by tokens; how
    long documents are and how full rows. Reads the manifest and the lineage, not the rows.
    """
    from dsv3data.audit.report import report_set
    from dsv3data.io.atomic import write_atomic
    from dsv3data.report.run_page import run_page
    from dsv3data.report.set_page import set_page

    tree = report_set(folder, sink=output.sink)
    if html is not None:
        made = run_page(tree) if tree["format"] == "training run" else set_page(tree)
        write_atomic(html, made.encode("utf-8"))
    output.result(tree, lambda console: _render(console, tree, html))


def _render(console: Console, tree: Mapping[str, Any], html: Path | None) -> None:
    from dsv3data.report.set_page import (
        changes_table,
        domain_table,
        lead,
        left_plain,
        longest_table,
    )

    console.print(lead(tree))
    if "domains" in tree:
        _print_table(console, *domain_table(tree))
        if changes := changes_table(tree):
            _print_table(console, *changes)
        if reasons := left_plain(tree):
            console.print(f"pieces of chosen documents that stayed plain: {reasons}")
    for name, title in (("lengths", "documents from so many tokens"), ("fill", "rows filled to")):
        if name in tree:
            _print_bars(console, title, tree[name])
    if "longest" in tree:
        _print_table(console, *longest_table(tree))
    if tree["format"] == "training run":
        _print_run(console, tree)
    if tree.get("rejected"):
        counted = ", ".join(f"{name} {number:,}" for name, number in tree["rejected"].items())
        console.print(f"rejected: {counted}")
    if "root" in tree:
        console.print(f"root {tree['root']}", soft_wrap=True)
    if html is not None:
        console.print(f"page: {printable(str(html))}", soft_wrap=True)


def _print_run(console: Console, tree: Mapping[str, Any]) -> None:
    made = table("training run", ">value")
    for name, value in tree["all"].items():
        shown = (
            "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
        )
        made.add_row(name.replace("_", " "), shown)
    for domain, curve in tree["curves"]["loss_by_domain"].items():
        made.add_row(
            f"loss of {printable(domain)}, first to last", f"{curve[0][1]:.3f} → {curve[-1][1]:.3f}"
        )
    console.print(made)


def _print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    made = table(*(name if name in ("domain", "source") else f">{name}" for name in columns))
    for row in rows:
        made.add_row(*map(printable, row))
    console.print(made)


def _print_bars(console: Console, title: str, made: Mapping[str, Any]) -> None:
    totals = [sum(counts) for counts in zip(*made["domains"].values(), strict=True)]
    largest = max(totals, default=0) or 1
    width = max(map(len, made["classes"]), default=0)
    console.print(title)
    for name, total in zip(made["classes"], totals, strict=True):
        bar = "█" * round(_BAR * total / largest) or ("▏" if total else "")
        console.print(f"  {name:>{width}} {bar} {total:,}", no_wrap=True)
