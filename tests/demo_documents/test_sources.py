"""Python sources, docstrings and package texts of an injected installation."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsv3data_pipelines.demo_documents.authored import authored_candidates
from dsv3data_pipelines.demo_documents.english import (
    english_candidates,
    letter_share,
    module_docstrings,
)
from dsv3data_pipelines.demo_documents.python_source import (
    PythonPlaces,
    python_source_candidates,
)
from dsv3data_pipelines.demo_documents.selection import LONGEST_BYTES, SHORTEST_BYTES

_PROSE = "This package folds paper into birds, boats and boxes, and explains how. " * 3


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture
def places(tmp_path: Path) -> PythonPlaces:
    stdlib, packages = tmp_path / "lib", tmp_path / "lib/site-packages"
    _write(
        stdlib,
        {
            "json/decoder.py": '"""Decodes."""\n',
            "os.py": "x = 1\n",
            "test/test_os.py": "broken(\n",
            "json/__pycache__/decoder.py": "",
            "notes.txt": "no source",
        },
    )
    _write(
        packages,
        {
            "origami/__init__.py": f'"""{_PROSE}"""\n',
            "origami/README.md": _PROSE,
            "origami/table.txt": "1 2 3 4 5 6 7 8 9\n" * 20,
            "origami/CMakeLists.txt": _PROSE,
            "origami-1.0.dist-info/METADATA": f"Name: origami\nVersion: 1.0\n\n{_PROSE}birds",
            "origami-1.0.dist-info/RECORD": (
                "origami/README.md,,\norigami/table.txt,,\norigami/CMakeLists.txt,,\n"
                "../../share/doc/README.md,,\norigami-1.0.dist-info/licenses/LICENSE,,\n"
            ),
            "origami-1.0.dist-info/licenses/LICENSE": _PROSE + "All rights kept.",
            "dsv3data_cli/main.py": f'"""{_PROSE}"""\n',
            "dsv3data-0.1.dist-info/METADATA": f"Name: dsv3data\nVersion: 0.1\n\n{_PROSE}",
        },
    )
    latin = packages / "latin-2.0.dist-info"
    latin.mkdir()
    (latin / "METADATA").write_bytes(b"Name: latin\n\n\xff")
    (latin / "RECORD").write_bytes(b"latin/\xff.md,,\n")
    return PythonPlaces(stdlib=stdlib, packages=(packages,))


def test_sources_have_portable_ids_and_leave_out_tests_caches_and_ourselves(
    places: PythonPlaces,
) -> None:
    ids = [candidate.id for candidate in python_source_candidates(places, seed=0)]
    assert sorted(ids[:2]) == ["python/json/decoder.py", "python/os.py"]
    assert ids[2:] == ["packages/origami/__init__.py"]


def test_english_comes_from_readmes_licences_descriptions_and_docstrings(
    places: PythonPlaces,
) -> None:
    texts = {
        candidate.id: candidate.read()
        for candidate in english_candidates(places, seed=0)
        if not candidate.id.startswith("topics/")
    }
    assert {id_ for id_, text in texts.items() if text is not None} == {
        "descriptions/origami",
        "packages/origami/README.md",
        "packages/origami-1.0.dist-info/licenses/LICENSE",
        "docstrings/packages/origami/__init__.py",
        "docstrings/python/json/decoder.py",
    }
    assert {id_ for id_, text in texts.items() if text is None} == {
        "descriptions/latin",
        "packages/origami/table.txt",
        "docstrings/python/os.py",
    }
    assert texts["descriptions/origami"] == f"{_PROSE}birds"


def test_this_interpreter_has_the_language_reference_and_a_standard_library() -> None:
    places = PythonPlaces.of_this_interpreter()
    first = next(english_candidates(places, seed=0))
    ids = {candidate.id for candidate in python_source_candidates(places, seed=0)}
    assert first.read()
    assert "python/json/decoder.py" in ids
    assert not any(id_.startswith("/") or ".." in id_ for id_ in ids)


def test_docstrings_stand_in_order_under_their_qualified_names() -> None:
    source = '''"""Module."""
class A:
    """About A."""
    async def f(self):
        """
        Indented.
        """
def undocumented():
    def inner():
        "Inner."
if True:
    def conditional():
        "Conditional."
'''
    assert module_docstrings(source) == (
        "Module.\n\nA\n\nAbout A.\n\nA.f\n\nIndented.\n\n"
        "undocumented.inner\n\nInner.\n\nconditional\n\nConditional."
    )


@pytest.mark.parametrize("source", ["def broken(:", "x = '\0'", "(" * 5000 + ")" * 5000])
def test_source_that_does_not_parse_has_no_docstrings(source: str) -> None:
    assert module_docstrings(source) is None


@pytest.mark.filterwarnings("error")
def test_invalid_escapes_of_others_warn_nobody() -> None:
    assert module_docstrings('"""Doc."""\npattern = "\\d"') == "Doc."


def test_letter_share() -> None:
    assert letter_share("") == 0.0
    assert letter_share("ab 1") == 0.75


def test_authored_texts_are_many_languages_within_the_limits() -> None:
    texts = {candidate.id: candidate.read() or "" for candidate in authored_candidates("multi")}
    languages = {id_.split("/")[1] for id_ in texts}
    assert languages >= {"zh", "ja", "ru", "ar", "de", "fr", "es", "pt", "hi", "ko", "tr", "el"}
    assert 50_000 <= sum(len(text.encode()) for text in texts.values()) <= 90_000
    assert all(SHORTEST_BYTES <= len(text.encode()) <= LONGEST_BYTES for text in texts.values())
    assert not any("%%" in text for text in texts.values())
    assert len(set(texts.values())) == len(texts)


def test_authored_mathematics_is_present() -> None:
    texts = [candidate.read() or "" for candidate in authored_candidates("math")]
    assert sum(len(text.encode()) for text in texts) >= 15_000
