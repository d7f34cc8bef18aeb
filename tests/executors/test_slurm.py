"""Slurm, for real: a cluster of one node that these tests start and stop."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from dsv3data.io.manifest_file import read_manifest
from dsv3data_pipelines.executors import run_progress
from folders import published
from held import wait_until, waiting_at
from run_cli import SCRIPT, CliResult, run_cli
from tiny_slurm import TinySlurm, tiny_slurm, why_not

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.timeout(1800),
]


@pytest.fixture(scope="module")
def slurm() -> Iterator[TinySlurm]:
    with tiny_slurm() as cluster:
        yield cluster


@pytest.fixture
def on_slurm(slurm: TinySlurm) -> Callable[..., CliResult]:
    """Run the command line as a user of that cluster."""

    def run(*words: str | Path, env: Mapping[str, str] | None = None) -> CliResult:
        return run_cli(*words, "--executor", "slurm", env={**slurm.env, **(env or {})})

    return run


def jobs_of(result: CliResult) -> tuple[str, str]:
    """(array job, publishing job)"""
    assert result.code == 0, result.err
    found = re.search(r"as job (\d+), publishing as job (\d+)", result.out)
    assert found, result.out
    return found[1], found[2]


def logs(out: Path) -> str:
    """What the tasks printed."""
    folder = run_progress(out).logs
    return "\n".join(path.read_text() for path in sorted(folder.rglob("slurm_logs/*")))


def test_tokenize_and_pack_give_the_bytes_of_one_machine(
    on_slurm: Callable[..., CliResult],
    tokenize_words: list[str | Path],
    pack_words: list[str | Path],
    local_tokens: Path,
    local_packed: Path,
    tmp_path: Path,
) -> None:
    tokens, packed = tmp_path / "the tokens", tmp_path / "packed"
    # More tasks than the cluster's arrays may have: some jobs do two.
    done = on_slurm(*tokenize_words, "--out", tokens, "--tasks", "6", "--wait", "--json")
    assert done.code == 0, done.err
    assert published(tokens) == published(local_tokens)
    assert done.json["root"] in (tokens / "manifest.json").read_text()
    seen = run_progress(tokens)
    assert (seen.tasks_done, seen.tasks, seen.published) == (6, 6, True)
    assert seen.units_done == seen.units >= 12

    limits = ["--workers", "1", "--submit", "time=00:05:00", "--submit", "mem-per-cpu=1500M"]
    done = on_slurm(
        *("pack", tokens, *pack_words, "--out", packed, "--tasks", "2", "--wait"), *limits
    )
    assert done.code == 0, done.err
    assert published(packed) == published(local_packed)


def test_counts_of_a_sample_are_those_of_one_machine(
    on_slurm: Callable[..., CliResult],
    count_words: list[str | Path],
    local_counts: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "counts"
    done = on_slurm(*count_words, "--out", out, "--tasks", "2", "--wait", "--json")
    assert done.code == 0, done.err
    assert published(out) == published(local_counts)
    assert done.json["words"] > 1000
    seen = run_progress(out)
    assert (seen.units_done, seen.tasks_done, seen.published) == (seen.units, 2, True)


def test_a_preempted_task_finishes_its_unit_is_requeued_and_goes_on(
    slurm: TinySlurm,
    on_slurm: Callable[..., CliResult],
    tokenize_words: list[str | Path],
    local_tokens: Path,
    tmp_path: Path,
) -> None:
    out, at_work = tmp_path / "tokens", tmp_path / "at work"
    # In a unit beyond the half: the requeued task has too few left to wait again.
    half = len(read_manifest(local_tokens).input["units"]) // 2 + 1
    waiting = waiting_at("unit.before_record", half, at_work)
    units, last = jobs_of(on_slurm(*tokenize_words, "--out", out, "--tasks", "1", env=waiting))
    wait_until(at_work.exists)
    assert run_progress(out).units_done == half - 1
    words = ("--parsable", "--partition=high", "--exclusive", "--output=/dev/null", "--wrap=true")
    urgent = slurm.run("sbatch", *words)
    wait_until(lambda: "SIGTERM: finishing the units under way" in logs(out))
    at_work.unlink()
    wait_until(lambda: "stopped by SIGTERM" in logs(out))
    done = run_progress(out)
    assert done.units_done == half
    assert not done.published
    slurm.wait(urgent.strip())
    # Slurm would let a requeued task wait for two minutes.
    slurm.run("scontrol", "update", f"job={units}", "StartTime=now")
    assert set(slurm.wait(units, last).values()) == {"COMPLETED"}
    assert published(out) == published(local_tokens)
    assert run_progress(out).failed == {}


def test_a_lost_task_is_named_and_the_same_command_does_the_rest(
    slurm: TinySlurm,
    on_slurm: Callable[..., CliResult],
    tokenize_words: list[str | Path],
    local_tokens: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "tokens"
    words = [*tokenize_words, "--out", out, "--tasks", "2"]
    units, last = jobs_of(on_slurm(*words, "--submit", "begin=now+1hour"))
    slurm.run("scancel", f"{units}_1")
    slurm.run("scontrol", "update", f"job={units}", "StartTime=now")
    slurm.run("scontrol", "update", f"job={last}", "StartTime=now")
    ended = slurm.wait(units, last)
    assert (ended[f"{units}_0"], ended[f"{last}_0"]) == ("COMPLETED", "FAILED")
    assert "units are not done: 00001, 00003" in logs(out)
    assert f"--out {out}" in logs(out)  # the command to run again
    assert not (out / "manifest.json").exists()
    seen = run_cli("progress", out)
    assert "failed: publish: " in seen.out
    assert run_cli("progress", out, "--json").json["tasks_done"] == 1

    again = on_slurm(*words, "--wait")
    assert again.code == 0, again.err
    assert published(out) == published(local_tokens)


def test_the_error_of_a_task_is_the_error_of_the_command(
    slurm: TinySlurm, on_slurm: Callable[..., CliResult], tiny_tokenizer: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "in" / "a.jsonl.gz"
    damaged.parent.mkdir()
    damaged.write_bytes(gzip.compress(b'{"text": "some text"}\n' * 100)[:-9])
    out = tmp_path / "out"
    words = ["tokenize", damaged.parent, "--tokenizer", tiny_tokenizer, "--out", out, "--quiet"]
    done = on_slurm(*words, "--tasks", "1", "--wait")
    assert done.code == 3
    assert done.err == run_cli(*words).err
    assert set(run_progress(out).failed) == {"00000", "publish"}
    codes = slurm.run("scontrol", "show", "job", run_progress(out).jobs["units"])
    assert "ExitCode=3:0" in codes


def test_what_slurm_refuses_is_said(
    on_slurm: Callable[..., CliResult], tokenize_words: list[str | Path], tmp_path: Path
) -> None:
    words = [*tokenize_words, "--out", tmp_path / "out", "--tasks", "1"]
    refused = on_slurm(*words, "--submit", "partition=nowhere")
    assert refused.code == 5
    assert "Slurm refused: sbatch ended with code 1" in refused.err
    assert "invalid partition" in refused.err
    wrong = on_slurm(*words, "--submit", "array=0-9")
    assert wrong.code == 3
    assert "is no option of sbatch that can be set here" in wrong.err


def test_the_commands_of_the_page_run(
    slurm: TinySlurm, tiny_corpus: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    (tmp_path / "corpus").symlink_to(tiny_corpus)
    (tmp_path / "tokenizer").symlink_to(tiny_tokenizer)
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(blocks) == 3
    path = f"{SCRIPT.parent}:{os.environ['PATH']}"
    for block in blocks:
        done = subprocess.run(
            ["bash", "-ec", block.replace("--tasks 4", "--tasks 2")],  # each task costs seconds
            env={**os.environ, **slurm.env, "PATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        slurm.wait(*{name.split("_")[0] for name in slurm.states()})
    assert "every document" in done.stdout or "root" in done.stdout
