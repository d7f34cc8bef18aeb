"""Which files an input names: kinds, compressions, hidden files, links, twins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsv3data.contracts.errors import BadInput
from dsv3data.io.sources import ReadOptions, discover

TEXT_FILES = ReadOptions().text_files


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def found(*inputs: Path) -> dict[str, tuple[str, str]]:
    files, _ = discover(inputs, text_files=TEXT_FILES)
    return {file.name: (file.kind, file.compression) for file in files}


def test_kinds_and_compressions(tmp_path: Path) -> None:
    names = ["a.jsonl", "b.ndjson", "c.jsonl.gz", "d.JSONL.ZST", "e.parquet", "f.arrow", "g.txt"]
    make(tmp_path, *names, "h.txt.gz", "i.txt.zst", "dots.in.name.jsonl")
    assert found(tmp_path) == {
        "a.jsonl": ("jsonl", ""),
        "b.ndjson": ("jsonl", ""),
        "c.jsonl.gz": ("jsonl", "gz"),
        "d.JSONL.ZST": ("jsonl", "zst"),
        "dots.in.name.jsonl": ("jsonl", ""),
        "e.parquet": ("parquet", ""),
        "f.arrow": ("arrow", ""),
        "g.txt": ("text", ""),
        "h.txt.gz": ("text", "gz"),
        "i.txt.zst": ("text", "zst"),
    }


def test_names_are_relative_and_sorted_whatever_the_root(tmp_path: Path) -> None:
    for root in ("one", "two/deep"):
        make(tmp_path / root, "b/x.jsonl", "a.jsonl", "b.jsonl")
    assert list(found(tmp_path / "one")) == ["a.jsonl", "b.jsonl", "b/x.jsonl"]
    assert found(tmp_path / "one") == found(tmp_path / "two" / "deep")


def test_unknown_kinds_are_listed_as_skipped(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl", "b.tsv", "b.csv.zst", "c.parquet.gz", "d.arrow.zst", "README", "e.gz")
    files, skipped = discover([tmp_path], text_files=TEXT_FILES)
    assert [file.name for file in files] == ["a.jsonl", "b.csv.zst"]
    names = ["README", "b.tsv", "c.parquet.gz", "d.arrow.zst", "e.gz"]
    assert skipped == [f"{name} (unknown kind)" for name in names]


def test_further_text_files_by_pattern(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "b.txt", "c.md.gz")
    files, skipped = discover([tmp_path], text_files=["*.md", "*.md.gz"])
    assert [(file.name, file.compression) for file in files] == [("a.md", ""), ("c.md.gz", "gz")]
    assert skipped == ["b.txt (unknown kind)"]


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl", ".b.jsonl", ".git/c.jsonl", "d/.e/f.jsonl")
    files, skipped = discover([tmp_path], text_files=TEXT_FILES)
    assert [file.name for file in files] == ["a.jsonl"]
    assert skipped == []


def test_a_hidden_root_is_no_reason_to_find_nothing(tmp_path: Path) -> None:
    make(tmp_path / ".cache" / "data", "a.jsonl")
    assert list(found(tmp_path / ".cache" / "data")) == ["a.jsonl"]


def test_links_are_followed_only_when_given_themselves(tmp_path: Path) -> None:
    make(tmp_path / "real", "a.jsonl")
    make(tmp_path / "in", "b.jsonl")
    (tmp_path / "in" / "c.jsonl").symlink_to(tmp_path / "real" / "a.jsonl")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "nowhere.jsonl").symlink_to(tmp_path / "absent")
    (tmp_path / "in" / ".hidden.jsonl").symlink_to(tmp_path / "absent")
    files, skipped = discover([tmp_path / "in"], text_files=TEXT_FILES)
    assert [file.name for file in files] == ["b.jsonl"]
    assert skipped == ["c.jsonl (link)", "loop (link)", "nowhere.jsonl (link)"]
    assert list(found(tmp_path / "in" / "c.jsonl")) == ["c.jsonl"]
    assert list(found(tmp_path / "in" / "loop")) == ["b.jsonl"]


def test_a_folder_of_links_is_not_empty_without_a_word(tmp_path: Path) -> None:
    make(tmp_path / "real", "a.jsonl")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").symlink_to(tmp_path / "real" / "a.jsonl")
    with pytest.raises(BadInput, match="no documents found") as caught:
        found(tmp_path / "in")
    assert "1 links in it were not followed" in caught.value.what
    assert caught.value.fix == "give the files and folders that the links lead to"


def test_pipes_are_not_opened(tmp_path: Path) -> None:
    make(tmp_path, "a.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert list(found(tmp_path)) == ["a.jsonl"]
    with pytest.raises(BadInput, match="the input is neither a file nor a folder"):
        found(tmp_path / "pipe.jsonl")


def test_a_file_given_itself_must_be_of_a_known_kind(tmp_path: Path) -> None:
    make(tmp_path, "a.tsv")
    with pytest.raises(BadInput, match="the file is of no kind that documents are read from") as e:
        found(tmp_path / "a.tsv")
    assert "--text-files '*.tsv'" in e.value.fix
    assert "rename it to .jsonl if each line is a JSON object" in e.value.fix


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such input"):
        found(tmp_path / "absent")
    with pytest.raises(BadInput, match="no documents found"):
        found(tmp_path)


def test_two_files_of_one_name_would_share_keys(tmp_path: Path) -> None:
    make(tmp_path, "one/a.jsonl", "two/a.jsonl")
    with pytest.raises(BadInput, match="two input files have the same name") as caught:
        found(tmp_path / "one", tmp_path / "two")
    assert "one/a.jsonl and " in caught.value.where
    assert list(found(tmp_path)) == ["one/a.jsonl", "two/a.jsonl"]


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jsonl")).write_bytes(b"{}")
    with pytest.raises(BadInput, match=r"the file's name is not UTF-8: .*caf\\udce9.jsonl"):
        found(tmp_path)


def test_a_folder_that_may_not_be_read_is_no_reason_to_lose_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.jsonl", "closed/b.jsonl")
    scandir = os.scandir

    def guarded(path: str) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(BadInput, match="a folder of the input cannot be read: Perm") as caught:
        found(tmp_path)
    assert caught.value.where == str(tmp_path / "closed")
