"""Counting documents whose text spells a control token: an attack, or a chat log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


class ControlTextCounter:
    """Counts documents that contain the text of any control token.

    One search for each rare mark in all of them decides for nearly all: every control token of
    DeepSeek-V3 but one holds the fullwidth bar U+FF5C.
    """

    def __init__(self, control_texts: Iterable[str]) -> None:
        self._by_mark: dict[str, list[str]] = {}
        for text in control_texts:
            self._by_mark.setdefault(_rarest_part(text), []).append(text)

    def count(self, documents: Sequence[str]) -> int:
        """How many of the documents hold the text of a control token."""
        together = "".join(documents)
        marked = {mark: texts for mark, texts in self._by_mark.items() if mark in together}
        return sum(_holds_any(document, marked) for document in documents) if marked else 0


def _holds_any(document: str, by_mark: Mapping[str, Sequence[str]]) -> bool:
    return any(
        mark in document and any(text in document for text in texts)
        for mark, texts in by_mark.items()
    )


def _rarest_part(text: str) -> str:
    """Its first character beyond ASCII; all of it if there is none."""
    return next((character for character in text if not character.isascii()), text)
