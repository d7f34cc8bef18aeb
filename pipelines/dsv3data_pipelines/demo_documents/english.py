"""English prose of an installation: language reference, package texts and docstrings.

Nothing is imported but `pydoc_data.topics`; modules are parsed, never run.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from importlib.metadata import Distribution
from itertools import chain
from pathlib import Path
from pydoc_data.topics import topics

from dsv3data_pipelines.demo_documents.python_source import (
    OWN_PREFIX,
    PythonPlaces,
    package_files,
    stdlib_files,
)
from dsv3data_pipelines.demo_documents.selection import Candidate, in_keyed_order, read_utf8

_PROSE_SUFFIXES = frozenset({".md", ".rst", ".txt"})
_PROSE_STEMS = ("license", "licence", "copying", "notice", "readme", "authors")
_NO_PROSE = frozenset({"CMakeLists.txt", "entry_points.txt", "top_level.txt", "SOURCES.txt"})
# Measured: licences and readmes 0.84 to 0.96, lists of versions and of signatures below 0.70.
_LEAST_LETTER_SHARE = 0.75
# Parsing costs 0.4 s per MB. Modules with little text between triple quotes are not worth it.
_LEAST_QUOTED_SHARE = 0.15


def english_candidates(places: PythonPlaces, *, seed: int) -> Iterator[Candidate]:
    """Written texts first; docstrings fill what they leave free."""
    written = chain(topic_candidates(), *map(_package_texts, places.packages))
    yield from in_keyed_order(written, seed)
    modules = chain(stdlib_files(places), package_files(places))
    yield from in_keyed_order(_docstring_candidates(modules), seed)


def topic_candidates() -> Iterator[Candidate]:
    """The chapters of the language reference that `help()` shows."""
    for name, text in sorted(topics.items()):
        yield Candidate(id=f"topics/{name}", read=partial(str, text))


def _package_texts(root: Path) -> Iterator[Candidate]:
    for folder in sorted(root.glob("*.dist-info")):
        if folder.name.startswith(OWN_PREFIX):
            continue
        distribution = Distribution.at(folder)
        name = folder.name.partition("-")[0]
        yield Candidate(id=f"descriptions/{name}", read=partial(_description, distribution))
        for inside in _prose_files(distribution):
            yield Candidate(id=f"packages/{inside}", read=partial(_read_prose, root / inside))


def _description(distribution: Distribution) -> str | None:
    """The long description: the body that follows the headers of METADATA."""
    try:
        metadata = distribution.read_text("METADATA")
    except UnicodeDecodeError:
        return None
    return None if metadata is None else metadata.partition("\n\n")[2]


def _prose_files(distribution: Distribution) -> list[str]:
    """Texts that the package's RECORD lists, as paths inside the package folder."""
    try:
        paths = distribution.files or []
    except UnicodeDecodeError:
        paths = []
    return sorted(str(path.as_posix()) for path in paths if _is_prose_file(Path(path)))


def _is_prose_file(path: Path) -> bool:
    if path.is_absolute() or ".." in path.parts or path.name in _NO_PROSE:
        return False
    without_suffix = path.suffix == "" and path.name.lower().startswith(_PROSE_STEMS)
    return without_suffix or path.suffix.lower() in _PROSE_SUFFIXES


def _read_prose(path: Path) -> str | None:
    text = read_utf8(path)
    return text if text is not None and letter_share(text) >= _LEAST_LETTER_SHARE else None


def letter_share(text: str) -> float:
    """Letters and white space as a share of all characters, 0 for an empty text."""
    return sum(map(_is_letter_or_space, text)) / len(text) if text else 0.0


def _is_letter_or_space(character: str) -> bool:
    return character.isalpha() or character.isspace()


def _docstring_candidates(modules: Iterable[tuple[str, Path]]) -> Iterator[Candidate]:
    for id_, path in modules:
        yield Candidate(id=f"docstrings/{id_}", read=partial(_read_docstrings, path))


def _read_docstrings(path: Path) -> str | None:
    source = read_utf8(path)
    if source is None or _quoted_share(source) < _LEAST_QUOTED_SHARE:
        return None
    return module_docstrings(source)


def _quoted_share(source: str) -> float:
    quoted = source.split('"""')[1::2]
    return sum(map(len, quoted)) / len(source) if source else 0.0


def module_docstrings(source: str) -> str | None:
    """All docstrings of a module in order, each but the module's under its qualified name.

    None where the source does not parse.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes of other people's code
            module = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # ValueError: NUL characters. MemoryError: how the parser reports too deep nesting.
        return None
    opening = ast.get_docstring(module)
    parts = ([opening] if opening else []) + list(_named_docstrings(module.body, ""))
    return "\n\n".join(parts)


def _named_docstrings(statements: Iterable[ast.stmt], prefix: str) -> Iterator[str]:
    for statement in statements:
        name = prefix
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{prefix}{statement.name}"
            if docstring := ast.get_docstring(statement):
                yield f"{name}\n\n{docstring}"
            name += "."
        yield from _named_docstrings(getattr(statement, "body", []), name)
