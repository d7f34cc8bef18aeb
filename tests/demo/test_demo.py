"""The demo through the installed command, and every command that the documentation shows.

The documentation's `sh` blocks are run in the order in which they stand, in a folder where
`make demo` has been run: what a reader would have.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from folders import copy_of, flip_bit, published
from run_cli import run_cli

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
STEPS = 12

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder that looks like the repository's to a command line."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    return folder


@pytest.fixture(scope="module")
def demo(place: Path) -> dict[str, Any]:
    """The summary of one demo run with two workers."""
    result = run_cli(
        *("demo", "--out", "runs/demo", "--steps", str(STEPS), "--workers", "2", "--json"),
        cwd=place,
    )
    assert result.code == 0, result.err
    return result.json


@pytest.fixture(scope="module")
def anew(place: Path) -> dict[str, Any]:
    """The summary of another run, in runs/anew, with one worker and a single step."""
    options = ("--out", "runs/anew", "--steps", "1", "--workers", "1", "--json")
    return run_cli("demo", *options, cwd=place).json


def test_the_demo_has_enough_text_in_four_domains(demo: dict[str, Any]) -> None:
    assert set(demo["domains"]) == {"code", "en", "math", "multi"}
    assert demo["bytes"] >= 15_000_000
    assert demo["domains"]["multi"]["bytes"] >= 30_000


def test_the_demo_packs_with_the_stated_fim_rate(demo: dict[str, Any]) -> None:
    documents = demo["documents"]
    deviation = (0.1 * 0.9 / documents) ** 0.5
    assert abs(demo["fim"]["documents"] - 0.1) < 4 * deviation
    assert demo["padding_share"] < 0.02


def test_the_demo_learns(demo: dict[str, Any]) -> None:
    losses = demo["train"]["losses"]
    assert demo["train"]["steps"] == STEPS
    assert losses[0] > 9  # ln 17,280 is 9.76: nothing is known yet
    assert losses[-1] < losses[0] - 1


def test_the_page_needs_nothing_from_outside(demo: dict[str, Any], place: Path) -> None:
    page = (place / demo["page"]).read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert not re.search(r"(?:src|href)=|<script|@import|url\(", page)
    assert demo["packed_root"] in page


def test_again_with_one_worker_finds_everything_done(demo: dict[str, Any], place: Path) -> None:
    before = published(place / "runs/demo/packed")
    again = run_cli(
        *("demo", "--out", "runs/demo", "--steps", str(STEPS), "--workers", "1", "--json"),
        cwd=place,
    ).json
    assert again["packed_root"] == demo["packed_root"]
    assert again["train"]["losses"] == demo["train"]["losses"]
    assert published(place / "runs/demo/packed") == before


def test_anew_with_one_worker_gives_the_same_bytes(
    demo: dict[str, Any], anew: dict[str, Any], place: Path
) -> None:
    assert anew["packed_root"] == demo["packed_root"]
    for name in ("documents", "tokenizer", "tokens", "packed"):
        assert published(place / "runs/anew" / name) == published(place / "runs/demo" / name)


@pytest.mark.usefixtures("anew")
def test_verify_finds_one_flipped_bit(place: Path, tmp_path: Path) -> None:
    packed = copy_of(place / "runs/anew/packed", tmp_path / "packed")
    assert run_cli("verify", packed).code == 0
    shard = packed / "packed-math-00000.arrow"
    flip_bit(shard, shard.stat().st_size // 2, 3)
    result = run_cli("verify", packed)
    assert result.code == 4
    assert "packed-math-00000.arrow" in result.err
    assert "damage in batch 0" in result.err


def test_the_shown_commands_are_the_ones_that_ran(demo: dict[str, Any], place: Path) -> None:
    """Each command of the summary finds its work done: same config, same input, same output."""
    before = published(place / "runs/demo/packed")
    for command in demo["commands"]:
        result = run_cli(*shlex.split(command)[1:], cwd=place)
        assert result.code == 0, f"{command}\n{result.err}"
    assert published(place / "runs/demo/packed") == before


@pytest.mark.timeout(3600)  # two dozen commands, training among them
def test_commands_in_the_documentation_run(demo: dict[str, Any], place: Path) -> None:
    commands = list(_documented_commands())
    assert len(commands) >= 5
    for document, command in commands:
        words = shlex.split(command)
        assert words[0] == "dsv3data", f"{document}: {command}"
        result = run_cli(*words[1:], cwd=place)
        assert result.code == 0, f"{document}: {command}\n{result.err}"


def _documented_commands() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                command = line.partition(" #")[0].strip()
                if command:
                    yield document.name, command


def test_the_summary_file_is_the_result(demo: dict[str, Any], place: Path) -> None:
    stored = json.loads((place / "runs/demo/summary.json").read_text(encoding="utf-8"))
    assert stored["packed_root"] == demo["packed_root"]
