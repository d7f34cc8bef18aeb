"""Commands as a user gives them: streams, exit codes, JSON, silence, dry runs."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsv3data import __version__
from dsv3data.audit import doctor as doctor_module
from dsv3data_cli import output as output_module
from dsv3data_cli.main import cli as group
from folders import copy_of, everything, flip_bit, root_of
from run_cli import SCRIPT, CliResult
from tiny_data import CONTEXT, write_texts

Cli = Callable[..., CliResult]
SMALL_MODEL = [
    f"--set=model.{name}={value}"
    for name, value in {
        "n_layers": 2, "n_dense_layers": 1, "d_model": 32, "d_ff_dense": 64, "n_heads": 2,
        "q_lora_rank": 16, "kv_lora_rank": 16, "d_qk_nope": 8, "d_qk_rope": 8, "d_v": 16,
        "n_routed_experts": 4, "n_shared_experts": 1, "d_expert": 16, "top_k": 2, "n_groups": 2,
        "top_k_groups": 1, "mtp_depth": 1, "vocab_size": 0, "context": 0,
    }.items()
]  # fmt: skip


@pytest.fixture(autouse=True)
def room_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the doctor, on whatever machine this is."""
    monkeypatch.setattr(doctor_module, "_LOW_DISK_BYTES", 0)
    monkeypatch.setattr(doctor_module, "_LOW_MEMORY_BYTES", 0)


class Folders:
    """The tiny data sets, and a folder that does not exist yet."""

    def __init__(self, corpus: Path, tokenizer: Path, tokens: Path, packed: Path, new: Path):
        self.corpus, self.tokenizer, self.tokens = corpus, tokenizer, tokens
        self.packed, self.new = packed, new


@pytest.fixture
def folders(
    tiny_corpus: Path, tiny_tokenizer: Path, tiny_tokens: Path, tiny_packed: Path, tmp_path: Path
) -> Folders:
    return Folders(tiny_corpus, tiny_tokenizer, tiny_tokens, tiny_packed, tmp_path / "new")


def tokenizer_train(folders: Folders) -> list[str | Path]:
    return ["tokenizer", "train", folders.corpus, "--vocab-size", "400", "--out", folders.new]


def tokenize(folders: Folders) -> list[str | Path]:
    command: list[str | Path] = ["tokenize", folders.corpus, "--tokenizer", folders.tokenizer]
    return [*command, "--workers", "1", "--out", folders.new]


def pack(folders: Folders) -> list[str | Path]:
    command: list[str | Path] = ["pack", folders.tokens, "--context", "128", "--workers", "1"]
    return [*command, "--out", folders.new]


def train(folders: Folders) -> list[str | Path]:
    return [
        "train", "--data", folders.packed, "--out", folders.new, *SMALL_MODEL,
        "--set", "steps=2", "--set", "batch_rows=2", "--set", "threads=1",
    ]  # fmt: skip


def verify(folders: Folders) -> list[str | Path]:
    return ["verify", folders.packed]


def inspect(folders: Folders) -> list[str | Path]:
    return ["inspect", folders.packed, "--row", "3"]


def trace(folders: Folders) -> list[str | Path]:
    return ["trace", folders.packed, "--row", "3", "--position", "5"]


def report(folders: Folders) -> list[str | Path]:
    return ["report", folders.packed]


def fidelity(folders: Folders) -> list[str | Path]:
    return ["fidelity"]


def doctor(folders: Folders) -> list[str | Path]:
    return ["doctor", "--out", folders.new]


