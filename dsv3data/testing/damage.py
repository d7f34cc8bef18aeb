"""Damage to files, as disks and networks do it, to see whether a reader notices."""

from __future__ import annotations

from pathlib import Path


def flip_bit(path: Path, offset: int, bit: int = 0) -> None:
    """Flip bit 0-7 of the byte at `offset` in place; again, and the file is as it was."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def cut_file(path: Path, size: int) -> None:
    """Cut a file to its first `size` bytes; a negative size counts from the end."""
    with path.open("r+b") as file:
        file.truncate(size if size >= 0 else path.stat().st_size + size)
