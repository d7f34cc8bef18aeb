"""`--help` of every command, as it was reviewed, and its `[default: …]` texts against the code.

After a change that is meant: `UPDATE_SNAPSHOTS=1 python -m pytest tests/cli/test_help.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from dsv3data.contracts.config import load_config
from dsv3data.generation.needle import NeedleConfig
from dsv3data.io.sources import ReadOptions
from dsv3data.packing.config import PackConfig
from dsv3data.training.config import TrainConfig
from dsv3data.training.presets import preset_text
from dsv3data_cli.main import cli, run
from dsv3data_pipelines.tokenize import TokenizeConfig
from dsv3data_tokenizer.config import TokenizerTrainConfig

SNAPSHOTS = Path(__file__).with_name("snapshots")


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS = list(commands(cli))


def snapshot_of(path: tuple[str, ...]) -> Path:
    return SNAPSHOTS / ("-".join(["dsv3data", *path]) + ".txt")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_is_as_reviewed(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([*path, "--help"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    if os.environ.get("UPDATE_SNAPSHOTS"):
        snapshot_of(path).parent.mkdir(exist_ok=True)
        snapshot_of(path).write_text(printed.out, encoding="utf-8")
    assert printed.out == snapshot_of(path).read_text(encoding="utf-8")
    assert max(map(len, printed.out.splitlines())) <= 80


def test_no_snapshot_is_left_over() -> None:
    assert {path.name for path in SNAPSHOTS.iterdir()} == {
        snapshot_of(path).name for path in COMMANDS
    }


@pytest.mark.parametrize("path", [path for path in COMMANDS if path], ids=" ".join)
def test_short_and_long_help_agree(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*path, "-h"]) == 0
    short = capsys.readouterr().out
    run([*path, "--help"])
    assert capsys.readouterr().out == short


# Where the value stands that an option leaves alone when it is not given.
_PRESET = load_config(TrainConfig, Path(str(SNAPSHOTS)).parents[2] / "configs" / "tiny.toml")
DEFAULTS: dict[str, list[Any]] = {
    "demo": [_PRESET],
    "tokenizer train": [TokenizerTrainConfig(), ReadOptions()],
    "tokenizer report": [ReadOptions()],
    "tokenize": [TokenizeConfig(), ReadOptions()],
    "pack": [PackConfig()],
    "train": [TrainConfig()],
    "evaluate needle": [NeedleConfig()],
}
WORDS = {
    "": "none",
    ("*.txt", "*.txt.gz", "*.txt.zst"): "*.txt, also .gz, .zst",
    NeedleConfig().lengths: "the model's context and its halves",
    NeedleConfig().depths: "0,0.25,0.5,0.75,1",
}


def command_of(name: str) -> click.Command:
    command: click.Command = cli
    for word in name.split():
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


def stated_defaults(command: click.Command) -> dict[str, str]:
    found = {}
    for option in command.params:
        stated = re.search(r"\[default: (.*?)\]", getattr(option, "help", None) or "")
        if stated and option.name != "workers":
            found[str(option.name)] = stated[1]
    return found


@pytest.mark.parametrize("name", DEFAULTS)
def test_stated_defaults_are_those_of_the_config(name: str) -> None:
    stated = stated_defaults(command_of(name))
    for option, text in stated.items():
        owner = next(config for config in DEFAULTS[name] if hasattr(config, option))
        value = getattr(owner, option)
        assert text == WORDS.get(value, str(value)), option
    expected = {
        "demo": 1,
        "tokenizer train": 8,
        "tokenizer report": 5,
        "tokenize": 6,
        "pack": 6,
        "train": 0,
        "evaluate needle": 4,
    }
    assert len(stated) == expected[name]


@pytest.mark.parametrize("name", DEFAULTS)
def test_options_named_after_config_fields_leave_them_alone_by_default(name: str) -> None:
    for option in command_of(name).params:
        if any(hasattr(config, str(option.name)) for config in DEFAULTS[name]) and name != "demo":
            assert option.to_info_dict()["default"] in (None, ()), option.name


def test_the_preset_in_the_package_is_the_one_in_configs() -> None:
    text = (SNAPSHOTS.parents[2] / "configs" / "tiny.toml").read_text(encoding="utf-8")
    assert text == preset_text("tiny")


def test_every_command_is_listed_in_the_order_of_the_work(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(["--help"])
    listed = re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out.split("Commands:")[1], re.M)
    assert listed == list(cli.commands)
    assert all(command.get_short_help_str(80) for command in cli.commands.values())
