"""The Python that docs/loader.md shows, in the order in which it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "loader.md"


def test_the_shown_code_runs(
    tiny_packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "packed").symlink_to(tiny_packed)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 6
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert sum(names["counts"].values()) == 10_000
    assert set(names["counts"]) == {"code", "web", "zh"}
    assert names["numbers"].shape == names["places"].shape == (8, 128)
    assert names["step"] == 2
