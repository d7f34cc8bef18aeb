"""Many runs of the command line as real processes, without paying for imports each time.

`WarmCli` starts one interpreter that has everything imported and forks a child for each run: a
process of its own, with its own pid, environment and output files, which can be killed like any
other. Nothing is encoded in the server itself, so there are no threads to lose in the fork.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

_LAZY_IMPORTS = (
    "dsv3data.audit.verify",
    "dsv3data_cli.main",
    "dsv3data_pipelines.pack",
    "dsv3data_pipelines.tokenize",
    "dsv3data_tokenizer.train",
)

_STREAMS = ".out", ".err"


@dataclass(frozen=True)
class Finished:
    """Exit code of a child (negative: killed by that signal), its streams and peak memory."""

    code: int
    out: str
    err: str
    peak_bytes: int

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL


class WarmCli:
    """Client side: `start` gives a pid to kill, `wait` its end, `run` does both."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs = 0
        self._logs: dict[int, Path] = {}
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def start(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> int:
        """Begin `dsv3data arguments…`; the pid."""
        self._runs += 1
        log = self._folder / f"run-{self._runs}"
        for end in _STREAMS:  # a child that is killed at once has not opened them
            log.with_suffix(end).touch()
        words = [str(word) for word in arguments]
        answer = self._ask(do="start", arguments=words, env=dict(env or {}), log=str(log))
        pid: int = answer["pid"]
        self._logs[pid] = log
        return pid

    def told(self, pid: int) -> str:
        """What a run that has not ended has written to stderr so far."""
        return self._logs[pid].with_suffix(".err").read_text()

    def wait(self, pid: int) -> Finished:
        """The end of a run that `start` began."""
        answer = self._ask(do="wait", pid=pid)
        log = self._logs.pop(pid)
        out, err = (log.with_suffix(end).read_bytes().decode() for end in _STREAMS)
        return Finished(answer["code"], out, err, answer["peak_bytes"])

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Finished:
        """`dsv3data arguments…` from start to end."""
        return self.wait(self.start(*arguments, env=env))

    def close(self) -> None:
        """End the server."""
        self._server.communicate(timeout=600)

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


@contextlib.contextmanager
def warm_cli(folder: Path) -> Iterator[WarmCli]:
    """A server for as long as the block lasts; logs go to `folder`."""
    cli = WarmCli(folder)
    try:
        yield cli
    finally:
        cli.close()


def _serve() -> None:
    for module in _LAZY_IMPORTS:
        importlib.import_module(module)
    pa.array([0])  # imports pandas where it is installed
    _load_kernels()
    _reply({})
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "start":
            pid = os.fork()
            if pid == 0:
                _child(request["arguments"], request["env"], request["log"])
            _reply({"pid": pid})
        else:
            _, status, usage = os.wait4(request["pid"], 0)
            code = os.waitstatus_to_exitcode(status)
            _reply({"code": code, "peak_bytes": usage.ru_maxrss * 1024})


def _load_kernels() -> None:
    """Compiled functions that children then have."""
    from dsv3data_tokenizer.merges import train_merges
    from dsv3data_tokenizer.word_counts import count_words, counts_of

    words = count_words([b"some words, and some of these words again"])
    train_merges(words["word"], counts_of(words["count"]), vocab_size=270)


def _child(arguments: Sequence[str], env: Mapping[str, str], log: str) -> None:
    from dsv3data_cli.main import run

    code = 1
    try:
        os.environ.update(env)
        _point(0, os.devnull, os.O_RDONLY)
        _point(1, log + ".out", os.O_WRONLY | os.O_CREAT)
        _point(2, log + ".err", os.O_WRONLY | os.O_CREAT)
        sys.argv = ["dsv3data", *arguments]
        code = run(list(arguments))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _point(descriptor: int, path: str, flags: int) -> None:
    opened = os.open(path, flags, 0o644)
    os.dup2(opened, descriptor)
    os.close(opened)


def _reply(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve()
