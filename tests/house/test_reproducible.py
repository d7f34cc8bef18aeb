"""No clock, host or absolute path in anything that a hash covers."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest

from dsv3data.io.manifest_file import read_manifest

ROOT = Path(__file__).parents[2]


def forbidden(folder: Path) -> dict[str, bytes]:
    """Texts that would betray where and when; short names would be found by chance."""
    texts = {
        "folder": str(folder.parent),
        "working directory": str(Path.cwd()),
        "source tree": str(ROOT),
        "home": str(Path.home()) + os.sep,
        "host": socket.gethostname(),
        "date": time.strftime("%Y-%m-%d"),
        "UTC date": time.strftime("%Y-%m-%d", time.gmtime()),
        "worker count": '"workers"',
    }
    return {name: text.encode() for name, text in texts.items() if len(text) > 5}


@pytest.mark.parametrize("kind", ["tokenizer", "tokens", "packed"])
def test_published_bytes_betray_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{kind}")
    manifest = read_manifest(folder)
    words = forbidden(folder)
    assert {"folder", "date"} <= set(words)
    for name in ["manifest.json", *(record.name for record in manifest.files)]:
        data = (folder / name).read_bytes()
        for what, word in words.items():
            assert word not in data, f"{name} holds the {what}"


@pytest.mark.parametrize("kind", ["tokens", "packed"])
def test_what_betrays_stands_in_run_json_which_no_hash_covers(
    kind: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(f"tiny_{kind}")
    facts = json.loads((folder / "run.json").read_bytes())
    assert facts["host"] == socket.gethostname()
    assert facts["finished"].startswith(time.strftime("%Y-"))
    assert "run.json" not in [record.name for record in read_manifest(folder).files]
