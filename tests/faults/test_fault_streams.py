"""Compressed input that is cut, mixed with garbage or a bomb; lines and documents too large."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from dsv3data.audit.verify import verify
from dsv3data.contracts.errors import BadInput
from dsv3data.contracts.progress import NullSink
from read_sets import counts_of, rejections_in, texts_in
from tiny_data import tokenize_tiny
from warm_cli import WarmCli

TEXTS = [f"document {number} " + "x🎈中"[number % 3] * (number % 50) for number in range(400)]
LINES = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in TEXTS)
MIB = 1 << 20

Compress = Callable[[bytes], bytes]
Tokenize = Callable[..., Path]


def _zstd(data: bytes) -> bytes:
    return zstandard.compress(data)


COMPRESS: dict[str, Compress] = {"gz": gzip.compress, "zst": _zstd}


@pytest.fixture
def made(tiny_tokenizer: Path, fast_tmp: Path) -> Tokenize:
    """(bytes, suffix, options) → the verified token set of a file in.jsonl.SUFFIX."""
    number = iter(range(1_000))

    def make(data: bytes, suffix: str, **options: object) -> Path:
        source = fast_tmp / f"in.jsonl.{suffix}"
        source.write_bytes(data)
        out = tokenize_tiny(source, tiny_tokenizer, fast_tmp / f"tokens-{next(number)}", **options)
        verify(out, sink=NullSink())
        return out

    return make


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_cut_file_is_refused_and_its_whole_documents_kept_only_on_request(
    suffix: str, made: Tokenize, rng: random.Random
) -> None:
    whole = COMPRESS[suffix](LINES)
    kept = set()
    for cut in {1, len(whole) - 1, *(rng.randrange(2, len(whole)) for _ in range(14))}:
        with pytest.raises(BadInput, match="the file ends inside a compressed frame") as caught:
            made(whole[:cut], suffix)
        assert f"byte {cut:,} of the compressed file" in caught.value.where
        assert "--keep-prefix" in caught.value.fix
        tokens = made(whole[:cut], suffix, keep_prefix=True)
        texts = texts_in(tokens)
        assert texts == TEXTS[: len(texts)]
        (rejection,) = rejections_in(tokens)
        assert (rejection["reason"], rejection["position"]) == ("damaged-stream", cut)
        kept.add(len(texts))
    assert len(kept) > 1 or suffix == "zst", "no cut left a part of the documents"


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_several_members_or_frames_are_all_read(
    suffix: str, made: Tokenize, rng: random.Random
) -> None:
    cuts = sorted(rng.sample(range(len(LINES)), 9))
    parts = [LINES[a:b] for a, b in zip([0, *cuts], [*cuts, len(LINES)], strict=True)]
    data = b"".join(COMPRESS[suffix](part) for part in [b"", *parts, b""])
    tokens = made(data, suffix)
    assert texts_in(tokens) == TEXTS
    assert counts_of(tokens)["rejected"] == 0
    # Cut between two members, but inside a line: the rest of that line is no document.
    part = made(b"".join(COMPRESS[suffix](part) for part in parts[:3]), suffix)
    whole_lines = b"".join(parts[:3]).count(b"\n")
    assert texts_in(part)[:whole_lines] == TEXTS[:whole_lines]
    assert len(rejections_in(part)) + len(texts_in(part)) - whole_lines in (0, 1)


@pytest.mark.parametrize("suffix", ["gz", "zst"])
@pytest.mark.parametrize("garbage", [b"\0", b"garbage", b"\x1f", b"\n" * 5_000])
def test_garbage_after_the_end_is_refused(suffix: str, garbage: bytes, made: Tokenize) -> None:
    whole = COMPRESS[suffix](LINES)
    with pytest.raises(BadInput, match="compressed file is damaged"):
        made(whole + garbage, suffix)
    tokens = made(whole + garbage, suffix, keep_prefix=True)
    assert texts_in(tokens) == TEXTS
    assert [one["reason"] for one in rejections_in(tokens)] == ["damaged-stream"]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_flipped_bit_in_a_compressed_file_never_yields_other_text(
    suffix: str, made: Tokenize, rng: random.Random
) -> None:
    """gzip has a CRC; Zstandard has one where the writer asked for it, as its command line does."""
    with_checksum = zstandard.ZstdCompressor(write_checksum=True).compress
    whole = (gzip.compress if suffix == "gz" else with_checksum)(LINES)
    refused = 0
    for _ in range(25):
        offset = rng.randrange(len(whole))
        data = bytearray(whole)
        data[offset] ^= 1 << rng.randrange(8)
        try:
            texts = texts_in(made(bytes(data), suffix))
        except BadInput:
            refused += 1
        else:
            assert texts == TEXTS  # a bit of the header that means nothing
    assert refused >= 15


def test_a_file_that_is_not_compressed_at_all_is_refused(made: Tokenize) -> None:
    for suffix in ("gz", "zst"):
        with pytest.raises(BadInput, match="compressed file is damaged"):
            made(LINES, suffix)
        with pytest.raises(BadInput, match="compressed file is damaged"):
            made(COMPRESS["zst" if suffix == "gz" else "gz"](LINES), suffix)


def test_an_empty_compressed_file_holds_nothing(made: Tokenize) -> None:
    for suffix in ("gz", "zst"):
        assert counts_of(made(b"", suffix))["documents"] == 0
        assert counts_of(made(COMPRESS[suffix](b""), suffix))["documents"] == 0


# Over the limit


def _bomb(suffix: str, size_mib: int) -> bytes:
    """One line of `size_mib` MiB between two documents, in a single frame."""
    if suffix == "gz":
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    else:
        packer = zstandard.ZstdCompressor().compressobj()
    parts = [packer.compress(b'{"text": "before"}\n{"text": "')]
    parts += [packer.compress(b"a" * MIB) for _ in range(size_mib)]
    parts += [packer.compress(b'"}\n{"text": "after"}\n'), packer.flush()]
    return b"".join(parts)


@pytest.mark.parametrize(("suffix", "size_mib"), [("gz", 300), ("zst", 1_000)])
def test_a_bomb_is_rejected_in_bounded_memory(
    suffix: str, size_mib: int, tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    source, out = fast_tmp / f"in.jsonl.{suffix}", fast_tmp / "out"
    source.write_bytes(_bomb(suffix, size_mib))
    assert source.stat().st_size < 3 * MIB
    words = ["tokenize", source, "--tokenizer", tiny_tokenizer, "--out", out, "--workers", "1"]
    run = warm.run(*words, "--set", f"read.max_document_bytes={MIB}")
    assert run.code == 6, run.err  # finished, one of three rejected
    assert run.peak_bytes < 300 * MIB
    assert texts_in(out) == ["before", "after"]
    (rejection,) = rejections_in(out)
    assert (rejection["reason"], rejection["line"]) == ("too-large", 2)
    assert rejection["detail"] == f"a line of {size_mib * MIB + 12:,} bytes"


def test_a_line_and_a_text_file_over_the_limit_are_rejected_in_bounded_memory(
    tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    folder, out = fast_tmp / "in", fast_tmp / "out"
    folder.mkdir()
    size = 400 * MIB
    for name in ("big.jsonl", "big.txt"):
        with (folder / name).open("wb") as file:
            file.truncate(size)  # sparse: takes no room
    with (folder / "big.jsonl").open("ab") as file:
        file.write(b'\n{"text": "after"}\n')
    (folder / "small.txt").write_text("small")
    words = ["tokenize", folder, "--tokenizer", tiny_tokenizer, "--out", out, "--workers", "1"]
    run = warm.run(*words, "--set", f"read.max_document_bytes={MIB}", "--max-rejected", "1")
    assert run.code == 0, run.err
    assert run.peak_bytes < 300 * MIB
    assert texts_in(out) == ["after", "small"]
    assert [(one["source"], one["reason"]) for one in rejections_in(out)] == [
        ("big.jsonl", "too-large"),
        ("big.txt", "too-large"),
    ]


@pytest.mark.parametrize("surplus", [-1, 0, 1])
def test_the_limit_is_exact(surplus: int, tiny_tokenizer: Path, fast_tmp: Path) -> None:
    limit = 5_000
    folder = fast_tmp / "in"
    folder.mkdir()
    text = "é" * 100 + "e" * (limit + surplus - 200)
    (folder / "a.jsonl").write_text(json.dumps({"text": text}) + "\n")
    (folder / "b.txt").write_text(text)
    tokens = tokenize_tiny(folder, tiny_tokenizer, fast_tmp / "out", max_document_bytes=limit)
    assert texts_in(tokens) == ([] if surplus > 0 else [text, text])
    assert len(rejections_in(tokens)) == (2 if surplus > 0 else 0)


def test_too_many_rejections_are_said_with_exit_code_6_and_all_else_is_kept(
    tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    source, out = fast_tmp / "in.jsonl", fast_tmp / "out"
    source.write_bytes(b'{"text": "fine"}\n' * 97 + b"bad\n" * 2 + b'{"text": 1}\n')
    words = ["tokenize", source, "--tokenizer", tiny_tokenizer, "--out", out, "--workers", "1"]
    run = warm.run(*words)
    assert run.code == 6
    assert "3 of 100 records were rejected (bad-json 2, text-not-string 1)" in run.err
    assert str(out / "rejected.jsonl") in run.err
    assert texts_in(out) == ["fine"] * 97
    assert warm.run(*words, "--max-rejected", "0.03").code == 0
    assert warm.run("verify", out).code == 0
