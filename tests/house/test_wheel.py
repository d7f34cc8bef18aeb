"""The wheel in a fresh environment outside the tree: four packages, their data, one command."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"dsv3data", "dsv3data_cli", "dsv3data_pipelines", "dsv3data_tokenizer"}


def checked(*command: str | Path, cwd: Path) -> str:
    """stdout of a command that must succeed, without this process's Python settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=clean, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    checked(
        *pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet",
        "--wheel-dir", folder, ROOT, cwd=folder,
    )  # fmt: skip
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel; dependencies come from this one."""
    home = tmp_path_factory.mktemp("fresh")
    checked(sys.executable, "-m", "venv", "--without-pip", home / "venv", cwd=home)
    python = home / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    checked(*pip, "install", "--no-deps", "--no-index", "--quiet", wheel, cwd=home)
    (site,) = (home / "venv").glob("lib/python*/site-packages")
    # A path in a .pth file is searched; the .pth files in it (our editable install) are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def said(python: Path, code: str) -> str:
    return checked(python, "-c", code, cwd=python.parents[2]).strip()


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops - PACKAGES == {"dsv3data-0.1.0.dist-info"}
    assert tops >= PACKAGES
    assert not [name for name in names if "__pycache__" in name or "test" in name.split("/")[-1]]


def test_every_source_and_data_file_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    roots = [ROOT, ROOT / "cli", ROOT / "pipelines", ROOT / "tokenizer_training"]
    listed = checked("git", "ls-files", "-z", cwd=ROOT).split("\0")
    expected = set()
    for name in listed:
        for root in roots:
            path = ROOT / name
            if path.is_relative_to(root) and path.exists():
                inside = path.relative_to(root).as_posix()
                if inside.split("/")[0] in PACKAGES:
                    expected.add(inside)
    assert expected - names == set()
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert "dsv3data/training/presets/tiny.toml" in names
    texts = [name for name in names if name.startswith("dsv3data_pipelines/demo_documents/texts/")]
    assert len(texts) > 15


def test_the_packages_come_from_the_wheel(python: Path) -> None:
    for package in PACKAGES:
        place = Path(said(python, f"import {package}; print({package}.__file__)"))
        assert place.is_relative_to(python.parents[1])
    assert said(python, "import importlib.metadata as m; print(m.version('dsv3data'))") == "0.1.0"


def test_the_outer_folders_are_no_packages(python: Path) -> None:
    code = (
        "from importlib.util import find_spec\n"
        "print([n for n in ('cli', 'pipelines', 'tests', 'tokenizer_training') if find_spec(n)])"
    )
    assert said(python, code) == "[]"


def test_the_command_starts(python: Path) -> None:
    script = python.with_name("dsv3data")
    cwd = python.parents[2]
    assert checked(script, "--version", cwd=cwd) == "dsv3data, version 0.1.0\n"
    assert "Run the whole path on the text" in checked(script, "demo", "--help", cwd=cwd)


def test_data_files_are_read_from_the_wheel(python: Path) -> None:
    code = (
        "from dsv3data.training.presets import preset_text\n"
        "from importlib.resources import files\n"
        "texts = files('dsv3data_pipelines.demo_documents') / 'texts' / 'multi'\n"
        "print(len(preset_text('tiny')) > 100, len(list(texts.iterdir())) > 10)"
    )
    assert said(python, code) == "True True"


def test_types_are_marked_in_the_environment(python: Path) -> None:
    code = (
        "from importlib.resources import files\n"
        f"print(all((files(name) / 'py.typed').is_file() for name in {sorted(PACKAGES)}))"
    )
    assert said(python, code) == "True"
