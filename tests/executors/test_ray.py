"""Ray, for real: a local cluster that these tests start and stop."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dsv3data.contracts.errors import BadConfig, BadInput, EnvironmentFault, Stopped
from dsv3data.contracts.manifest import Manifest
from dsv3data.contracts.progress import NullSink
from dsv3data_pipelines.executors import run_on_cluster, run_progress
from fated_units import fated_stage
from folders import published
from run_cli import run_cli

ray = pytest.importorskip("ray", reason="Ray is not installed")
HELPERS = str(Path(__file__).parents[1] / "helpers")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster with two CPUs, to which this process is connected."""
    old, handler = os.environ.get("PYTHONPATH"), signal.getsignal(signal.SIGTERM)
    os.environ["PYTHONPATH"] = os.pathsep.join([HELPERS, old] if old else [HELPERS])  # of workers
    context = started()
    yield context.address_info["gcs_address"]
    ray.shutdown()
    signal.signal(signal.SIGTERM, handler)  # Ray leaves its own there
    del os.environ["PYTHONPATH"]
    if old is not None:
        os.environ["PYTHONPATH"] = old


def started() -> Any:
    """On a busy machine Ray's daemon may miss the half minute that it is given."""
    patience = {"health_check_failure_threshold": 100, "worker_register_timeout_seconds": 600}
    # Nor does it end tasks where other work takes the memory.
    system: dict[str, Any] = {**patience, "memory_monitor_refresh_ms": 0}
    options = {"include_dashboard": False, "log_to_driver": False, "_system_config": system}
    for last in (False, False, True):
        try:
            return ray.init("local", num_cpus=2, **options)
        except Exception as error:
            ray.shutdown()
            if last and "timed out during startup" not in str(error):
                raise
    pytest.skip("Ray's daemon does not start in time here")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that are gone may hold the folder for long where the machine hardly moves."""
    monkeypatch.setattr("dsv3data_pipelines.executors.ray._END_SECONDS", 600.0)


def run(out: Path, fates: Mapping[int, str], **more: Any) -> Manifest:
    arguments = {"tasks": 3, "at_once": 2, "options": {}, "fresh": False, **more}
    done = run_on_cluster(
        fated_stage(out, fates),
        executor="ray",
        wait=False,
        command="the command",
        sink=NullSink(),
        **arguments,
    )
    assert isinstance(done, Manifest)
    return done


def test_tokenize_and_pack_give_the_bytes_of_one_machine(
    address: str,
    tokenize_words: list[str | Path],
    pack_words: list[str | Path],
    local_tokens: Path,
    local_packed: Path,
    tmp_path: Path,
) -> None:
    tokens, packed = tmp_path / "the tokens", tmp_path / "packed"
    env = {"RAY_ADDRESS": address}
    more = ["--executor", "ray", "--tasks", "3"]
    done = run_cli(*tokenize_words, "--out", tokens, *more, env=env)
    assert done.code == 0, done.err
    assert published(tokens) == published(local_tokens)
    done = run_cli("pack", tokens, *pack_words, "--out", packed, *more, "--workers", "1", env=env)
    assert done.code == 0, done.err
    assert published(packed) == published(local_packed)
    seen = run_progress(packed)
    assert (seen.executor, seen.tasks_done, seen.published) == ("ray", 3, True)
    assert "units" in (seen.logs / "units" / "stats" / "00002.json").read_text()


def test_counts_of_a_sample_are_those_of_one_machine(
    address: str, count_words: list[str | Path], local_counts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "counts"
    more = ["--executor", "ray", "--tasks", "2"]
    done = run_cli(*count_words, "--out", out, *more, env={"RAY_ADDRESS": address})
    assert done.code == 0, done.err
    assert published(out) == published(local_counts)
    seen = run_progress(out)
    assert (seen.stage, seen.units_done, seen.published) == ("count", seen.units, True)


def test_a_killed_task_is_done_again(address: str, tmp_path: Path) -> None:
    # "interrupt": a node is taken away; the task ends after that unit.
    manifest = run(tmp_path / "out", {1: "die once", 3: "interrupt", 5: "die once"})
    assert [file.name for file in manifest.files] == [f"u{index}" for index in range(7)]


def test_a_task_that_always_dies_ends_the_run_with_the_names_of_its_units(
    address: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(EnvironmentFault, match=r"units are not done: .*u4") as caught:
        run(out, {4: "die"}, options={"max_retries": "1", "num_cpus": "0.5"}, at_once=1)
    assert "the command" in caught.value.fix
    assert len(run(out, {}).files) == 7


def test_the_error_of_a_task_is_the_error_of_the_run(address: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="this unit is bad") as caught:
        run(tmp_path / "out", {2: "raise"})
    assert caught.value.fix == "mend it"


def test_a_signal_to_the_command_lets_tasks_finish_their_units(
    address: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        run(out, {1: f"stop {os.getpid()}"}, tasks=1)
    assert sorted(path.name for path in out.glob("u*")) == ["u0", "u1"]
    assert len([*out.glob(".work/unit-*.json")]) == 2
    assert len(run(out, {}).files) == 7


@pytest.mark.parametrize("option", [{"time": "1"}, {"memory": "much"}, {"num_cpus": "-1"}])
def test_an_option_that_ray_tasks_do_not_have(tmp_path: Path, option: dict[str, str]) -> None:
    with pytest.raises(BadConfig, match="is no option of Ray tasks with a number"):
        run(tmp_path / "out", {}, options=option)


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentFault, match="--executor ray needs ray") as caught:
        run(tmp_path / "out", {})
    assert "which is not installed" in caught.value.what
    assert caught.value.fix == "pip install 'dsv3data[ray]'"


def test_a_signal_while_ray_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise SystemExit(15)  # as Ray's own handler of SIGTERM does

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        run(tmp_path / "out", {})


def test_a_ray_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise ConnectionError("no cluster there")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(EnvironmentFault, match="Ray does not start: no cluster there") as caught:
        run(tmp_path / "out", {})
    assert "RAY_ADDRESS" in caught.value.fix
