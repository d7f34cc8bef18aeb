"""Counting documents whose text spells a control token: an attack, or a chat log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# ASCII characters that most documents do without.
_RARE_ASCII = "|~^@$"


class ControlTextCounter:
    """Counts documents that contain the text of any control token.

    The search for one rare character of each decides for nearly all: every control token of
    DeepSeek-V3 but one holds the fullwidth bar U+FF5C, which no text in ASCII needs to be searched
    for.
    """

    def __init__(self, control_texts: Iterable[str]) -> None:
        by_mark: dict[str, list[str]] = {}
        for text in control_texts:
            by_mark.setdefault(_rarest_part(text), []).append(text)
        self._by_mark = tuple(by_mark.items())

    def count(self, documents: Sequence[str]) -> int:
        """How many of the documents hold the text of a control token."""
        found = 0
        for document in documents:
            for mark, texts in self._by_mark:
                if mark in document and any(text in document for text in texts):
                    found += 1
                    break
        return found


def _rarest_part(text: str) -> str:
    """Its first character beyond ASCII, or a rare one; all of it if there is none."""
    beyond = (character for character in text if not character.isascii())
    rare = (character for character in text if character in _RARE_ASCII)
    return next(beyond, None) or next(rare, None) or text
