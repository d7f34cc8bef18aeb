"""The output folder: full disk, other writers, changed configs, odd paths and environments."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsv3data.audit.verify import verify
from dsv3data.contracts.errors import BadConfig, EnvironmentFault
from dsv3data.contracts.manifest import MANIFEST_NAME
from dsv3data.contracts.progress import NullSink
from dsv3data.io.atomic import PARTIAL_SUFFIX
from dsv3data.io.lock import LOCK_NAME, OutputLock
from dsv3data.packing.config import PackConfig
from folders import everything, published, root_of
from held import held_at, is_held, let_go, wait_until
from run_cli import SCRIPT, command_line, run_cli
from tiny_data import PACK_CONFIG, pack_tiny, tokenize_tiny, train_tiny_tokenizer
from warm_cli import WarmCli

UNIT_BYTES = 16 << 10
SMALL_PACK = PackConfig(context=128, fim_rate=0.5, partition_tokens=8_000)


# No space


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB, for those who may mount one."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, *, leave_bytes: int) -> Path:
    """Take all room of a file system but `leave_bytes`."""
    ballast = folder / "ballast"
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    ballast.write_bytes(b"\0" * (free - leave_bytes))
    return ballast


@pytest.mark.parametrize("leave_bytes", [0, 4 << 10, 40 << 10, 160 << 10])
def test_a_full_disk_stops_tokenize_and_it_continues_when_there_is_room(
    leave_bytes: int,
    small_disk: Path,
    small_corpus: Path,
    small_tokens: Path,
    tiny_tokenizer: Path,
    warm: WarmCli,
) -> None:
    out = small_disk / "out"
    words = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--out", out]
    words += ["--unit-bytes", str(UNIT_BYTES), "--workers", "1", "--engine", "huggingface"]
    ballast = fill(small_disk, leave_bytes=leave_bytes)
    full = warm.run(*words)
    _stopped_for_room(full.code, full.err, out, published(small_tokens))
    ballast.unlink()
    assert warm.run(*words).code == 0
    assert published(out) == published(small_tokens)


@pytest.mark.parametrize("leave_bytes", [4 << 10, 60 << 10])
def test_a_full_disk_stops_pack_and_it_continues_when_there_is_room(
    leave_bytes: int, small_disk: Path, small_tokens: Path, tmp_path: Path, warm: WarmCli
) -> None:
    clean = published(pack_tiny(small_tokens, tmp_path / "clean", config=SMALL_PACK))
    out = small_disk / "out"
    words = ["pack", small_tokens, "--out", out, "--workers", "1", "--context", "128"]
    words += ["--fim-rate", "0.5", "--set", "partition_tokens=8000"]
    ballast = fill(small_disk, leave_bytes=leave_bytes)
    full = warm.run(*words)
    _stopped_for_room(full.code, full.err, out, clean)
    ballast.unlink()
    assert warm.run(*words).code == 0
    assert published(out) == clean


@pytest.mark.parametrize("limit_bytes", [3_000, 30_000, 200_000])
def test_a_file_size_limit_stops_the_work_and_it_continues_without(
    limit_bytes: int, small_corpus: Path, small_tokens: Path, tiny_tokenizer: Path, fast_tmp: Path
) -> None:
    out = fast_tmp / "out"
    with _file_size_limit(limit_bytes), pytest.raises(EnvironmentFault) as caught:
        tokenize_tiny(small_corpus, tiny_tokenizer, out, unit_bytes=UNIT_BYTES)
    _stopped_for_room(caught.value.exit_code, str(caught.value), out, published(small_tokens))
    tokenize_tiny(small_corpus, tiny_tokenizer, out, unit_bytes=UNIT_BYTES)
    assert published(out) == published(small_tokens)


def test_a_tokenizer_is_whole_or_not_there_when_there_is_no_room(
    small_corpus: Path, fast_tmp: Path
) -> None:
    clean = published(train_tiny_tokenizer(small_corpus, fast_tmp / "clean", vocab_size=400))
    out = fast_tmp / "out"
    with _file_size_limit(20_000), pytest.raises(EnvironmentFault) as caught:
        train_tiny_tokenizer(small_corpus, out, vocab_size=400)
    _stopped_for_room(caught.value.exit_code, str(caught.value), out, clean)
    assert published(train_tiny_tokenizer(small_corpus, out, vocab_size=400)) == clean


def _stopped_for_room(code: int, text: str, out: Path, clean: dict[str, str]) -> None:
    assert code == 5, text
    assert "no room to write" in text
    assert "bytes free on that disk" in text
    assert "run the same command again" in text
    left = published(out) if out.exists() else {}
    assert left.items() < clean.items()
    assert MANIFEST_NAME not in left
    assert not [*out.rglob(f"*{PARTIAL_SUFFIX}")]


@contextlib.contextmanager
def _file_size_limit(limit_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Another config, another writer


def test_another_config_is_named_and_the_old_output_kept(
    small_tokens: Path, small_corpus: Path, tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    packed = pack_tiny(small_tokens, fast_tmp / "packed", config=PackConfig(context=1024))
    before = everything(packed)
    run = warm.run("pack", small_tokens, "--out", packed, "--context", "2048", "--seed", "7")
    assert run.code == 3
    assert "pack.context: 1024 → 2048; pack.seed: 0 → 7" in run.err
    assert "the old output is kept" in run.err
    assert everything(packed) | {LOCK_NAME: ""} == before | {LOCK_NAME: ""}

    tokens = tokenize_tiny(small_corpus, tiny_tokenizer, fast_tmp / "tokens", unit_bytes=UNIT_BYTES)
    before = everything(tokens)
    with pytest.raises(BadConfig, match=r"tokenize\.read\.on_bad_utf8: reject → replace"):
        tokenize_tiny(
            small_corpus, tiny_tokenizer, tokens, unit_bytes=UNIT_BYTES, on_bad_utf8="replace"
        )
    assert everything(tokens) | {LOCK_NAME: ""} == before | {LOCK_NAME: ""}


def test_an_unfinished_output_of_another_config_is_named_too(
    small_tokens: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    out = fast_tmp / "out"
    words = ["pack", small_tokens, "--out", out, "--workers", "1"]
    env = {"DSV3DATA_FAILPOINT": "unit.after_record"}
    assert warm.run(*words, "--context", "256", env=env).was_killed
    run = warm.run(*words, "--context", "512")
    assert run.code == 3
    assert "pack.context: 256 → 512" in run.err


def test_another_config_of_a_tokenizer_is_named(small_corpus: Path, fast_tmp: Path) -> None:
    out = train_tiny_tokenizer(small_corpus, fast_tmp / "out", vocab_size=400)
    before = everything(out)
    with pytest.raises(BadConfig, match=r"tokenizer\.vocab_size: 400 → 450"):
        train_tiny_tokenizer(small_corpus, out, vocab_size=450)
    assert everything(out) | {LOCK_NAME: ""} == before | {LOCK_NAME: ""}
    again = train_tiny_tokenizer(small_corpus, out, vocab_size=400)
    assert everything(again) | {LOCK_NAME: ""} == before | {LOCK_NAME: ""}


def test_other_input_is_named(tiny_tokenizer: Path, small_corpus: Path, fast_tmp: Path) -> None:
    corpus, out = fast_tmp / "corpus", fast_tmp / "out"
    corpus.mkdir()
    (corpus / "a.jsonl").write_text('{"text": "one"}\n')
    tokenize_tiny(corpus, tiny_tokenizer, out)
    (corpus / "b.jsonl").write_text('{"text": "two"}\n')
    with pytest.raises(BadConfig, match=r"input\.b\.jsonl: \(absent\) → 16 bytes"):
        tokenize_tiny(corpus, tiny_tokenizer, out)


def test_input_that_changed_in_place_is_done_again(tiny_tokenizer: Path, fast_tmp: Path) -> None:
    corpus, out = fast_tmp / "corpus", fast_tmp / "out"
    corpus.mkdir()
    (corpus / "a.jsonl").write_text('{"text": "one"}\n')
    first = root_of(tokenize_tiny(corpus, tiny_tokenizer, out))
    (corpus / "a.jsonl").write_text('{"text": "two"}\n')
    assert root_of(tokenize_tiny(corpus, tiny_tokenizer, out)) != first
    verify(out, sink=NullSink())


def test_fresh_moves_the_old_output_aside(small_tokens: Path, fast_tmp: Path) -> None:
    out = pack_tiny(small_tokens, fast_tmp / "out", config=PackConfig(context=256))
    old = published(out)
    for number in (1, 2):
        pack_tiny(small_tokens, out, config=PackConfig(context=512), fresh=True)
        assert (fast_tmp / f"out.{number}.old").is_dir()
    assert published(fast_tmp / "out.1.old") == old
    assert published(out) == published(fast_tmp / "out.2.old") != old
    verify(fast_tmp / "out.1.old", sink=NullSink())


def test_a_second_process_is_sent_away_and_the_first_undisturbed(
    small_corpus: Path, small_tokens: Path, tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    out = fast_tmp / "out"
    words = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--out", out]
    words += ["--unit-bytes", str(UNIT_BYTES), "--workers", "1"]
    first = warm.start(*words, env=held_at("unit.after_record"))
    wait_until(lambda: is_held(first))
    second = warm.run(*words)
    fresh = warm.run(*words, "--fresh")
    let_go(first)
    for run in (second, fresh):
        assert run.code == 5
        assert f"in use by pid {first} on " in run.err
        assert " since 2" in run.err
    assert warm.wait(first).code == 0
    assert published(out) == published(small_tokens)


def test_train_tokenizer_does_not_move_a_folder_from_under_its_writer(
    small_corpus: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    out = fast_tmp / "out"
    with OutputLock(out):
        run = warm.run("tokenizer", "train", small_corpus, "--out", out, "--fresh")
    assert run.code == 5
    assert "in use by pid" in run.err
    assert not [*fast_tmp.glob("*.old")]


def test_the_lock_of_a_killed_process_is_taken_over(
    small_corpus: Path, tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    out = fast_tmp / "out"
    words = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--out", out]
    first = warm.start(*words, env={"DSV3DATA_FAILPOINT": "output.before_manifest"})
    assert warm.wait(first).was_killed
    assert json.loads((out / LOCK_NAME).read_text())["pid"] == first
    assert warm.run(*words).code == 0


def test_a_lock_file_with_garbage_still_locks(fast_tmp: Path) -> None:
    path = fast_tmp / LOCK_NAME
    path.write_bytes(b"\xff not json")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(EnvironmentFault, match="in use by another process"):
            OutputLock(fast_tmp).__enter__()
    with OutputLock(fast_tmp):
        assert json.loads(path.read_text())["pid"] == os.getpid()


# Paths and permissions


def test_an_output_that_cannot_be_written_stops_before_work(
    small_corpus: Path, tiny_tokenizer: Path, tmp_path: Path, warm: WarmCli
) -> None:
    (tmp_path / "file").write_text("not a folder")
    words = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--out"]
    for out in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/out")):
        run = warm.run(*words, out)
        assert run.code == 5, run.err
        assert "cannot write" in run.err
        assert "Traceback" not in run.err


def test_a_read_only_disk_stops_before_work(
    small_disk: Path, small_corpus: Path, tiny_tokenizer: Path, warm: WarmCli
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    words = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--out", small_disk / "out"]
    run = warm.run(*words)
    assert run.code == 5
    assert "Read-only file system" in run.err
    assert "Traceback" not in run.err


@pytest.mark.parametrize("name", ["with space", "Über 数据 🎈", "x" * 255, "-dash", "quote'\"$(x)"])
def test_odd_folder_names(
    name: str, small_corpus: Path, small_tokens: Path, tiny_tokenizer: Path, fast_tmp: Path
) -> None:
    tokens = fast_tmp / name
    tokenize_tiny(small_corpus, tiny_tokenizer, tokens, unit_bytes=UNIT_BYTES)
    assert root_of(tokens) == root_of(small_tokens)
    packed = pack_tiny(tokens, fast_tmp / "below" / name, config=SMALL_PACK)
    verify(packed, sink=NullSink())


def test_an_input_name_that_is_not_unicode_is_refused(
    tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    corpus = fast_tmp / "corpus"
    corpus.mkdir()
    (corpus / os.fsdecode(b"caf\xe9.jsonl")).write_text('{"text": "one"}\n')
    run = warm.run("tokenize", corpus, "--tokenizer", tiny_tokenizer, "--out", fast_tmp / "out")
    assert run.code == 3, run.err
    assert "not UTF-8" in run.err


# Same bytes whatever the environment


def test_the_environment_reaches_no_byte(
    small_corpus: Path, small_tokens: Path, tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    env = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "77"}
    clean, packed = fast_tmp / "clean", fast_tmp / "packed"
    expected = published(pack_tiny(small_tokens, clean, config=SMALL_PACK))
    tokens = fast_tmp / "tokens"
    words = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--out", tokens]
    words += ["--unit-bytes", str(UNIT_BYTES), "--workers", "1", "--max-rejected", "1"]
    old_mask = os.umask(0o077)
    try:
        # A fresh interpreter: the hash seed is read when it starts.
        assert run_cli(*words, env={**env, "TOKENIZERS_PARALLELISM": "false"}).code == 0
    finally:
        os.umask(old_mask)
    assert published(tokens) == published(small_tokens)
    words = ["pack", tokens, "--out", packed, "--workers", "1", "--context", "128"]
    words += ["--fim-rate", "0.5", "--set", "partition_tokens=8000"]
    assert warm.run(*words, env={**env, "LANG": "tr_TR.UTF-8"}).code == 0
    assert published(packed) == expected


def test_two_workers_and_another_order_of_inputs_give_the_same_bytes(
    tiny_corpus: Path, tiny_tokens: Path, tiny_packed: Path, tiny_tokenizer: Path, fast_tmp: Path
) -> None:
    tokens, packed = fast_tmp / "tokens", fast_tmp / "packed"
    files = sorted(tiny_corpus.iterdir(), reverse=True)
    tokenize_tiny(files, tiny_tokenizer, tokens, workers=2)
    assert published(tokens) == published(tiny_tokens)
    pack_tiny(tokens, packed, workers=2)
    assert published(packed) == published(tiny_packed)
    # Run again: nothing is done, nothing changes.
    stamps = {path.name: path.stat().st_mtime_ns for path in packed.glob("packed-*")}
    pack_tiny(tokens, packed)
    assert {path.name: path.stat().st_mtime_ns for path in packed.glob("packed-*")} == stamps
    assert published(packed) == published(tiny_packed)


def test_a_copied_token_set_packs_to_the_same_bytes(
    tiny_tokens: Path, tiny_packed: Path, fast_tmp: Path
) -> None:
    moved = fast_tmp / "elsewhere"
    moved.mkdir()
    for path in tiny_tokens.iterdir():
        if path.is_file() and path.name != LOCK_NAME:
            (moved / path.name).write_bytes(path.read_bytes())
    out = pack_tiny(moved, fast_tmp / "packed", config=PACK_CONFIG)
    assert published(out) == published(tiny_packed)


# Pipes and terminals


def test_no_terminal_no_cursor_tricks(
    small_corpus: Path, tiny_tokenizer: Path, fast_tmp: Path, warm: WarmCli
) -> None:
    words = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--workers", "1"]
    for options in ([], ["--json"], ["--quiet"]):
        run = warm.run(*words, "--out", fast_tmp / f"out{len(options) and options[0]}", *options)
        assert run.code == 0
        assert not {"\r", "\x1b"} & {*run.out, *run.err}
        if "--json" in options:
            assert json.loads(run.out)["documents"] == 36
        if "--quiet" in options:
            assert run.err == ""


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_reader_that_goes_away_gets_no_traceback(
    options: list[str], tiny_tokenizer: Path
) -> None:
    words = command_line(["verify", tiny_tokenizer, *options])
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=840)
    assert b"Traceback" not in err
    assert b"BrokenPipe" not in err
    assert process.returncode == 0


def test_a_reader_of_progress_that_goes_away_does_not_make_unfinished_work_a_success(
    small_corpus: Path, tiny_tokenizer: Path, fast_tmp: Path
) -> None:
    out = fast_tmp / "out"
    words = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--out", out]
    read_end, write_end = os.pipe()
    os.close(read_end)
    run = subprocess.run(
        command_line([*words, "--workers", "1"]), stdout=write_end, stderr=write_end, check=False
    )
    os.close(write_end)
    assert run.returncode != 0 or (out / MANIFEST_NAME).exists()


def test_in_a_pipeline_with_head(tiny_tokenizer: Path) -> None:
    line = f"'{SCRIPT}' verify '{tiny_tokenizer}' --json | head -1"
    run = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert run.stdout == "{\n"
    assert "Traceback" not in run.stderr


def test_closed_stdin_and_a_narrow_terminal(tiny_tokenizer: Path) -> None:
    main, terminal = pty.openpty()
    env = {**os.environ, "COLUMNS": "20", "NO_COLOR": "1", "TERM": "xterm"}
    process = subprocess.Popen(
        command_line(["verify", tiny_tokenizer]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=env,
    )
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end reads as an error
        while data := os.read(main, 65536):
            shown += data
    out, _ = process.communicate(timeout=840)
    os.close(main)
    assert process.returncode == 0
    assert b"Traceback" not in shown
    assert b"checksums" in shown, "nothing was shown on the terminal"
    assert b"\x1b" not in out


def test_closed_streams_receive_nothing_and_no_file_takes_their_place(
    small_corpus: Path, small_tokens: Path, tiny_tokenizer: Path, fast_tmp: Path
) -> None:
    out = fast_tmp / "out"
    words = ["tokenize", small_corpus, "--tokenizer", tiny_tokenizer, "--out", out]
    words += ["--unit-bytes", str(UNIT_BYTES), "--workers", "1"]
    line = ["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", *command_line(words)]
    assert subprocess.run(line, check=False).returncode == 0
    assert published(out) == published(small_tokens)
