"""Input behind URLs: the same documents, keys and hashes as the same folder on a disk; every way
in which a store can fail, in words."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import dsv3data.io.sources.remote_place as remote_place
from dsv3data.contracts.errors import BadInput, EnvironmentFault
from dsv3data.io.sources import ReadOptions, Unit, discover, input_sha256, plan_units, read_unit
from dsv3data.io.sources.place import is_url, walk
from dsv3data.io.sources.raw import InputLog
from folders import published
from local_s3 import LocalS3, cutting_line, endpoint, local_s3, use
from run_cli import run_cli
from tiny_data import tokenize_tiny

OPTIONS = ReadOptions()


@pytest.fixture(scope="module")
def server() -> Iterator[LocalS3]:
    with local_s3() as started:
        yield started


@pytest.fixture(scope="module")
def corpus(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every kind of source, in folders; hidden files among them."""
    folder = tmp_path_factory.mktemp("remote") / "corpus"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    web = (tiny_corpus / "web.jsonl").read_bytes()
    (folder / "web.jsonl").write_bytes(web)
    (folder / "deep" / "b.jsonl.gz").write_bytes(gzip.compress(web[: web.find(b"\n", 9000) + 1]))
    (folder / "deep" / "er" / "c.jsonl.zst").write_bytes(
        zstandard.ZstdCompressor().compress(b'{"text": "one"}\nbad\n{"text": "two"}\n')
    )
    rows = pa.table({"text": [f"row {row} é" for row in range(300)], "n": range(300)})
    pq.write_table(rows, folder / "deep" / "d.parquet", row_group_size=40)
    with pa.ipc.new_stream(str(folder / "e.arrow"), rows.schema) as writer:
        writer.write_table(rows)
    (folder / "f.txt").write_text("a text\n")
    (folder / "g.csv").write_text('text,n\n"a ""quoted""\ntext",1\n')
    (folder / ".hidden" / "h.jsonl").write_bytes(b"{}")
    (folder / ".i.jsonl").write_bytes(b"{}")
    return folder


@pytest.fixture(scope="module")
def uploaded(server: LocalS3, corpus: Path) -> str:
    return server.upload(corpus, "bucket", "some/corpus")


@pytest.fixture(autouse=True)
def reached(server: LocalS3, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, server.env)
    monkeypatch.setattr(remote_place, "_RETRY_SECONDS", (0.01, 0.01))


def units_of(root: Path | str, unit_bytes: int = 20_000) -> list[Unit]:
    files, _ = discover([root], text_files=OPTIONS.text_files)
    return plan_units(files, unit_bytes=unit_bytes)


def test_what_is_a_url() -> None:
    assert all(map(is_url, ("s3://b/k", "gs://b", "https://x/y.jsonl", "S3A://b", "memory://x")))
    assert not any(map(is_url, ("/s3://b", "./s3://b", "s3:/b", "a b://c", "C:\\x", "x.jsonl", "")))


