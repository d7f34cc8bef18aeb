"""Rules about the text of the source that no other tool checks."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsv3data.contracts.errors import Dsv3DataError

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("dsv3data", "cli", "pipelines", "tokenizer_training")
    for path in (ROOT / folder).rglob("*.py")
)
# `fail` raises IntegrityError in the audit room.
RAISING = {kind.__name__ for kind in Dsv3DataError.__subclasses__()} | {"fail"}
# Characters that no two messages are likely to share.
_TELLING = 18


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name_of(call: ast.Call) -> str:
    return ast.unparse(call.func)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_runs_or_loads_code_from_data(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            assert name_of(node) not in {"eval", "exec", "torch.load", "compile", "__import__"}
        if isinstance(node, ast.Import):
            modules = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules = {(node.module or "").split(".")[0]}
        else:
            continue
        assert not modules & {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}


def test_there_are_sources() -> None:
    assert len(SOURCES) > 80


def test_no_file_names_a_package_index() -> None:
    hosts = re.compile(
        rb"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.(org|com)"
        rb"|--(extra-)?index-url|index_url"
    )
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    for name in listed.decode().split("\0"):
        path = ROOT / name
        if path.is_file() and path != Path(__file__):
            found = hosts.search(path.read_bytes())
            assert found is None, f"{name} names {found[0].decode()}"


def test_sources_fetch_nothing() -> None:
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.search(r"https?://\w", node.value), f"{path}: {node.value!r}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                text = ast.unparse(node)
                assert not re.search(r"\b(requests|urllib3?|http\.client|ftplib)\b", text), path


# Every error is reached by a test that reads its text.


def messages(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, literal parts) of the first argument of each error made in a file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and name_of(node) in RAISING and node.args:
            for message in _alternatives(node.args[0]):
                yield node.lineno, list(_literals(message))


def _alternatives(message: ast.expr) -> list[ast.expr]:
    if isinstance(message, ast.IfExp):
        return [*_alternatives(message.body), *_alternatives(message.orelse)]
    return [message]


def _literals(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FormattedValue):
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.strip():
        yield node.value.strip()
    for child in ast.iter_child_nodes(node):
        yield from _literals(child)


def strings_in_tests() -> set[str]:
    """Literal texts in tests, docstrings left out, patterns without their backslashes."""
    found = set()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if path == Path(__file__):
            continue
        tree = tree_of(path)
        docstrings = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in docstrings
            ):
                found.add(node.value.replace("\\", "").strip())
    return found


def is_read(parts: list[str], strings: set[str]) -> bool:
    """Whether a test holds a telling run of the message's literal text, or all of a short one."""
    long_parts = [part for part in parts if len(part) >= _TELLING]
    pieces = {
        part[start : start + _TELLING]
        for part in long_parts
        for start in range(len(part) - _TELLING + 1)
    } or {max(parts, key=len)}
    return any(piece in text for text in strings for piece in pieces)


def test_every_error_is_read_by_a_test() -> None:
    strings = strings_in_tests()
    unread, seen = [], 0
    for path in SOURCES:
        for line, parts in messages(path):
            if not parts:
                continue  # a helper that is given the message
            seen += 1
            if not is_read(parts, strings):
                unread.append(f"{path.relative_to(ROOT)}:{line}: {' … '.join(parts)}")
    assert seen > 80
    assert unread == []


def test_a_message_that_no_test_holds_is_found() -> None:
    assert not is_read(["a message that stands nowhere else"], strings_in_tests())
    assert is_read(["a message of a kind, not", "x"], {"the a message of a kind"})
