"""Counting documents whose text spells a control token: an attack, or a chat log."""

from __future__ import annotations

from collections.abc import Iterable


class ControlTextCounter:
    """Says whether a document contains the text of any control token.

    A search for one character decides for nearly all documents, ten times as fast as one for a
    text: every control token of DeepSeek-V3 but one holds the fullwidth bar U+FF5C.
    """

    def __init__(self, control_texts: Iterable[str]) -> None:
        self._by_mark: dict[str, list[str]] = {}
        for text in control_texts:
            self._by_mark.setdefault(_rarest(text), []).append(text)

    def found_in(self, document: str) -> bool:
        """Whether the document holds the text of a control token."""
        for mark, texts in self._by_mark.items():
            if mark in document and any(text in document for text in texts):
                return True
        return False


def _rarest(text: str) -> str:
    """The character of the text that documents hold least often: one beyond ASCII, or a sign."""
    return min(text, key=lambda character: (character.isascii(), character.isalnum()))
