#!/usr/bin/env python3
"""The tables of docs/fp8.md from what scripts/gpu.sh wrote.

    python benchmarks/kernels_table.py FOLDER

What was not measured says so: with an empty folder this prints the table as it is in docs/fp8.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Table = list[tuple[str, ...]]
RESULTS = "results.jsonl"
UNMEASURED = "unmeasured"
NO_GPU = "none: smoke"


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """By section: `machine` and `rows` of its last run."""
    sections: dict[str, dict[str, Any]] = {}
    path = folder / RESULTS
    for line in path.read_text().splitlines() if path.exists() else ():
        record = json.loads(line)
        if "machine" in record:
            sections[record["section"]] = {"machine": record["machine"], "rows": []}
        else:
            sections[record["section"]]["rows"].append(record["row"])
    return sections


def tables(folder: Path) -> str:
    """Markdown: the goals, then a table for each section that is there."""
    sections = read_results(folder)
    measured = {
        name: section["rows"]
        for name, section in sections.items()
        if section["machine"]["gpu"] != NO_GPU
    }
    parts = [goals(measured)]
    for name, section in sections.items():
        about = section["machine"]
        versions = ", ".join(f"{key} {value}" for key, value in about["versions"].items())
        parts.append(f"`{name}` on {about['gpu']}, {versions}, commit {about['commit']}:")
        try:
            parts.append(_table(_DETAILS[name](section["rows"])))
        except Exception as error:  # of a section that ended half-way: the others have theirs
            parts.append(f"no table of what is in {RESULTS}: {type(error).__name__} {error}")
    return "\n\n".join(parts) + "\n"


def goals(rows: dict[str, list[Row]]) -> str:
    """Each goal of an H100, and the worst that was measured of it."""
    dense = [row for row in rows.get("dense", []) if row["direction"] == "forward"]
    step = [row for row in rows.get("model", []) if "fp8_speedup" in row]
    kept = [row for row in rows.get("model", []) if "linear_activation_bytes" in row]
    measured = (
        (
            "dense GEMM, the faster of cuBLAS and ours",
            "900 TFLOP/s",
            _worst((row["dispatch_tflop_per_s"] for row in dense), "{:,.0f} TFLOP/s"),
        ),
        (
            "dense GEMM, ours",
            "600 TFLOP/s",
            _worst((row["triton_tflop_per_s"] for row in dense), "{:,.0f} TFLOP/s"),
        ),
        *(
            (
                f"grouped GEMM against BF16, {direction}",
                "1.3 ×",
                _worst(
                    (
                        row["triton_over_bf16"]
                        for row in rows.get("grouped", [])
                        if row["direction"] == direction
                    ),
                    "{:.2f} ×",
                ),
            )
            for direction in ("forward", "input gradient", "weight gradient")
        ),
        (
            "quantisation against a copy of as many bytes",
            "85 %",
            _worst((row["share_of_copy"] for row in rows.get("quantise", [])), "{:.0%}"),
        ),
        (
            "step of `small`, FP8 against BF16",
            "1.25 ×",
            _worst((row["fp8_speedup"] for row in step), "{:.2f} ×"),
        ),
        (
            "activations that linear layers keep, FP8 against BF16",
            "60 %",
            _worst((_kept_share(row) for row in kept), "{:.0%}"),
        ),
        (
            "loss of `small` after a short training, FP8 against BF16",
            "0.25 %",
            _verdict(rows),
        ),
    )
    return _table([("goal on an H100, every shape", "aim", "measured, worst shape"), *measured])


def _verdict(rows: dict[str, list[Row]]) -> str:
    found = [row["comparison"] for row in rows.get("gate", []) if "comparison" in row]
    if not found:
        return UNMEASURED
    last = found[-1]
    error = "" if last["standard_error"] is None else f" ± {last['standard_error']:.2%}"
    return f"{last['mean_difference']:+.2%}{error}, {len(last['seeds'])} seeds: {last['verdict']}"


def _kept_share(row: Row) -> float | None:
    kept = row["linear_activation_bytes"]
    return kept["fp8"] / kept["bf16"] if "bf16" in kept else None


def _worst(values: Iterable[float | None], pattern: str) -> str:
    """A smoke run has no BF16 beside FP8: None."""
    found = [value for value in values if value is not None]
    return pattern.format(min(found)) if found else UNMEASURED


def _gemms(rows: list[Row]) -> Table:
    head = ("direction", "tokens", "N × K", "experts", "BF16", "ours", "cuBLAS", "ours / BF16")
    return [
        head,
        *(
            (
                row["direction"],
                f"{row.get('m', row.get('visits')):,}",
                f"{row['n']} × {row['k']}",
                str(row.get("experts", "")),
                f"{row['tflop_per_s'].get('bf16', 0):,.0f}",
                f"{row['triton_tflop_per_s']:,.0f}",
                f"{row['tflop_per_s']['cublas']:,.0f}" if "cublas" in row["tflop_per_s"] else "",
                f"{row['triton_over_bf16'] or 0:.2f}",
            )
            for row in rows
        ),
    ]


def _memory_bound(rows: list[Row]) -> Table:
    return [
        ("kernel", "GB/s", "copy, GB/s", "share"),
        *(
            (
                row["kernel"],
                f"{row['gb_per_s'].get('kernel', 0):,.0f}",
                f"{row['gb_per_s'].get('copy', 0):,.0f}",
                f"{row['share_of_copy'] or 0:.0%}",
            )
            for row in rows
        ),
    ]


def _steps(rows: list[Row]) -> Table:
    step, *others = rows
    kept = next((row[key] for row in others for key in row if key == "linear_activation_bytes"), {})
    return [
        ("precision", "ms a step", "tokens/s", "MFU", "peak, GiB", "linear layers keep, MiB"),
        *(
            (
                precision,
                f"{milliseconds:,.0f}",
                f"{step['tokens_per_s'][precision]:,.0f}",
                f"{step['mfu'][precision]:.1%}",
                f"{step['peak_bytes'].get(precision, 0) / 2**30:,.1f}",
                f"{kept.get(precision, 0) / 2**20:,.1f}",
            )
            for precision, milliseconds in step["milliseconds"].items()
        ),
    ]


def _checks(rows: list[Row]) -> Table:
    """How many passed, and each that did not."""
    failed = [row for row in rows if not row["passed"]]
    return [
        ("check", "tile", "result"),
        ("all", "", f"{len(rows) - len(failed)} of {len(rows)} passed"),
        *(
            (row["check"], row["tile"] or "all", row["error"].replace("\n", " ")[:200])
            for row in failed
        ),
    ]


def _gate(rows: list[Row]) -> Table:
    found = [row["comparison"] for row in rows if "comparison" in row][-1]
    losses = zip(
        found["seeds"],
        found["baseline_losses"],
        found["candidate_losses"],
        found["differences"],
        found["noise"],
        strict=True,
    )
    return [
        ("seed", f"{found['baseline']} loss", f"{found['candidate']} loss", "difference", "noise"),
        *(
            (str(seed), f"{base:.4f}", f"{mine:.4f}", f"{difference:+.3%}", f"{noise:+.3%}")
            for seed, base, mine, difference, noise in losses
        ),
        (
            "all",
            f"{found['steps']} steps",
            found["verdict"],
            f"{found['mean_difference']:+.3%}",
            "",
        ),
    ]


def _by_way(rows: list[Row]) -> Table:
    """Milliseconds of rivals, and those that did not work."""
    return [
        ("what", "way", "ms"),
        *(
            (str(row.get("mask", "")), way, f"{ms:,.3f}")
            for row in rows
            for way, ms in row["milliseconds"].items()
        ),
        *(
            (str(row.get("mask", "")), way, why.replace("\n", " ").replace("|", "/")[:120])
            for row in rows
            for way, why in row["left_out"].items()
        ),
    ]


def _figures(rows: list[Row]) -> Table:
    return [
        ("figure", "value"),
        *((name, json.dumps(value)[:300]) for row in rows for name, value in row.items()),
    ]


_DETAILS: dict[str, Callable[[list[Row]], Table]] = {
    "checks": _checks,
    "dense": _gemms,
    "grouped": _gemms,
    "quantise": _memory_bound,
    "gate": _gate,
    "train": _figures,
    "model": _steps,
    "attention": _by_way,
    "optimizer": _by_way,
    "checkpoint": _figures,
    "loader": _figures,
}


def _table(rows: Table) -> str:
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


if __name__ == "__main__":
    print(tables(Path(sys.argv[1])), end="")
