"""Training configurations that come with the package; configs/ links to them."""

from __future__ import annotations

from importlib.resources import files


def preset_text(name: str) -> str:
    """The TOML text of a preset, e.g. `tiny`."""
    return files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
