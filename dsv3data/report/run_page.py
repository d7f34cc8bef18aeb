"""The offline page of `dsv3data report` for a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dsv3data.report.page import html_table, page, paragraph
from dsv3data.report.svg import heatmap, line_chart

_TITLES = {
    "loss": ("Loss", "nats per token"),
    "loss_by_domain": ("Loss by domain", "nats per token"),
    "grad_norm": ("Gradient norm", "before clipping"),
    "lr": ("Learning rate", "learning rate"),
    "balance_loss": ("Sequence-wise balance loss", "before alpha, all layers"),
    "tokens_per_s": ("Speed", "tokens per second so far"),
    "mtp_acceptance": ("Guesses of the MTP module", "share accepted"),
    "nodes_per_token": ("Nodes of a token", "groups of experts a layer"),
    "data_wait_s": ("Waiting for data", "seconds a step"),
    "checkpoint_wait_s": ("Waiting for checkpoints", "seconds a step"),
}
# What differs from step to step more than over the run.
_NOISY = (
    "loss",
    "loss_by_domain",
    "grad_norm",
    "balance_loss",
    "mtp_acceptance",
    "nodes_per_token",
)


def run_page(tree: Mapping[str, Any]) -> str:
    """The page of what `audit.run_report.report_run` found."""
    sections = []
    for name, curves in tree["curves"].items():
        filled = {key: points for key, points in curves.items() if points}
        if filled:
            title, y_label = _TITLES[name]
            chart = line_chart(filled, x_label="step", y_label=y_label, smoothed=name in _NOISY)
            sections.append((title, chart))
    load = tree["load"]
    if load["layers"]:
        names = [f"layer {number}" for number in range(len(load["layers"][0]))]
        drawn = heatmap(load["layers"], columns=load["steps"], rows=names, x_label="step")
        most = max(value for column in load["layers"] for value in column)
        sections.append(
            ("Load of the fullest expert over the mean", drawn + paragraph(_LOAD.format(most)))
        )
    if tree["load_by_domain"]["layers"]:
        sections.append(("Load of experts by domain", _load_by_domain(tree["load_by_domain"])))
    needle = tree["needle"]
    if needle is not None:
        sections.append(("Needles found", _needles(needle)))
    if tree["gemm_choices"] is not None:
        sections.append(("Ways of FP8 products", _gemm_choices(tree["gemm_choices"])))
    if tree["skipped"]:
        sections.append(("Skipped steps", _skipped_table(tree["skipped"])))
    rows = [(name.replace("_", " "), _plain(value)) for name, value in tree["all"].items()]
    sections.append(("In all", html_table(("", ""), rows)))
    lead = f"A training run of {tree['all']['steps']:,} steps"
    return page(f"Report: {tree['folder']}", lead, sections)


_SUSPECTS = 4
_LOAD_BY_DOMAIN = (
    "Tokens of a domain that an expert gets, over the mean of the layer's experts: 0 is clear, a "
    "layer's largest ({}) is full. Mean of the steps that were written out. Experts that serve one "
    "domain more than others are specialists."
)
_CHOICES = (
    "Found by a stopwatch on {}, once a shape, and kept for the rest of the run. Left out are ways "
    "that failed or gave another product."
)
_LOAD = (
    "1 is even, the darkest is {:.2f}. Layers with experts from above, the MTP module's last; "
    "steps from left to right."
)


def _load_by_domain(load: Mapping[str, Any]) -> str:
    """The first and the last layers with experts: all would be a long page."""
    layers = load["layers"]
    numbers = range(len(layers)) if len(layers) <= 4 else (0, 1, len(layers) - 2, len(layers) - 1)
    parts = []
    for number in numbers:
        drawn = heatmap(
            layers[number],
            columns=list(range(len(layers[number]))),
            rows=load["domains"],
            x_label="expert",
            least=0.0,
        )
        parts.append(paragraph(f"Layer {number}, its experts from left to right:") + drawn)
    largest = [f"{max(map(max, layers[number])):.2f}" for number in numbers]
    return "".join(parts) + paragraph(_LOAD_BY_DOMAIN.format(", ".join(largest)))


def _needles(needle: Mapping[str, Any]) -> str:
    drawn = heatmap(
        needle["found"],
        columns=needle["lengths"],
        rows=[f"at {depth:.0%}" for depth in needle["depths"]],
        x_label="tokens",
        least=0.0,
        most=1.0,
        label=lambda share: f"{share:.0%}",
    )
    return drawn + paragraph(
        f"Share of needles found after step {needle['step']:,}, by the length of the text and the "
        "needle's depth in it (0 % is the beginning). Full colour is all of them."
    )


def _gemm_choices(choices: Mapping[str, Any]) -> str:
    rows = []
    for shape, choice in choices["shapes"].items():
        times = choice["milliseconds"]
        rows.append(
            (
                shape,
                choice["way"],
                f"{times[choice['way']]:.3f}",
                f"{max(times.values()):.3f}",
                "; ".join(f"{way}: {fault}" for way, fault in choice["left_out"].items()),
            )
        )
    columns = ("shape", "way taken", "ms", "ms of the slowest", "left out")
    return paragraph(_CHOICES.format(choices["machine"])) + html_table(
        columns, rows, text_columns=(0, 1, 4)
    )


def _skipped_table(skipped: list[Mapping[str, Any]]) -> str:
    columns = ("step", "reason", "loss", "limit", "gradient norm", "limit", "rows", "suspects")
    return html_table(
        columns,
        [
            [
                f"{one['step']:,}",
                one.get("reason", ""),
                _plain(one.get("main_loss", one.get("loss"))),
                *(_plain(one.get(name)) for name in ("loss_limit", "grad_norm", "grad_norm_limit")),
                ", ".join(map(str, one["row_ids"][:8])),
                _suspects(one.get("documents", ())),
            ]
            for one in skipped
        ],
        text_columns=(1, 6, 7),
    )


def _suspects(documents: Sequence[Mapping[str, Any]]) -> str:
    """Source and position of the documents that stand out, as far as a cell has room."""
    names = [f"{one['source']} at {one['position']}" for one in documents if one["stands_out"]]
    more = f" and {len(names) - _SUSPECTS} more" if len(names) > _SUSPECTS else ""
    return ", ".join(names[:_SUSPECTS]) + more


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
