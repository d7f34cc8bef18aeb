"""The demo's page: what went in, what came out, how the loss fell, what was run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsv3data.report.page import code_block, html_table, page, paragraph
from dsv3data.report.svg import bar_chart, line_chart

_SMOOTH_STEPS = 10


def demo_page(summary: Mapping[str, Any]) -> str:
    """One offline HTML page from the summary of `run_demo`."""
    train = summary["train"]
    lead = (
        f"{summary['documents']:,} documents, {summary['bytes'] / 1e6:.1f} MB, became "
        f"{summary['tokens']:,} tokens in {summary['rows']:,} rows of {summary['context']:,}; "
        f"a tiny DeepSeek-V3 went from loss {train['first_loss']:.2f} to {train['last_loss']:.2f}."
    )
    return page(
        "dsv3data demo",
        lead,
        [
            ("Loss", _loss(train)),
            ("Documents and rows", _domains(summary["domains"])),
            ("Bytes per token", _compression(summary["domains"])),
            ("Packing and fill-in-the-middle", _packing(summary)),
            ("What ran", code_block(summary["commands"])),
            ("What to do next", code_block(summary["next"])),
        ],
    )


def _loss(train: Mapping[str, Any]) -> str:
    curves = {
        "next token": _smooth(train["step"], train["losses"]),
        "token after next": _smooth(train["step"], train["mtp_losses"]),
    }
    loss = line_chart(curves, x_label="step", y_label="loss, nats per token")
    bits = {"next token": _smooth(train["step"], train["bits_per_byte_curve"])}
    return (
        loss
        + line_chart(bits, x_label="step", y_label="bits per byte")
        + paragraph(
            f"Each point is the mean of up to {_SMOOTH_STEPS} steps: a step sees few rows, which "
            f"differ by domain. {train['bits_per_byte']:.2f} bits per byte at the end; "
            f"{train['tokens_per_s']:,.0f} tokens/s over {train['wall_s']:.0f} s."
        )
    )


def _smooth(steps: Sequence[int], values: Sequence[float | None]) -> list[tuple[float, float]]:
    """(step, mean of the values up to it within the window), steps without a value left out."""
    points = [(step, value) for step, value in zip(steps, values, strict=True) if value is not None]
    smooth = []
    for number, (step, _) in enumerate(points):
        window = [value for _, value in points[max(0, number + 1 - _SMOOTH_STEPS) : number + 1]]
        smooth.append((float(step), sum(window) / len(window)))
    return smooth


def _domains(domains: Mapping[str, Mapping[str, Any]]) -> str:
    return html_table(
        ("domain", "documents", "MB of text", "tokens", "rows", "padding"),
        [
            (
                name,
                f"{row['documents']:,}",
                f"{row['bytes'] / 1e6:.2f}",
                f"{row['tokens']:,}",
                f"{row['rows']:,}",
                f"{row['padding_share']:.3%}",
            )
            for name, row in domains.items()
        ],
    )


def _compression(domains: Mapping[str, Mapping[str, Any]]) -> str:
    values = {name: row["bytes"] / row["tokens"] for name, row in domains.items()}
    return bar_chart(values, unit="bytes")


def _packing(summary: Mapping[str, Any]) -> str:
    return html_table(
        ("figure", "value"),
        [
            ("padding", f"{summary['padding_share']:.4%}"),
            ("documents with FIM", f"{summary['fim']['documents']:.2%}"),
            ("tokens in FIM pieces", f"{summary['fim']['tokens']:.2%}"),
            ("tokenizer", summary["tokenizer_sha256"]),
            ("token set root", summary["tokens_root"]),
            ("packed set root", summary["packed_root"]),
        ],
    )
