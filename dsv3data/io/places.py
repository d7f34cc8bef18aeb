"""Where output may go."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dsv3data.contracts.errors import BadConfig


def refuse_output_inside(inputs: Iterable[Path], out: Path) -> None:
    """Raise BadConfig if `out` is an input folder or lies in one.

    The next run would read its own output as input.
    """
    target = out.resolve()
    for folder in inputs:
        if folder.is_dir() and target.is_relative_to(folder.resolve()):
            raise BadConfig(
                "the output folder is, or lies in, an input folder",
                where=f"{out} in {folder}",
                effect="nothing was started: the next run would read its own output",
                fix="give an --out outside of the input",
            )
