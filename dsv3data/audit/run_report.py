"""`dsv3data report` of a training run: its losses and what went with them, from its own records."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsv3data.contracts.errors import BadInput

METRICS_NAME = "metrics.jsonl"
SKIPPED_NAME = "skipped_steps.jsonl"
NEEDLE_NAME = "needle.json"
GEMM_CHOICES_NAME = "gemm-choices.json"  # of FP8 on a GPU
# A curve has at most so many points, each the mean over neighbouring steps; the map of loads less.
_POINTS, _COLUMNS = 400, 80
_SKIPPED = 20

Record = Mapping[str, Any]
Curve = list[tuple[int, float]]


def report_run(folder: Path) -> dict[str, Any]:
    """Figures of the training run in `folder`, as plain values.

    Raises:
        BadInput: its records cannot be read.
    """
    steps = _records(folder / METRICS_NAME)
    trained = [record for record in steps if record["main_loss"] is not None]
    last = trained[-1] if trained else {}
    return {
        "folder": str(folder),
        "format": "training run",
        "all": {
            "steps": len(steps),
            "steps_skipped": sum(bool(record.get("skipped")) for record in steps),
            "tokens": steps[-1].get("tokens") if steps else 0,
            "first_loss": trained[0]["main_loss"] if trained else None,
            "last_loss": last.get("main_loss"),
            "best_loss": min((record["main_loss"] for record in trained), default=None),
            "bits_per_byte": last.get("bits_per_byte"),
            "tokens_per_s": last.get("tokens_per_s"),
            "tflop_per_s": last.get("tflop_per_s"),
        },
        "curves": {
            "loss": {
                "next token": _curve(steps, lambda record: record["main_loss"]),
                "token after next": _curve(steps, lambda record: record.get("mtp_loss")),
            },
            "loss_by_domain": {
                domain: _curve(steps, _of_domain(domain)) for domain in _domains(steps)
            },
            **{
                name: {name: _curve(steps, _of(name))}
                for name in (
                    "grad_norm",
                    "lr",
                    "balance_loss",
                    "mtp_acceptance",
                    "nodes_per_token",
                    "tokens_per_s",
                    "data_wait_s",
                    "checkpoint_wait_s",
                )
            },
        },
        "load": _load(steps),
        "load_by_domain": _load_by_domain(steps),
        "skipped": _skipped(folder),
        "needle": _needle(folder),
        "gemm_choices": _gemm_choices(folder),
    }


def _records(path: Path) -> list[Record]:
    """Complete lines of metrics.jsonl."""
    try:
        steps: list[Record] = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
        for record in steps:
            _ = record["step"], record["main_loss"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"this is no record of a training run: {error!r}",
            where=str(path),
            effect="nothing was reported",
            fix="give the folder that `dsv3data train --out` wrote",
        ) from error
    return steps


def _of(name: str) -> Callable[[Record], Any]:
    return lambda record: record.get(name)


def _of_domain(domain: str) -> Callable[[Record], Any]:
    return lambda record: record.get("loss_by_domain", {}).get(domain)


def _domains(steps: Sequence[Record]) -> list[str]:
    return sorted({domain for record in steps for domain in record.get("loss_by_domain", {})})


def _curve(steps: Sequence[Record], value_of: Callable[[Record], Any]) -> Curve:
    """(last step, mean) of groups of steps; groups without a value are left out."""
    curve = []
    for group in _groups(steps, _POINTS):
        values = [value for record in group if (value := value_of(record)) is not None]
        if values:
            curve.append((group[-1]["step"], statistics.fmean(values)))
    return curve


def _load(steps: Sequence[Record]) -> dict[str, Any]:
    """Load of the fullest expert over the mean load, for each layer and group of steps."""
    groups = [
        (group[-1]["step"], [record["max_violation_by_layer"] for record in group])
        for group in _groups(steps, _COLUMNS)
        if all(record.get("max_violation_by_layer") for record in group)
    ]
    return {
        "steps": [step for step, _ in groups],
        "layers": [
            [1 + value for value in map(statistics.fmean, zip(*of_group, strict=True))]
            for _, of_group in groups
        ],
    }


def _load_by_domain(steps: Sequence[Record]) -> dict[str, Any]:
    """Relative load [layer][expert][domain], the mean over the steps that have it."""
    found: dict[str, list[list[list[float]]]] = {}
    for record in steps:
        for domain, layers in record.get("load_by_domain", {}).items():
            found.setdefault(domain, []).append(layers)
    domains = sorted(found)
    means = [
        [
            [statistics.fmean(of_expert) for of_expert in zip(*of_layer, strict=True)]
            for of_layer in zip(*found[domain], strict=True)
        ]
        for domain in domains
    ]
    layers = [
        [list(of_expert) for of_expert in zip(*of_layer, strict=True)]
        for of_layer in zip(*means, strict=True)
    ]
    return {"domains": domains, "layers": layers}


def _skipped(folder: Path) -> list[Record]:
    path = folder / SKIPPED_NAME
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return [json.loads(line) for line in lines[-_SKIPPED:]]


def _needle(folder: Path) -> dict[str, Any] | None:
    """What `dsv3data evaluate needle` found, if it was asked: shares by depth, by length."""
    path = folder / NEEDLE_NAME
    if not path.is_file():
        return None
    tree = _tree(path)
    found = {(cell["length"], cell["depth"]): cell["found"] for cell in tree["cells"]}
    lengths, depths = (sorted(set(values)) for values in zip(*found, strict=True))
    return {
        "step": tree["step"],
        "lengths": lengths,
        "depths": depths,
        "found": [[found[length, depth] for depth in depths] for length in lengths],
    }


def _gemm_choices(folder: Path) -> Record | None:
    """Which way each shape of an FP8 product takes, with the times of all, as `train` found."""
    path = folder / GEMM_CHOICES_NAME
    return _tree(path) if path.is_file() else None


def _tree(path: Path) -> dict[str, Any]:
    try:
        tree: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise BadInput(
            f"this record of the run is not JSON: {error}",
            where=str(path),
            effect="nothing was reported",
            fix="restore the file, or move it elsewhere: the report does without it",
        ) from error
    return tree


def _groups(steps: Sequence[Record], most: int) -> list[Sequence[Record]]:
    """Neighbouring steps, in at most so many groups."""
    size = max(1, math.ceil(len(steps) / most))
    return [steps[start : start + size] for start in range(0, len(steps), size)]
