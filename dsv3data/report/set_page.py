"""The offline page of `dsv3data report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsv3data.report.page import html_table, page, paragraph
from dsv3data.report.svg import histogram


def set_page(tree: Mapping[str, Any]) -> str:
    """The page of what `audit.report.report_set` found."""
    sections = [("By domain", html_table(*domain_table(tree)))] if "domains" in tree else []
    for name, title, x_label, y_label in (
        ("lengths", "Documents by length", "tokens, from", "documents"),
        ("fill", "Rows by fill", "part of the row that is not padding", "rows"),
    ):
        if name in tree:
            made = tree[name]
            drawn = histogram(made["classes"], made["domains"], x_label=x_label, y_label=y_label)
            sections.append((title, drawn))
    if "longest" in tree:
        sections.append(("Longest documents", html_table(*longest_table(tree), text_columns=(1,))))
    if tree.get("rejected"):
        rows = [(name, f"{number:,}") for name, number in tree["rejected"].items()]
        sections.append(("Rejected records", html_table(("reason", "records"), rows)))
    sections.append(("What this is", html_table(("", ""), _identity(tree), text_columns=(0, 1))))
    sections.append(("", paragraph(HOW)))
    return page(f"Report: {tree['folder']}", lead(tree), sections)


HOW = (
    "Shares of FIM tokens count the document's tokens, without sentinels. A document is cut only "
    "if it does not fit a row. Made by dsv3data report."
)


def lead(tree: Mapping[str, Any]) -> str:
    """One line that says what the set is."""
    whole = tree["all"]
    if tree["format"] == "training run":
        return f"A training run of {whole['steps']:,} steps"
    if "rows" in whole:
        return (
            f"{whole['rows']:,} rows of {tree['context']:,} ids: {whole['documents']:,} documents, "
            f"{whole['text_tokens']:,} tokens of text"
        )
    return f"{whole['documents']:,} documents, {whole['tokens']:,} tokens"


def domain_table(tree: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """(columns, rows): figures of each domain, and of all."""
    groups = [*tree["domains"].items(), ("all", tree["all"])]
    if "rows" not in tree["all"]:
        plain = ("documents", "tokens", "bytes")
        return ("domain", *plain, "bytes per token"), [
            [name, *(f"{of[key]:,}" for key in plain), f"{of['bytes_per_token']:.3f}"]
            for name, of in groups
        ]
    columns = (
        *("domain", "documents", "tokens", "rows", "fill", "padding"),
        *("cut", "FIM documents", "FIM tokens", "split tokens"),
    )
    return columns, [
        [
            name,
            *(f"{of[key]:,}" for key in ("documents", "text_tokens", "rows")),
            f"{of['fill']:.3%}",
            f"{of['padding']:,}",
            f"{of['documents_cut']:,}",
            f"{of['fim_documents_share']:.2%}",
            f"{of['fim_tokens_share']:.2%}",
            f"{of['debias']['split']:,} of {of['debias']['splittable']:,}",
        ]
        for name, of in groups
    ]


def longest_table(tree: Mapping[str, Any]) -> tuple[Sequence[str], list[list[str]]]:
    """(columns, rows)."""
    return ("tokens", "source", "at"), [
        [f"{one['tokens']:,}", one["source"], f"{one['position']:,}"] for one in tree["longest"]
    ]


def _identity(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = ("format", "root", "context", "seed", "fim_rate")
    return [(name.replace("_", " "), str(tree[name])) for name in names if name in tree]
