"""The offline page of `dsv3data report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsv3data.report.page import html_table, page, paragraph
from dsv3data.report.svg import histogram

# Columns, and rows of cells.
Table = tuple[Sequence[str], list[list[str]]]


def set_page(tree: Mapping[str, Any]) -> str:
    """The page of what `audit.report.report_set` found."""
    sections = [("By domain", html_table(*domain_table(tree)))] if "domains" in tree else []
    if changes := changes_table(tree):
        shown = html_table(*changes)
        if reasons := left_plain(tree):
            shown += paragraph(f"Pieces of chosen documents that stayed plain: {reasons}.")
        sections.append(("Fill-in-the-middle and split tokens", shown))
    for name, title, x_label, y_label in (
        ("lengths", "Documents by length", "tokens, from", "documents"),
        ("fill", "Rows by fill", "part of the row that is not padding", "rows"),
    ):
        if name in tree:
            made = tree[name]
            drawn = histogram(made["classes"], made["domains"], x_label=x_label, y_label=y_label)
            sections.append((title, drawn))
    if "longest" in tree:
        sections.append(("Longest documents", html_table(*longest_table(tree))))
    if tree.get("rejected"):
        rows = [(name, f"{number:,}") for name, number in tree["rejected"].items()]
        sections.append(("Rejected records", html_table(("reason", "records"), rows)))
    sections.append(("What this is", html_table(("", ""), _identity(tree), text_columns=(0, 1))))
    sections.append(("", paragraph(HOW)))
    return page(f"Report: {tree['folder']}", lead(tree), sections)


HOW = (
    "FIM's share of tokens counts the documents' tokens, without sentinels. Split tokens are those "
    "of punctuation and line breaks that stand as two; their share is of those that could. A "
    "document is cut only if it does not fit a row. Made by dsv3data report."
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


def domain_table(tree: Mapping[str, Any]) -> Table:
    """Figures of each domain, and of all."""
    groups = [*tree["domains"].items(), ("all", tree["all"])]
    if not _is_packed(tree):
        plain = ("documents", "tokens", "bytes")
        return ("domain", *plain, "bytes per token"), [
            [name, *(f"{of[key]:,}" for key in plain), f"{of['bytes_per_token']:.3f}"]
            for name, of in groups
        ]
    return ("domain", "documents", "cut", "tokens", "rows", "fill", "padding"), [
        [
            name,
            *(f"{of[key]:,}" for key in ("documents", "documents_cut", "text_tokens", "rows")),
            f"{of['fill']:.3%}",
            f"{of['padding']:,}",
        ]
        for name, of in groups
    ]


def changes_table(tree: Mapping[str, Any]) -> Table | None:
    """What packing did to documents of each domain: FIM and split tokens; None of a token set."""
    if not _is_packed(tree):
        return None
    columns = ("domain", "FIM documents", "share", "of tokens", "split tokens", "share")
    return columns, [
        [
            name,
            f"{of['fim_documents']:,}",
            f"{of['fim_documents_share']:.2%}",
            f"{of['fim_tokens_share']:.2%}",
            f"{of['debias']['split']:,}",
            f"{_share(of['debias']['split'], of['debias']['splittable']):.2%}",
        ]
        for name, of in [*tree["domains"].items(), ("all", tree["all"])]
    ]


def left_plain(tree: Mapping[str, Any]) -> str:
    """Why pieces of chosen documents are no FIM samples, with their numbers; empty if all are."""
    reasons = tree["all"].get("fim_left_plain", {}) if "all" in tree else {}
    return ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in reasons.items())


def longest_table(tree: Mapping[str, Any]) -> Table:
    """The longest documents first."""
    return ("source", "at", "tokens"), [
        [one["source"], f"{one['position']:,}", f"{one['tokens']:,}"] for one in tree["longest"]
    ]


def _is_packed(tree: Mapping[str, Any]) -> bool:
    return "rows" in tree["all"]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _identity(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = ("format", "root", "context", "seed", "fim_rate")
    return [(name.replace("_", " "), str(tree[name])) for name in names if name in tree]
