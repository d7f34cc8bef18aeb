"""Counting documents whose text spells a control token: an attack, or a chat log."""

from __future__ import annotations

from collections.abc import Iterable


class ControlTextCounter:
    """Says whether a document contains the text of any control token.

    One search for each rare mark decides for nearly all documents: every control token of
    DeepSeek-V3 but one holds the fullwidth bar U+FF5C.
    """

    def __init__(self, control_texts: Iterable[str]) -> None:
        self._texts = list(control_texts)
        self._marks = sorted({_rarest_part(text) for text in self._texts})

    def found_in(self, document: str) -> bool:
        """Whether the document holds the text of a control token."""
        for mark in self._marks:
            if mark in document:
                return any(text in document for text in self._texts)
        return False


def _rarest_part(text: str) -> str:
    """Its first character beyond ASCII; all of it if there is none."""
    return next((character for character in text if not character.isascii()), text)