WRITING = [tokenizer_train, tokenize, pack, train]
READING = [verify, inspect, trace, report, fidelity, doctor]
# Commands that need more than the tiny sets: the demo, a trained model, a cluster's folder, another
# new folder each time. Their tests have files of their own.
ELSEWHERE = {"demo", "tokenizer", "generate", "evaluate", "progress", "export"}
KEYS = {
    tokenizer_train: {"out", "reused", "ids", "compression", "sha256"},
    tokenize: {"out", "root", "documents", "tokens", "rejected", "domains", "seconds"},
    pack: {"out", "root", "context", "rows", "padding", "fim", "domains"},
    train: {"out", "steps", "tokens", "first_loss", "last_loss", "tokens_per_s"},
    verify: {"folder", "format", "root", "files", "size_bytes", "facts"},
    inspect: {
        *("row", "shard", "row_in_shard", "domain", "context", "n_tokens", "padding", "pieces")
    },
    trace: {"source", "domain"},
    report: {"format", "root", "all", "domains"},
    fidelity: {"claims", "rules", "not_built"},
    doctor: {"ok", "findings"},
}
Make = Callable[[Folders], list[str | Path]]


@pytest.mark.parametrize("make", [*WRITING, *READING])
def test_json_is_one_object_on_stdout(cli: Cli, folders: Folders, make: Make) -> None:
    result = cli(*make(folders), "--json")
    assert result.code == 0, result.err
    tree = json.loads(result.out, parse_constant=pytest.fail)
    assert KEYS[make] <= set(tree)
    assert result.out.endswith("}\n")
    assert result.out.startswith("{")
    quiet = cli(*make(folders), "--json", "--quiet")
    assert quiet.err == ""
    assert set(quiet.json) == set(tree)


@pytest.mark.parametrize("make", [tokenizer_train, tokenize, pack, *READING])
def test_quiet_leaves_the_result_alone(cli: Cli, folders: Folders, make: Make) -> None:
    result = cli(*make(folders), "-q")
    assert (result.code, result.err) == (0, "")
    assert result.out.strip()


