"""`dsv3data fidelity`: the paper's values beside ours."""

from __future__ import annotations

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

    A value is equal, or departs for a stated reason; what the paper has and this code has not is
    listed below the table. An unexplained difference exits with code 1.
    """
    from dsv3data_pipelines.fidelity import CLAIMS, NOT_BUILT, examine

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

    made = table("source", "what", ">published", ">ours", "", *(["test"] if tests else []))
    for row in tree["claims"]:
        words = ": ".join(filter(None, (row["verdict"], row["departure"])))
        made.add_row(
            row["section"],
            row["what"],
            _value(row["published"]),
            _value(row["ours"]),
            Text(words, style=_STYLES[row["verdict"]]),
            *([row["test"]] if tests else []),
        )
    console.print(made)
    equal = sum(row["verdict"] == "equal" for row in tree["claims"])
    console.print(f"{equal} of {len(tree['claims'])} published values are equal")
    console.print("not built:")
    for row in tree["not_built"]:
        console.print(f"  {row['section']}  {row['what']}", soft_wrap=True)


def _value(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if value == int(value) and abs(value) >= 1 else f"{value:g}"
