"""The doctor: what it finds, and what it says where something is wrong."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dsv3data.audit import doctor
from dsv3data.audit.doctor import Finding, as_tree, examine


def found(folder: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(folder)}


def test_this_machine(tmp_path: Path) -> None:
    findings = found(tmp_path)
    assert list(findings) == [
        "dsv3data", "python", "click", "numba", "numpy", "orjson", "pyarrow", "rich",
        "tokenizers", "zstandard", "fastokens", "isal", "torch", "safetensors", "triton", "cores",
        "memory", "disk", "write permission", "gpu",
    ]  # fmt: skip
    assert findings["pyarrow"] == Finding(name="pyarrow", state="ok", value=version("pyarrow"))
    assert findings["cores"].value == str(len(os.sched_getaffinity(0)))
    assert findings["write permission"].state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_yet_to_be_made(tmp_path: Path) -> None:
    findings = found(tmp_path / "not" / "yet")
    assert findings["write permission"].state == "ok"
    assert not (tmp_path / "not").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    finding = found(tmp_path)["write permission"]
    assert finding.state == "problem"
    assert finding.value == f"cannot write at {tmp_path}: Permission denied"
    assert finding.fix
    assert not as_tree([finding])["ok"]


def test_a_file_is_no_folder_to_write_in(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert found(tmp_path / "file")["write permission"].state == "problem"


def test_missing_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise doctor.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", absent)
    findings = found(tmp_path)
    assert findings["numpy"].state == "problem"
    assert findings["numpy"].fix == "pip install dsv3data"
    assert findings["torch"].state == "missing"
    assert findings["torch"].fix == "pip install 'dsv3data[train]'"
    assert findings["dsv3data"].value == "not installed"


def test_little_disk_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 30))
    monkeypatch.setattr(doctor.os, "sysconf", lambda name: 1 << 14)
    findings = found(tmp_path)
    assert (findings["disk"].state, findings["memory"].state) == ("problem", "problem")
    assert findings["disk"].value == f"1.0 GiB free at {tmp_path}"
    assert findings["memory"].value == "0.2 GiB"
    assert findings["disk"].fix
    assert findings["memory"].fix


@pytest.mark.parametrize(
    ("answer", "state", "value"),
    [
        ("A card, 80 GiB, 1.2\nB card, 40 GiB, 1.2\n", "ok", "A card, 80 GiB, 1.2; B card"),
        (subprocess.TimeoutExpired("nvidia-smi", 10), "problem", "nvidia-smi fails: "),
        (None, "missing", "none: training runs on the CPU in fp32"),
    ],
)
def test_gpu(monkeypatch: pytest.MonkeyPatch, answer: Any, state: str, value: str) -> None:
    def run(*arguments: Any, **options: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(stdout=answer)

    tool = "/bin/nvidia-smi" if answer is not None else None
    monkeypatch.setattr(doctor.shutil, "which", lambda name: tool)
    monkeypatch.setattr(doctor.subprocess, "run", run)
    finding = doctor._gpu()
    assert finding.state == state
    assert value in finding.value


def test_the_tree_is_ok_unless_there_is_a_problem() -> None:
    ok = Finding(name="a", state="ok", value="1")
    missing = Finding(name="b", state="missing", value="2", fix="x")
    assert as_tree([ok, missing]) == {
        "ok": True,
        "findings": {
            "a": {"state": "ok", "value": "1", "fix": ""},
            "b": {"state": "missing", "value": "2", "fix": "x"},
        },
    }