@pytest.mark.parametrize("make", [tokenizer_train, tokenize, pack])
def test_progress_goes_to_stderr_in_whole_lines(
    cli: Cli, folders: Folders, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A slow machine would see lines with an ETA in between.
    monkeypatch.setattr(output_module, "_LINE_SECONDS", math.inf)
    result = cli(*make(folders))
    assert result.code == 0
    assert "\r" not in result.err + result.out
    assert "\x1b" not in result.err + result.out
    for line in result.err.splitlines():
        assert re.fullmatch(r"[a-z ]+: (.+ · )*\d+:\d\d", line), line
    assert str(folders.new) in result.out


@pytest.mark.parametrize("make", WRITING)
@pytest.mark.parametrize("form", ["--json", "--quiet"])
def test_a_dry_run_writes_nothing(
    cli: Cli, folders: Folders, tmp_path: Path, make: Make, form: str
) -> None:
    result = cli(*make(folders), "--dry-run", form)
    assert result.code == 0, result.err
    assert not folders.new.exists()
    assert list(tmp_path.iterdir()) == []
    if form == "--json":
        assert isinstance(json.loads(result.out), dict)


@pytest.mark.parametrize("make", [tokenizer_train, tokenize, pack])
def test_a_dry_run_leaves_finished_output_alone(cli: Cli, folders: Folders, make: Make) -> None:
    assert cli(*make(folders)).code == 0
    before = everything(folders.new)
    assert cli(*make(folders), "--dry-run", "--fresh").code == 0
    assert everything(folders.new) == before


def test_a_forecast_of_several_contexts(cli: Cli, folders: Folders) -> None:
    arguments = ["pack", folders.tokens, "--context", "64,128", "--out", folders.new]
    plans = cli(*arguments, "--dry-run", "--json").json["plans"]
    assert [plan["context"] for plan in plans] == [64, 128]
    table = cli(*arguments, "--dry-run", "--quiet").out
    assert re.search(r"^ *64 ", table, re.M)
    result = cli(*arguments, "--json", "--quiet")
    assert [made["context"] for made in result.json["sets"]] == [64, 128]
    for length in ("64", "128"):
        assert cli("verify", folders.new / length).code == 0
    result = cli("pack", folders.tokens, "--context", "64,0", "--out", folders.new, "--dry-run")
    assert result.code == 3
    assert "context must be from 16 to" in result.err


def test_flags_config_file_and_set_override_in_this_order(
    cli: Cli, folders: Folders, tmp_path: Path
) -> None:
    (tmp_path / "pack.toml").write_text("context = 64\nseed = 3\nfim_rate = 0.5\n")
    arguments = ["pack", folders.tokens, "--out", folders.new, "--config", tmp_path / "pack.toml"]
    arguments += ["--workers", "1"]
    result = cli(*arguments, "--seed", "4", "--fim-rate", "0.25", "--set", "fim_rate=0", "--json")
    assert result.json["context"] == 64
    config = json.loads((folders.new / "manifest.json").read_bytes())["plan"]["pack"]
    assert (config["context"], config["seed"], config["fim_rate"]) == (64, 4, 0.0)


def test_reading_options_reach_the_documents(cli: Cli, folders: Folders, tmp_path: Path) -> None:
    lines = [{"body": "a", "n": 1, "kind": "x"}, {"body": "b\ud800", "n": 2, "kind": "y"}]
    path = tmp_path / "in" / "a.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "in" / "b.md").write_text("text")
    result = cli(
        "tokenize", path.parent, "--tokenizer", folders.tokenizer, "--out", folders.new,
        "--text-key", "body", "--id-key", "n", "--domain-key", "kind", "--domain", "notes=*.md",
        "--text-files", "*.md", "--on-bad-utf8", "replace", "--keep-prefix", "--json",
        "--unit-bytes", "2048", "--workers", "1",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert set(result.json["domains"]) == {"x", "y", "notes"}
    assert result.json["replaced_characters_documents"] == 1
    read = json.loads((folders.new / "manifest.json").read_bytes())["plan"]["tokenize"]["read"]
    assert (read["id_key"], read["keep_prefix"], read["text_files"]) == ("n", True, ["*.md"])


# Exit codes and errors


def four_lines(result: CliResult, code: int, *fragments: str) -> bool:
    """The error stands alone on stderr, after progress, and says its four things in order."""
    assert result.code == code, result.err
    assert result.out == ""
    labels = [line.partition(":")[0] for line in result.err.splitlines()[-4:]]
    assert labels == ["error", "where", "effect", "fix"]
    assert all(line.partition(": ")[2] for line in result.err.splitlines()[-4:])
    assert "Traceback" not in result.err
    for fragment in fragments:
        assert fragment in result.err
    return True


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["tokenise"], ["No such command 'tokenise'", "'tokenize'"]),
        (["tokenizer", "trian"], ["No such command 'trian'", "train"]),
        (["pack", "x", "--contxt", "4"], ["No such option '--contxt'", "--context"]),
        (["pack", "--out", "x"], ["Missing argument 'TOKENS'"]),
        (["tokenize", "x", "--tokenizer", "y"], ["Missing option '--out'"]),
        (["tokenize", "--tokenizer", "y", "--out", "z"], ["Missing argument 'INPUTS...'"]),
        (["pack", "x", "--out", "y", "--context", "4k"], ["'4k' is not a number, or numbers with"]),
        (["pack", "x", "--out", "y", "--seed", "a"], ["'a' is not a valid integer"]),
        (["tokenize", "x", "--tokenizer", "y", "--out", "z", "--workers", "0"], ["x>=1"]),
        (["tokenize", "x", "--tokenizer", "y", "--out", "z", "--max-rejected", "2"], ["0<=x<=1"]),
        (
            ["tokenize", "x", "--tokenizer", "y", "--out", "z", "--on-bad-utf8", "drop"],
            ["'reject', 'replace'"],
        ),
        (["verify"], ["Missing argument 'FOLDER'"]),
        (["inspect", "x", "--row", "-1"], ["x>=0"]),
        (["demo", "--steps", "0"], ["x>=1"]),
        (["verify", "a", "b"], ["Got unexpected extra argument (b)"]),
    ],
)
def test_usage_errors_are_exit_code_2(cli: Cli, arguments: list[str], fragments: list[str]) -> None:
    result = cli(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Usage: dsv3data ")
    for fragment in fragments:
        assert fragment in result.err


def test_no_command_shows_the_help(cli: Cli) -> None:
    result = cli()
    assert result.code == 2
    assert "Commands:" in result.err + result.out


def test_bad_input_and_config_are_exit_code_3(cli: Cli, folders: Folders, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    assert four_lines(cli("verify", absent), 3, "there is no such folder", str(absent))
    assert four_lines(cli("inspect", folders.tokens), 3, "not dsv3data.packed")
    assert four_lines(cli("inspect", folders.packed, "--row", "99999"), 3, "no row 99,999")
    assert four_lines(cli(*pack(folders), "--set", "contxt=3"), 3, "did you mean 'context'?")
    assert four_lines(cli(*pack(folders), "--fim-rate", "nan"), 3, "fim_rate must be")
    assert four_lines(cli(*pack(folders), "--config", absent), 3, "the config file cannot be read")
    assert four_lines(cli(*tokenize(folders), "--domain", "x"), 3, "must look like name=glob")
    assert four_lines(cli(*tokenizer_train(folders), "--vocab-size", "9"), 3, "vocab_size must be")
    command = ["tokenizer", "train", folders.corpus, "--out", folders.new]
    assert four_lines(cli(*command), 3, "the corpus yields only", "128,000 were asked for")
    assert cli(*command, "--allow-smaller").code == 0


def test_damage_is_exit_code_4(cli: Cli, folders: Folders, tmp_path: Path) -> None:
    copy = copy_of(folders.packed, tmp_path / "copy")
    flip_bit(next(copy.glob("packed-*.arrow")), 3000, 3)
    assert four_lines(cli("verify", copy), 4, "SHA-256 differs", "packed-", "rebuilds only what")
    assert cli("verify", copy, "--json").code == 4


def test_the_environment_is_exit_code_5(
    cli: Cli, folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders.new.write_bytes(b"a file")
    assert four_lines(cli(*tokenize(folders)), 5, "cannot write")
    assert four_lines(cli(*pack(folders)), 5, "cannot write")
    assert four_lines(cli(*tokenizer_train(folders)), 5, "cannot write")
    result = cli("doctor", "--out", folders.new)
    assert result.code == 5
    assert "problem" in result.out

    def exhausted(folder: Path) -> None:
        raise MemoryError

    monkeypatch.setattr(doctor_module, "examine", exhausted)
    assert four_lines(cli("doctor"), 5, "the process ran out of memory", "fewer --workers")


def test_training_without_torch_is_exit_code_5(
    cli: Cli, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    expected = "this command needs torch and safetensors, not installed here"
    assert four_lines(cli(*train(folders)), 5, expected, "pip install 'dsv3data[train]'")
    assert four_lines(cli("demo", "--out", folders.new), 5, expected)


def test_too_many_rejected_is_exit_code_6(cli: Cli, folders: Folders, tmp_path: Path) -> None:
    path = write_texts(tmp_path / "x.jsonl", ["fine"] * 3)
    path.write_bytes(path.read_bytes() + b"bad\n")
    command = ["tokenize", path, "--tokenizer", folders.tokenizer, "--out", folders.new]
    assert four_lines(cli(*command), 6, "1 of 4 records were rejected (bad-json 1)")
    root = root_of(folders.new)
    result = cli(*command, "--max-rejected", "0.25", "--json")
    assert (result.code, result.json["root"]) == (0, root)
    assert "1 records rejected" in cli(*command, "--max-rejected", "0.25").out


def test_a_bug_shows_its_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(doctor_module, "examine", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli("doctor")


def test_an_interrupt_is_exit_code_75(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor_module, "examine", interrupted)
    result = cli("doctor")
    assert result.code == 75
    assert "stopped: nothing unfinished has a final name" in result.err


def test_the_reader_of_the_output_may_go_away() -> None:
    for arguments in (["--help"], ["doctor"], ["doctor", "--json"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [SCRIPT, *arguments], stdout=writer, stderr=subprocess.PIPE, check=False
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b"")


def test_version(cli: Cli) -> None:
    result = cli("--version")
    assert (result.code, result.out) == (0, f"dsv3data, version {__version__}\n")


# Hostile names and texts


@pytest.mark.parametrize("name", ["[/x] [red]", "a b'c\"", "-", "\u202e", "new\nline"])
def test_any_folder_name_is_only_a_name(
    cli: Cli, folders: Folders, tmp_path: Path, name: str
) -> None:
    out = tmp_path / name
    command = ["pack", folders.tokens, "--context", "128", "--workers", "1", "--out", out]
    result = cli(*command)
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1].endswith(str(out).splitlines()[-1])
    assert cli("verify", out).code == 0
    assert cli("doctor", "--out", out).code == 0
    assert cli("verify", out, "--json").json["folder"] == str(out)


def test_a_folder_name_that_is_no_text(folders: Folders, tmp_path: Path) -> None:
    """Undecodable bytes in a path must not turn finished work into a failure."""
    out = os.fsencode(tmp_path) + b"/caf\xe9"
    command = ["pack", folders.tokens, "--context", "128", "--workers", "1", "--json"]
    for arguments in (["doctor"], command):
        done = subprocess.run([SCRIPT, *arguments, "--out", out], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["out"].endswith("/caf\udce9")


def test_inspect_shows_a_row_for_people(cli: Cli, folders: Folders) -> None:
    result = cli("inspect", folders.packed, "--row", "3")
    assert result.code == 0
    assert result.out.startswith("row 3 · packed-code-00000.arrow, row 3 · domain code")
    view: dict[str, Any] = cli("inspect", folders.packed, "--row", "3", "--json").json
    assert view["context"] == CONTEXT
    assert result.out.count("⏹ end of sentence") == sum(
        piece["fim"] or piece["ends_document"] for piece in view["pieces"]
    )
    short = cli("inspect", folders.packed, "--row", "3", "--width", "10").out
    whole = cli("inspect", folders.packed, "--row", "3", "--width", "0").out
    assert len(short) < len(whole)
    assert "characters …" in short
    assert "characters …" not in whole


def test_inspect_marks_the_parts_of_fim(cli: Cli, folders: Folders) -> None:
    for row in range(20):
        view = cli("inspect", folders.packed, "--row", str(row), "--json").json
        if any(piece["fim"] for piece in view["pieces"]):
            shown = cli("inspect", folders.packed, "--row", str(row)).out
            assert "FIM (PSM)" in shown
            assert shown.index("▶prefix") < shown.index("▶suffix") < shown.index("▶middle")
            return
    pytest.fail("no row with FIM among the first twenty")


def test_a_hostile_file_name_cannot_drive_the_terminal(
    cli: Cli, folders: Folders, tmp_path: Path
) -> None:
    write_texts(tmp_path / "\x1b[2Jx.jsonl", ["text"])
    tokens, packed = tmp_path / "tokens", tmp_path / "packed"
    source = tmp_path / "\x1b[2Jx.jsonl"
    assert cli("tokenize", source, "--tokenizer", folders.tokenizer, "--out", tokens).code == 0
    assert cli("pack", tokens, "--context", "16", "--out", packed).code == 0
    result = cli("inspect", packed)
    assert "\x1b" not in result.out
    assert "␛[2Jx.jsonl at 0" in result.out


def test_an_unknown_kind_and_a_missing_input(cli: Cli, folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "x.tsv").write_bytes(b"")
    command = ["--tokenizer", folders.tokenizer, "--out", folders.new]
    assert four_lines(cli("tokenize", tmp_path / "x.tsv", *command), 3, "of no kind that documents")
    assert four_lines(cli("tokenize", tmp_path / "y", *command), 3, "no such input")
    assert not folders.new.exists()


def test_every_command_is_called_by_a_test_here() -> None:
    called = {make.__name__ for make in [*WRITING, *READING]}
    assert set(group.commands) - ELSEWHERE <= called
