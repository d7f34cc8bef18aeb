#!/usr/bin/env python3
"""The tables of docs/fp8.md from what scripts/gpu.sh wrote.

    python benchmarks/kernels_table.py FOLDER

What was not measured says so: with an empty folder this prints the table as it is in docs/fp8.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]
UNMEASURED = "unmeasured"


def tables(folder: Path) -> str:
    """Markdown: the goals, then a table for each section that is there."""
    sections = {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in ("dense", "grouped", "quantise", "model")
        if (folder / f"{name}.json").exists()
    }
    parts = [goals({name: section["rows"] for name, section in sections.items()})]
    for name, section in sections.items():
        about = section["machine"]
        versions = ", ".join(f"{key} {value}" for key, value in about["versions"].items())
        parts.append(f"`{name}` on {about['gpu']}, {versions}, commit {about['commit']}:")
        parts.append(_table(_DETAILS[name](section["rows"])))
    return "\n\n".join(parts) + "\n"


def goals(rows: dict[str, list[Row]]) -> str:
    """Each goal of an H100, and the worst that was measured of it."""
    dense = [row for row in rows.get("dense", []) if row["direction"] == "forward"]
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
            _worst((row["fp8_speedup"] for row in rows.get("model", [])), "{:.2f} ×"),
        ),
        (
            "activations that linear layers keep, FP8 against BF16",
            "60 %",
            _worst((_kept_share(row) for row in rows.get("model", [])), "{:.0%}"),
        ),
    )
    return _table([("goal on an H100, every shape", "aim", "measured, worst shape"), *measured])


def _kept_share(row: Row) -> float | None:
    kept = row["linear_activation_bytes"]
    return kept["fp8"] / kept["bf16"] if "bf16" in kept else None


def _worst(values: Iterable[float | None], pattern: str) -> str:
    """A smoke run has no BF16 beside FP8: None."""
    found = [value for value in values if value is not None]
    return pattern.format(min(found)) if found else UNMEASURED


def _gemms(rows: list[Row]) -> list[tuple[str, ...]]:
    head = ("direction", "tokens", "N × K", "experts", "BF16", "ours", "cuBLAS", "ours / BF16")
    return [
        head,
        *(
            (
                row["direction"],
                f"{row.get('m', row.get('visits')):,}",
                f"{row['n']} × {row['k']}",
                str(row.get("experts", "")),
                f"{row['tflop_per_s']['bf16']:,.0f}",
                f"{row['triton_tflop_per_s']:,.0f}",
                f"{row['tflop_per_s']['cublas']:,.0f}" if "cublas" in row["tflop_per_s"] else "",
                f"{row['triton_over_bf16']:.2f}",
            )
            for row in rows
        ),
    ]


def _memory_bound(rows: list[Row]) -> list[tuple[str, ...]]:
    return [
        ("kernel", "GB/s", "copy, GB/s", "share"),
        *(
            (
                row["kernel"],
                f"{row['gb_per_s']['kernel']:,.0f}",
                f"{row['gb_per_s']['copy']:,.0f}",
                f"{row['share_of_copy']:.0%}",
            )
            for row in rows
        ),
    ]


def _steps(rows: list[Row]) -> list[tuple[str, ...]]:
    return [
        ("precision", "ms a step", "tokens/s", "linear layers keep, MiB"),
        *(
            (
                precision,
                f"{milliseconds:,.0f}",
                f"{row['tokens_per_s'][precision]:,.0f}",
                f"{row['linear_activation_bytes'][precision] / 2**20:,.1f}",
            )
            for row in rows
            for precision, milliseconds in row["milliseconds"].items()
        ),
    ]


_DETAILS = {"dense": _gemms, "grouped": _gemms, "quantise": _memory_bound, "model": _steps}


def _table(rows: list[tuple[str, ...]]) -> str:
    head, *body = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


if __name__ == "__main__":
    print(tables(Path(sys.argv[1])), end="")
