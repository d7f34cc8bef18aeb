"""The report of a training run: curves are means of neighbouring steps, nothing is left out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from dsv3data.audit.report import report_set
from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.progress import NullSink
from dsv3data.report.run_page import run_page

N_STEPS = 1001
LOAD = {"web": [[0.5, 1.5], [1.0, 1.0]], "<code>": [[1.5, 0.5], [0.0, 2.0]]}


def step(number: int) -> dict[str, Any]:
    loss = 9 - 6 * number / N_STEPS
    return {
        "step": number,
        "tokens": 100 * number,
        "main_loss": None if number == 500 else loss,
        "mtp_loss": loss + 0.5,
        "bits_per_byte": loss / 3,
        "loss_by_domain": {"web" if number % 2 else "<code>": loss},
        "grad_norm": 1.0,
        "lr": 1e-3,
        "balance_loss": 2.0,
        "tokens_per_s": 5000.0,
        "data_wait_s": 0.0,
        "max_violation_by_layer": [0.5, number / N_STEPS],
        "skipped": number == 500,
        **({"load_by_domain": LOAD} if number % 500 == 0 else {}),
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    lines = [json.dumps(step(number)) for number in range(1, N_STEPS + 1)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 10']))
    spike: dict[str, Any] = {
        "step": 500,
        "reason": "spike",
        "loss": 80.0,
        "loss_limit": 9.1,
        "row_ids": [3, 4],
    }
    spike["documents"] = [
        {"source": "<web>.jsonl", "position": number, "stands_out": ["loss"] if number else []}
        for number in range(7)
    ]
    (tmp_path / "skipped_steps.jsonl").write_text(json.dumps(spike) + "\n")
    return tmp_path


def test_figures_and_curves(run: Path) -> None:
    tree = report_set(run, sink=NullSink())
    assert tree["all"] == {
        "steps": N_STEPS,
        "steps_skipped": 1,
        "tokens": 100 * N_STEPS,
        "first_loss": step(1)["main_loss"],
        "last_loss": 3.0,
        "best_loss": 3.0,
        "bits_per_byte": 1.0,
        "tokens_per_s": 5000.0,
        "tflop_per_s": None,
    }
    loss = tree["curves"]["loss"]["next token"]
    assert len(loss) == math.ceil(N_STEPS / 3)
    assert loss[0] == (3, pytest.approx(step(2)["main_loss"]))
    assert loss[166][0] == 501  # the skipped step is no part of its mean
    assert loss[166][1] == pytest.approx((step(499)["main_loss"] + step(501)["main_loss"]) / 2)
    assert set(tree["curves"]["loss_by_domain"]) == {"web", "<code>"}
    assert len(tree["load"]["layers"]) == len(tree["load"]["steps"]) == math.ceil(N_STEPS / 13)
    assert tree["load"]["layers"][0] == [1.5, pytest.approx(1 + 7 / N_STEPS)]
    assert tree["load_by_domain"]["domains"] == ["<code>", "web"]
    assert tree["load_by_domain"]["layers"] == [[[1.5, 0.5], [0.5, 1.5]], [[0.0, 1.0], [2.0, 1.0]]]
    assert tree["skipped"][0]["row_ids"] == [3, 4]
    json.dumps(tree)


def test_the_page(run: Path) -> None:
    page = run_page(report_set(run, sink=NullSink()))
    for text in ("Loss by domain", "token after next", "Skipped steps", "spike", "9.1", "layer 1"):
        assert text in page
    assert "&lt;web&gt;.jsonl at 4 and 2 more" in page
    assert "at 0" not in page
    assert "<code>" not in page.replace("&lt;code&gt;", "")
    assert page.count("<svg") == 10
    assert "&lt;code&gt;, expert 1: 2.00" in page
    assert "https:" not in page


def test_the_page_shows_which_way_fp8_products_took(run: Path) -> None:
    assert report_set(run, sink=NullSink())["gemm_choices"] is None
    shape = {
        "way": "cublas",
        "milliseconds": {"triton": 0.25, "cublas": 0.125},
        "left_out": {"<tile>": "gives other bits than the first tile"},
    }
    choices = {"machine": "H100, torch 2", "shapes": {"dense: up to 4096 tokens": shape}}
    (run / "gemm-choices.json").write_text(json.dumps(choices))
    tree = report_set(run, sink=NullSink())
    assert tree["gemm_choices"] == choices
    page = run_page(tree)
    for text in ("on H100, torch 2,", "up to 4096", "0.125", "0.250", "&lt;tile&gt;: gives other"):
        assert text in page
    (run / "gemm-choices.json").write_text("{")
    with pytest.raises(BadInput, match="this record of the run is not JSON"):
        report_set(run, sink=NullSink())


def test_a_run_without_experts_or_steps(tmp_path: Path) -> None:
    lines = [{"step": 1, "main_loss": 2.0, "max_violation_by_layer": []}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tree = report_set(tmp_path, sink=NullSink())
    assert tree["load"]["layers"] == []
    assert run_page(tree).count("<svg") == 1
    (tmp_path / "metrics.jsonl").write_text("")
    empty = report_set(tmp_path, sink=NullSink())
    assert (empty["all"]["steps"], empty["all"]["last_loss"]) == (0, None)
    assert "A training run of 0 steps" in run_page(empty)


def test_records_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(BadInput, match="this is no record of a training run: KeyError"):
        report_set(tmp_path, sink=NullSink())
