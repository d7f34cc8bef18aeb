"""What a reader yields, and the rules that make a record a document or a rejection."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any, Literal, NamedTuple

from dsv3data.contracts.errors import BadConfig
from dsv3data.contracts.keys import document_key, user_id_key

_DOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Reasons of rejection that others ask for.
EMPTY = "empty"
NO_TEXT_FIELD = "no-text-field"


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How records become documents.

    Attributes:
        text_key: field that holds the text.
        id_key: field that holds a unique id; empty: the key comes from (source, position).
        domain_key: field that holds the domain, used when no pattern of `domains` matches.
        domains: `name=glob` patterns on the source name, the first match wins.
        default_domain: domain of documents that nothing else names.
        on_bad_utf8: reject a document that is not valid Unicode, or replace with U+FFFD and count.
        max_document_bytes: larger documents are rejected without being held in memory.
        keep_prefix: keep the complete documents before the damage in a truncated .gz or .zst.
        text_files: file name patterns read as plain text, one document per file.
    """

    text_key: str = "text"
    id_key: str = ""
    domain_key: str = "domain"
    domains: tuple[str, ...] = ()
    default_domain: str = "default"
    on_bad_utf8: Literal["reject", "replace"] = "reject"
    max_document_bytes: int = 64 << 20
    keep_prefix: bool = False
    text_files: tuple[str, ...] = ("*.txt", "*.txt.gz", "*.txt.zst")

    def __post_init__(self) -> None:
        for pattern in self.domains:
            name, separator, glob = pattern.partition("=")
            if not separator or not glob or not _DOMAIN.fullmatch(name):
                raise BadConfig(
                    f"a domain pattern must look like name=glob, not {pattern!r}",
                    where="--domain",
                    effect="nothing was started",
                    fix="for example --domain code='*.py.jsonl'",
                )


class Document(NamedTuple):
    """One document.

    Attributes:
        key: 16 bytes that identify the document for ever.
        position: row number (Parquet, Arrow, CSV), byte offset of the line in the decompressed
            file (JSONL), 0 (plain text).
        text: valid Unicode: it holds no lone surrogate.
        n_bytes: length of the text in UTF-8.
        replaced: True if invalid bytes or surrogates became U+FFFD.
    """

    key: bytes
    source: str
    position: int
    domain: str
    text: str
    n_bytes: int
    replaced: bool = False

    @property
    def data(self) -> bytes:
        """The text in UTF-8, encoded at each call."""
        return self.text.encode("utf-8")


class Rejected(NamedTuple):
    """A record that is not in the output, and why. `line` counts from 1 within its span."""

    source: str
    position: int
    reason: str
    detail: str
    line: int | None = None


class DocumentMaker:
    """Applies the rules to the records of one source."""

    def __init__(self, source: str, options: ReadOptions) -> None:
        self._source = source
        self._options = options
        self._matching = _first_match(options.domains, source)

    def make(
        self, fields: Mapping[str, Any], position: int, n_bytes: int | None = None
    ) -> Document | Rejected:
        """One record of named fields, as a document or a rejection. `n_bytes` is the length of the
        text in UTF-8, where it is known to be valid."""
        source, options = self._source, self._options
        text = fields.get(options.text_key)
        if not isinstance(text, str):
            return self._without_text(fields, position)
        if n_bytes is None:
            n_bytes = utf8_length(text)
        replaced = n_bytes < 0
        if replaced:
            if options.on_bad_utf8 == "reject":
                detail = f"at character {len(_SURROGATE.split(text, 1)[0])}"
                return Rejected(source, position, "lone-surrogate", detail)
            text = _SURROGATE.sub("\ufffd", text)
            n_bytes = utf8_length(text)
        if n_bytes > options.max_document_bytes:
            return Rejected(source, position, "too-large", f"{n_bytes:,} bytes")
        if not text:
            return Rejected(source, position, EMPTY, "the text is empty")
        if options.id_key:
            key = self._user_key(fields.get(options.id_key))
            if key is None:
                detail = f"field {options.id_key!r} must be a string or a whole number"
                return Rejected(source, position, "no-id", detail)
        else:
            key = document_key(source, position)
        domain = self._matching or self._named_domain(fields.get(options.domain_key))
        if not _is_domain(domain):
            detail = f"{domain[:80]!r}: letters, digits, dot, dash, low line, at most 64"
            return Rejected(source, position, "domain-name", detail)
        return Document(key, source, position, domain, text, n_bytes, replaced)

    def _without_text(self, fields: Mapping[str, Any], position: int) -> Rejected:
        name = self._options.text_key
        if name not in fields:
            detail = f"no field {name!r}; fields: {', '.join(map(str, list(fields)[:8]))}"
            return Rejected(self._source, position, NO_TEXT_FIELD, detail)
        detail = f"field {name!r} is {type(fields[name]).__name__}, not a string"
        return Rejected(self._source, position, "text-not-string", detail)

    @staticmethod
    def _user_key(user_id: Any) -> bytes | None:
        if isinstance(user_id, bool) or not isinstance(user_id, str | int) or user_id == "":
            return None
        return user_id_key(str(user_id))

    def _named_domain(self, named: Any) -> str:
        return named if isinstance(named, str) and named else self._options.default_domain


def _first_match(domains: Sequence[str], source: str) -> str:
    for pattern in domains:
        name, _, glob = pattern.partition("=")
        if fnmatch(source, glob):
            return name
    return ""


def utf8_length(text: str) -> int:
    """Bytes of the text in UTF-8; -1 if lone surrogates keep it from having any.

    A valid pair of escaped surrogates is one character already when it arrives here.
    """
    if text.isascii():
        return len(text)
    try:
        return len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return -1


@functools.lru_cache(maxsize=1024)
def _is_domain(name: str) -> bool:
    return _DOMAIN.fullmatch(name) is not None
