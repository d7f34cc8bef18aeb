"""The table of published values: nothing differs, every test that it names exists."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest

from dsv3data_cli.main import run
from dsv3data_pipelines import fidelity
from dsv3data_pipelines.fidelity import CLAIMS, NOT_BUILT, RULES, Claim, examine

TESTS = Path(__file__).parents[1]


def test_every_value_is_equal_or_departs_for_a_reason() -> None:
    findings = examine(CLAIMS)
    assert [one.claim.what for one in findings if one.verdict == "differs"] == []
    assert sum(one.verdict == "equal" for one in findings) > 60
    # A reason that is no longer needed must go.
    departing = {one.claim.what for one in findings if one.verdict == "departs"}
    assert departing == {claim.what for claim in CLAIMS if claim.departure}


@pytest.mark.parametrize(
    "test", sorted({*(claim.test for claim in CLAIMS), *(test for *_, test in RULES)})
)
def test_the_named_test_exists(test: str) -> None:
    file, _, function = test.partition("::")
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_a_value_that_changed_is_found() -> None:
    claim = Claim(section="§0", what="x", published=2.0, ours=lambda: 2.0, test="")
    (same,) = examine([claim])
    (other,) = examine([replace(claim, published=2.1)])
    (explained,) = examine([replace(claim, published="b", departure="why not")])
    assert (same.verdict, other.verdict, explained.verdict) == ("equal", "differs", "departs")


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fidelity", "--tests"]) == 0
    shown = capsys.readouterr().out
    assert f"{len(CLAIMS)} values: " in shown
    assert ", 0 differ" in shown
    assert RULES[0][1] in shown
    assert f"  tests/{CLAIMS[0].test}\n      vocabulary, model entries" in shown
    assert "[一-龥" in shown
    assert NOT_BUILT[-1][1] in shown
    assert run(["fidelity", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["claims"][0]["published"] == 128_000


def test_an_unexplained_difference_is_a_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fidelity, "CLAIMS", (replace(CLAIMS[0], published=1), *CLAIMS[1:]))
    assert run(["fidelity"]) == 1
    message = "1 values differ from the published ones without a stated reason"
    assert message in capsys.readouterr().err
