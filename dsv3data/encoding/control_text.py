"""Counting documents whose text spells a control token: an attack, or a chat log."""

from __future__ import annotations

from collections.abc import Iterable


class ControlTextCounter:
    """Says whether a document contains the text of any control token.

    Two substring searches decide for nearly all documents, since every control token of
    DeepSeek-V3 begins with one of two marks.
    """

    def __init__(self, control_texts: Iterable[str]) -> None:
        self._texts = [text.encode("utf-8") for text in control_texts]
        self._marks = sorted({text[:4] if text[1:2] != b"|" else text[:2] for text in self._texts})

    def found_in(self, data: bytes) -> bool:
        """Whether UTF-8 `data` holds the text of a control token."""
        if not any(mark in data for mark in self._marks):
            return False
        return any(text in data for text in self._texts)
