"""The report as one offline HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsv3data.report.page import html_table, page, paragraph
from dsv3data.report.svg import Bar, grouped_bars, line_chart
from dsv3data_tokenizer.judge.figures import (
    by_unit,
    interval,
    percent,
    relative,
    token_rows,
    visible,
)

_SHOWN = 12

Figures = Mapping[str, Sequence[Mapping[str, Any]]]


def report_page(report: Mapping[str, Any]) -> str:
    """The page of what `judge_tokenizer` found."""
    ours = report["tokenizers"][0]
    sample = report["sample"]
    lead = (
        f"{ours['ids']:,} ids, judged on {sample['documents']:,} documents, "
        f"{sample['bytes'] / 1e6:.1f} MB, of {len(sample['domains']):,} domains."
    )
    figures = report["compression"]
    sections = [
        ("Bytes per token", _bytes_per_token(report)),
        ("Compression by domain", _table(report, {**figures["domains"], **figures["all"]})),
    ]
    if "languages" in figures:
        sections.append(("Compression by language", _languages(report)))
    sections += [
        ("Growth of the vocabulary", _growth(report["growth"])),
        ("Use of the vocabulary", _use(report["vocabulary"])),
        ("Worst documents", _worst(report["worst_documents"])),
        ("What was read", _read(report)),
    ]
    return page(f"Tokenizer {ours['name']}", lead, sections)


def _bytes_per_token(report: Mapping[str, Any]) -> str:
    intervals = report["intervals"]
    return _bars(report, report["compression"]["domains"]) + paragraph(
        "UTF-8 bytes of text for each token: longer bars are better compression. Whiskers are "
        f"{intervals['confidence']:.0%} intervals over documents "
        f"({intervals['resamples']:,} bootstrap draws)."
    )


def _bars(report: Mapping[str, Any], figures: Figures) -> str:
    groups = {
        group: [_bar(row["bytes_per_token"]) for row in rows] for group, rows in figures.items()
    }
    names = [tokenizer["name"] for tokenizer in report["tokenizers"]]
    return grouped_bars(groups, names, unit="bytes per token")


def _bar(estimate: Mapping[str, float | None]) -> Bar:
    return Bar(value=estimate["value"] or 0.0, low=estimate["low"], high=estimate["high"])


def _table(report: Mapping[str, Any], figures: Figures) -> str:
    """One row for each group and tokenizer."""
    names = [tokenizer["name"] for tokenizer in report["tokenizers"]]
    columns = ["", "tokenizer", "bytes per token", "tokens per", "single bytes"]
    notes = [
        "Tokens per word (what stands between white space), or per character in scripts written "
        "without spaces. Single bytes: tokens that are one byte of a character of several."
    ]
    if len(names) > 1:
        columns.append("tokens, relative")
        notes.append(
            f"Relative: tokens more or fewer than {names[0]} on the same text. A tokenizer is at "
            "its best on text like that which it was trained on."
        )
    rows = [
        (group if place == 0 else "", names[place], *_cells(row, is_first=place == 0))[
            : len(columns)
        ]
        for group, compared in figures.items()
        for place, row in enumerate(compared)
    ]
    return html_table(columns, rows, text_columns=(0, 1)) + paragraph(" ".join(notes))


def _cells(row: Mapping[str, Any], *, is_first: bool) -> tuple[str, ...]:
    return (
        interval(row["bytes_per_token"]),
        by_unit(row),
        percent(row["single_byte_share"]["value"]),
        "–" if is_first else relative(row["relative_tokens"]),
    )


def _languages(report: Mapping[str, Any]) -> str:
    figures = report["compression"]["languages"]
    return _bars(report, figures) + _table(report, figures)


def _growth(growth: Mapping[str, Any]) -> str:
    curves = {
        domain: list(zip(growth["vocab_sizes"], values, strict=True))
        for domain, values in growth["bytes_per_token"].items()
    }
    return line_chart(
        curves, x_label="vocabulary", y_label="bytes per token", x_scale="log"
    ) + paragraph(
        "What smaller vocabularies, cut from the same merges, would give on the same text. Where a "
        "curve is flat, more entries buy little."
    )


def _use(vocabulary: Mapping[str, Any]) -> str:
    unused, over_long, single = (
        vocabulary[name] for name in ("unused", "over_long", "single_source")
    )
    merged = vocabulary["merged_ids"]
    facts = html_table(
        ("", "tokens", "share of merged"),
        [
            (name, f"{count:,}", percent(count / max(1, merged)))
            for name, count in (
                ("made by merges", merged),
                ("punctuation followed by line breaks", vocabulary["punctuation_break_tokens"]),
                ("never used here", unused["count"]),
                ("longer than 32 characters", over_long["count"]),
                ("often in one document, nowhere else", single["count"]),
            )
        ],
    )
    columns = ("token", "id", "bytes", "occurrences")
    parts = [facts]
    for heading, rows in (
        ("Longest tokens.", vocabulary["longest"]),
        ("Rarest tokens that are used.", vocabulary["rarest"]),
        ("Unused tokens, those learned first: often parts of longer ones.", unused["tokens"]),
    ):
        if rows:
            parts += [paragraph(heading), html_table(columns, token_rows(rows[:_SHOWN]))]
    if found := single["tokens"][:_SHOWN]:
        rows = [
            (*cells, f"{row['source']} at {row['position']:,}")
            for cells, row in zip(token_rows(found), found, strict=True)
        ]
        parts += [
            paragraph("Tokens of a single document: candidates for junk."),
            html_table((*columns, "document"), rows, text_columns=(0, 4)),
        ]
    return "".join(parts)


def _worst(documents: Sequence[Mapping[str, Any]]) -> str:
    return html_table(
        ("beginning", "domain", "bytes per token", "bytes", "source"),
        [
            (
                visible(row["beginning"]),
                row["domain"],
                f"{row['bytes_per_token']:.2f}",
                f"{row['bytes']:,}",
                f"{row['source']} at {row['position']:,}",
            )
            for row in documents
        ],
        text_columns=(0, 1, 4),
    )


def _read(report: Mapping[str, Any]) -> str:
    sample = report["sample"]
    domains = html_table(
        ("domain", "documents", "MB", "of documents", "of MB"),
        [
            (
                name,
                f"{row['documents']:,}",
                f"{row['bytes'] / 1e6:.2f}",
                f"{row['available_documents']:,}",
                f"{row['available_bytes'] / 1e6:.2f}",
            )
            for name, row in sample["domains"].items()
        ],
    )
    rejected = sum(sample["rejected"].values())
    note = paragraph(
        f"The first documents of each domain in a keyed order, up to "
        f"{sample['limit_bytes'] / 1e6:g} MB; {sample['cut_documents']:,} of them only from their "
        f"beginning. Records that were rejected: {rejected:,}."
    )
    identities = html_table(
        ("tokenizer", "ids", "SHA-256"),
        [(one["name"], f"{one['ids']:,}", one["sha256"]) for one in report["tokenizers"]],
        text_columns=(0, 2),
    )
    return domains + note + identities