@pytest.mark.parametrize("unit_bytes", [3_000, 20_000, 1 << 30])
def test_units_documents_and_hashes_equal_those_of_the_folder(
    corpus: Path, uploaded: str, unit_bytes: int
) -> None:
    here, there = units_of(corpus, unit_bytes), units_of(uploaded, unit_bytes)
    assert [[(s.file.name, s.start, s.stop, s.size) for s in unit.spans] for unit in here] == [
        [(s.file.name, s.start, s.stop, s.size) for s in unit.spans] for unit in there
    ]
    for mine, theirs in zip(here, there, strict=True):
        near, far = InputLog(), InputLog()
        assert list(read_unit(mine, OPTIONS, near)) == list(read_unit(theirs, OPTIONS, far))
        assert near.sha256 == far.sha256 == input_sha256(theirs)
        assert near.lines == far.lines


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_tables_come_once(
    name: str, server: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashed and read from one download."""
    texts = [random.Random(row).randbytes(150).hex() for row in range(400)]
    rows = pa.table({"text": texts, "other": [text[::-1] for text in texts]})
    (tmp_path / "in").mkdir()
    if name == "a.parquet":
        plain = {"compression": "none", "write_statistics": False}
        pq.write_table(rows, tmp_path / "in" / name, row_group_size=100, **plain)
    else:
        with pa.ipc.new_file(tmp_path / "in" / name, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=100)
    size = (tmp_path / "in" / name).stat().st_size
    units = units_of(server.upload(tmp_path / "in", "once", name), unit_bytes=50_000)
    assert len(units) == (4 if name == "a.parquet" else 1)
    came = 0
    read = remote_place.RemotePlace.read

    def counted(place: remote_place.RemotePlace, start: int, stop: int) -> bytes:
        nonlocal came
        came += stop - start
        return read(place, start, stop)

    monkeypatch.setattr(remote_place.RemotePlace, "read", counted)
    near = units_of(tmp_path / "in", unit_bytes=50_000)
    for unit, local in zip(units, near, strict=True):
        log = InputLog()
        assert list(read_unit(unit, OPTIONS, log)) == list(read_unit(local, OPTIONS))
        assert log.sha256 == input_sha256(local)
    assert size <= came < 1.1 * size  # footers are read by each unit


def test_no_room_for_a_copy_of_a_table(
    uploaded: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (unit,) = units_of(f"{uploaded}/e.arrow")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(EnvironmentFault, match="cannot write: No such file") as caught:
        list(read_unit(unit, OPTIONS, InputLog()))
    assert str(tmp_path / "absent") in caught.value.where


def test_one_object_and_a_prefix_with_a_slash(corpus: Path, uploaded: str) -> None:
    ((name, place),) = walk(f"{uploaded}/web.jsonl")
    assert (name, place.size) == ("web.jsonl", (corpus / "web.jsonl").stat().st_size)
    assert str(place) == f"{uploaded}/web.jsonl"
    assert [name for name, _ in walk(f"{uploaded}/")] == [name for name, _ in walk(uploaded)]
    assert "g.csv" in [name for name, _ in walk(uploaded)]


@pytest.mark.parametrize("requested", [1, 7, 1000, 1 << 20])
@pytest.mark.parametrize("stop", [None, 0, 2_500, 10**9])
def test_chunks_are_the_bytes_whatever_the_requests(
    corpus: Path, uploaded: str, requested: int, stop: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_place, "_REQUEST_BYTES", max(requested, 500))
    data = (corpus / "web.jsonl").read_bytes()[:6_000]
    ((_, place),) = walk(f"{uploaded}/web.jsonl")
    start = requested % 2_000
    read = b""
    for chunk in place.chunks(start, stop=stop):
        read += chunk
        if len(read) >= 4_000:
            break
    assert read[:4_000] == data[start : start + 4_000]


def test_the_root_is_that_of_the_folder_with_one_worker_and_two(
    corpus: Path, uploaded: str, server: LocalS3, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    here = tokenize_tiny(corpus, tiny_tokenizer, tmp_path / "here", unit_bytes=20_000)
    there = tmp_path / "there"
    words = ["tokenize", uploaded, "--tokenizer", tiny_tokenizer, "--out", there, "--json"]
    run = run_cli(*words, "--unit-bytes", "20000", "--workers", "2", env=server.env)
    assert run.code == 0, run.err
    assert published(there) == published(here)
    again = run_cli(*words, "--unit-bytes", "20000", "--workers", "1", env=server.env)
    assert again.json["root"] == run.json["root"]


def test_local_input_loads_no_fsspec(tiny_corpus: Path) -> None:
    code = (
        "import sys, pathlib; from dsv3data.io.sources import *;"
        f"files, _ = discover([pathlib.Path({str(tiny_corpus)!r})], text_files=());"
        "[list(read_unit(unit, ReadOptions())) for unit in plan_units(files, unit_bytes=10000)];"
        "print('fsspec' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


# What can go wrong


@pytest.mark.parametrize(
    "url", ["s3://bucket/none", "s3://none/x", "s3://bucket/some/corpus/x.txt"]
)
def test_what_is_not_there(url: str) -> None:
    with pytest.raises(BadInput, match="there is no such object") as caught:
        units_of(url)
    assert (caught.value.where, caught.value.exit_code) == (url, 3)


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch, uploaded: str) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    none = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null"}
    use(monkeypatch, {**none, "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"})
    with pytest.raises(EnvironmentFault, match="the store refuses access") as caught:
        units_of(uploaded)
    assert caught.value.exit_code == 5
    assert "AWS_ACCESS_KEY_ID" in caught.value.fix


def test_access_that_is_denied(monkeypatch: pytest.MonkeyPatch, uploaded: str) -> None:
    unit = units_of(uploaded)[0]
    break_reading(monkeypatch, [PermissionError("Access Denied")])
    with pytest.raises(EnvironmentFault, match="the store refuses access: Access Denied"):
        list(read_unit(unit, OPTIONS))


def test_an_unknown_kind_of_url_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="no such kind of URL: Protocol not known: nosuch"):
        units_of("nosuch://x/y")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(EnvironmentFault, match="needs a package that is not installed") as caught:
        units_of("s3://bucket/x")
    assert "pip install 'dsv3data[s3]'" in caught.value.fix


def test_a_server_that_does_not_tell_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_place, "_facts", lambda *a, **k: {"type": "file", "size": None})
    with pytest.raises(BadInput, match="does not say how large the file is"):
        units_of("https://example.invalid/x.jsonl")


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, uploaded: str) -> None:
    units = units_of(uploaded)
    break_reading(monkeypatch, [ConnectionError("refused")] * 9)
    with pytest.raises(EnvironmentFault, match="does not answer as it should: Conn") as caught:
        list(read_unit(units[0], OPTIONS))
    assert "given up after 3 attempts" in caught.value.effect


def test_short_answers_are_asked_for_again(monkeypatch: pytest.MonkeyPatch, uploaded: str) -> None:
    unit = units_of(uploaded)[0]
    expected = list(read_unit(unit, OPTIONS))
    faults = break_reading(monkeypatch, [b"", ConnectionResetError("reset")])
    assert list(read_unit(unit, OPTIONS)) == expected
    assert faults == []


@pytest.mark.parametrize("times", [1, 2])
def test_a_cut_connection_is_made_again(
    server: LocalS3, uploaded: str, corpus: Path, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cutting_line(server.port, after_bytes=9_000, times=times) as port:
        use(monkeypatch, endpoint(port))
        ((_, place),) = walk(f"{uploaded}/web.jsonl")
        assert b"".join(place.chunks()) == (corpus / "web.jsonl").read_bytes()


def test_an_object_that_changes_while_it_is_read_is_refused(
    server: LocalS3, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    lines = [json.dumps({"text": f"text {number}"}) + "\n" for number in range(3_000)]
    (tmp_path / "in" / "a.jsonl").write_text("".join(lines))
    url = server.upload(tmp_path / "in", "changing", "in")
    units = units_of(url)
    reading = read_unit(units[0], OPTIONS)
    next(reading)
    server.client.put_object(
        Bucket="changing", Key="in/a.jsonl", Body="".join(lines).encode()[::-1]
    )
    with pytest.raises(BadInput, match="the input file was changed while it was read") as caught:
        list(reading)
    assert caught.value.where == f"{url}/a.jsonl"
    server.client.put_object(Bucket="changing", Key="in/a.jsonl", Body=b"short")
    with pytest.raises(BadInput, match="the input file was changed while it was read"):
        list(read_unit(units[-1], OPTIONS))


def break_reading(monkeypatch: pytest.MonkeyPatch, faults: list[Any]) -> list[Any]:
    """The next answers to range requests: errors, or too few bytes."""
    filesystem, _ = remote_place._filesystem("s3://bucket/x")
    whole = filesystem.cat_file

    def cat_file(path: str, start: int | None = None, end: int | None = None) -> Any:
        if not faults:
            return whole(path, start=start, end=end)
        fault = faults.pop(0)
        if isinstance(fault, Exception):
            raise fault
        return fault

    monkeypatch.setattr(filesystem, "cat_file", cat_file)
    return faults
