"""Names that lead elsewhere: refused, or not followed, before anything is opened."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from dsv3data.audit.verify import verify
from dsv3data.contracts.errors import BadInput, IntegrityError
from dsv3data.contracts.progress import NullSink
from dsv3data.io.manifest_file import read_manifest, write_manifest
from folders import copy_of
from read_sets import texts_in
from tiny_data import pack_tiny, tokenize_tiny
from warm_cli import WarmCli


@pytest.mark.parametrize(
    "name", ["../secret.arrow", "/etc/passwd", "a/../../b.arrow", "..", ".", "", "a\0b", "sub/x"]
)
def test_a_manifest_cannot_name_files_outside_its_folder(
    name: str, tiny_tokens: Path, fast_tmp: Path
) -> None:
    tokens = copy_of(tiny_tokens, fast_tmp / "tokens")
    (fast_tmp / "secret.arrow").write_bytes((tokens / "tokens-00000-000.arrow").read_bytes())
    manifest = read_manifest(tokens)
    foreign = dataclasses.replace(manifest.files[0], name=name)
    write_manifest(tokens, dataclasses.replace(manifest, files=(foreign, *manifest.files[1:])))
    for use in (
        lambda: verify(tokens, sink=NullSink()),
        lambda: pack_tiny(tokens, fast_tmp / "packed"),
    ):
        with pytest.raises(IntegrityError, match="which is no file of its folder"):
            use()


def test_a_shard_that_is_a_link_or_a_pipe_is_no_shard(tiny_tokens: Path, fast_tmp: Path) -> None:
    tokens = copy_of(tiny_tokens, fast_tmp / "tokens")
    shard = tokens / read_manifest(tokens).shards()[0].name
    shard.unlink()
    os.mkfifo(shard)  # opening it would wait for ever
    with pytest.raises(IntegrityError, match="missing"):
        verify(tokens, sink=NullSink())
    shard.unlink()
    shard.symlink_to("nowhere")
    with pytest.raises(IntegrityError, match="missing"):
        verify(tokens, sink=NullSink())


def test_links_pipes_and_hidden_files_of_an_input_folder_are_not_read(
    tiny_tokenizer: Path, fast_tmp: Path
) -> None:
    secret = fast_tmp / "secret.txt"
    secret.write_text("secret")
    folder = fast_tmp / "in"
    (folder / ".hidden").mkdir(parents=True)
    (folder / ".hidden" / "a.txt").write_text("hidden")
    (folder / "link.txt").symlink_to(secret)
    (folder / "links").symlink_to(fast_tmp, target_is_directory=True)
    os.mkfifo(folder / "pipe.txt")
    (folder / "real.txt").write_text("real")
    assert texts_in(tokenize_tiny(folder, tiny_tokenizer, fast_tmp / "out")) == ["real"]


def test_a_pipe_or_a_device_given_as_input_is_refused(
    tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    os.mkfifo(fast_tmp / "pipe.txt")
    for source in (fast_tmp / "pipe.txt", Path("/dev/zero"), fast_tmp / "nothing"):
        words = ["tokenize", source, "--tokenizer", tiny_tokenizer, "--out", fast_tmp / "out"]
        run = warm.run(*words)
        assert run.code == 3
        assert "neither a file nor a folder" in run.err or "no such input" in run.err
        assert not (fast_tmp / "out").exists()


def test_two_inputs_of_one_name_are_refused(tiny_tokenizer: Path, fast_tmp: Path) -> None:
    for name in ("a", "b"):
        (fast_tmp / name).mkdir()
        (fast_tmp / name / "x.txt").write_text(name)
    with pytest.raises(BadInput, match="same name"):
        tokenize_tiny([fast_tmp / "a", fast_tmp / "b"], tiny_tokenizer, fast_tmp / "out")
