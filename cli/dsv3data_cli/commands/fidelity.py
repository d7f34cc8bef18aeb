"""`dsv3data fidelity`: the paper's values beside ours."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from dsv3data.contracts.errors import Dsv3DataError
from dsv3data_cli.options import output_options
from dsv3data_cli.output import Output, table

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {"equal": "green", "departs": "yellow", "differs": "red"}


@click.command(short_help="The paper's values beside ours.")
@click.option("--tests", is_flag=True, help="Also name the test of each rule.")
@output_options
def fidelity(tests: bool, output: Output) -> None:
    """Compare each value that DeepSeek published about V3 with the one in this code.

    A value is equal, or departs for a stated reason; rules without a number and what this code has
    not are listed below the table. An unexplained difference exits with code 1.
    """
    from dsv3data_cli.commands.train import require_torch

    require_torch()
    from dsv3data_pipelines.fidelity import CLAIMS, NOT_BUILT, RULES, examine

    findings = examine(CLAIMS)
    tree = {
        "claims": [
            {
                "section": finding.claim.section,
                "what": finding.claim.what,
                "published": finding.claim.published,
                "ours": finding.ours,
                "verdict": finding.verdict,
                "departure": finding.claim.departure,
                "test": f"tests/{finding.claim.test}",
            }
            for finding in findings
        ],
        "rules": [
            {"section": section, "what": what, "test": f"tests/{test}"}
            for section, what, test in RULES
        ],
        "not_built": [{"section": section, "what": what} for section, what in NOT_BUILT],
    }
    output.result(tree, lambda console: _render(console, tree, tests))
    differing = [finding.claim.what for finding in findings if finding.verdict == "differs"]
    if differing:
        raise Dsv3DataError(
            f"{len(differing)} values differ from the published ones without a stated reason",
            where=", ".join(differing),
            effect="a model trained with this code would not be DeepSeek-V3's",
            fix="report it as a bug",
        )


def _render(console: Console, tree: dict[str, Any], tests: bool) -> None:
    from rich.text import Text

    made = table("source", "what", ">published", ">ours", "")
    for row in tree["claims"]:
        words = ": ".join(filter(None, (row["verdict"], row["departure"])))
        made.add_row(
            row["section"],
            row["what"],
            _value(row["published"]),
            _value(row["ours"]),
            Text(words, style=_STYLES[row["verdict"]]),
        )
    console.print(made)
    count = Counter(row["verdict"] for row in tree["claims"])
    console.print(
        f"{len(tree['claims'])} values: {count['equal']} equal, {count['departs']} depart for a "
        f"reason, {count['differs']} differ"
    )
    for title, name in (("rules without a number:", "rules"), ("not here:", "not_built")):
        console.print(f"\n{title}")
        for row in tree[name]:
            console.print(f"  {row['section']}  {row['what']}", soft_wrap=True)
    if tests:
        console.print("\ntests:")
        for test, proven in _by_test(tree).items():
            console.print(f"  {test}", soft_wrap=True)
            console.print(f"      {'; '.join(proven)}", soft_wrap=True)


def _by_test(tree: dict[str, Any]) -> dict[str, list[str]]:
    """What each test proves, in the order of the table."""
    proven: dict[str, list[str]] = {}
    for row in (*tree["claims"], *tree["rules"]):
        proven.setdefault(row["test"], []).append(row["what"])
    return proven


def _value(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if value == int(value) and abs(value) >= 1 else f"{value:g}"
