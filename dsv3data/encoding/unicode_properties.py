"""Properties of code points, as the regex engine inside Hugging Face `tokenizers` sees them.

`unicode_properties.txt` holds runs of code points of one property. It was read off `tokenizers`
0.23 by `probe` (Unicode 17), because the properties of another library are those of another Unicode
version: Python 3.11's differ in ten thousand code points. `python -m
dsv3data.encoding.unicode_properties` writes the file again.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, pre_tokenizers

N_CODE_POINTS = 0x110000
_SURROGATES = range(0xD800, 0xE000)
_FILE = "unicode_properties.txt"

# What the patterns of the pre-tokenizer ask for. No code point has two of these properties.
PROPERTIES = {"L": r"\p{L}", "M": r"\p{M}", "N": r"\p{N}", "P": r"\p{P}", "S": r"\p{S}", "Z": r"\s"}
NO_PROPERTY = "-"


@cache
def properties() -> NDArray[np.uint8]:
    """The property letter (ASCII) of every code point, uint8 [0x110000]; surrogates have none."""
    lines = resources.files(__package__).joinpath(_FILE).read_text(encoding="ascii").split("\n")
    runs = [line.split() for line in lines if line and not line.startswith("#")]
    starts = np.array([int(start, 16) for start, _ in runs] + [N_CODE_POINTS])
    letters = np.array([ord(letter) for _, letter in runs], dtype=np.uint8)
    table = np.repeat(letters, np.diff(starts))
    table.setflags(write=False)
    return table


def probe() -> NDArray[np.uint8]:
    """What `properties` must be, asked of the installed `tokenizers` (3 s)."""
    code_points = np.array([code for code in range(N_CODE_POINTS) if code not in _SURROGATES])
    text = "".join(map(chr, code_points))
    table = np.full(N_CODE_POINTS, ord(NO_PROPERTY), dtype=np.uint8)
    for letter, pattern in PROPERTIES.items():
        remover = pre_tokenizers.Split(Regex(f"(?:{pattern})+"), behavior="removed")
        matches = np.ones(len(code_points), dtype=bool)
        for _, (start, stop) in remover.pre_tokenize_str(text):
            matches[start:stop] = False
        table[code_points[matches]] = ord(letter)
    return table


def _write(path: Path) -> None:
    table = probe()
    starts = np.flatnonzero(np.diff(table, prepend=0))
    lines = [f"{start:X} {chr(table[start])}" for start in starts]
    header = "# Each run's first code point and its property; see unicode_properties.py."
    path.write_text("\n".join([header, *lines]) + "\n", encoding="ascii")


if __name__ == "__main__":
    _write(Path(__file__).with_name(_FILE))
