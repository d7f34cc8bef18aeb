"""What a terminal may be given of texts and names that others wrote."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text that cannot drive a terminal: control characters become visible pictures.

    Newline and tab stay. Escape (and with it every ANSI sequence), the C1 range and the
    bidirectional overrides are made visible, so that a hostile document cannot hide or move text.
    """
    return text.translate(_PICTURES)


_PICTURES: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
    **{code: f"‹U+{code:04X}›" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}
