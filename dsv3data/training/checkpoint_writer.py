"""Checkpoints that a thread writes while training goes on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from torch import Tensor

from dsv3data.contracts.errors import EnvironmentFault
from dsv3data.contracts.progress import Sink
from dsv3data.training.checkpoint import Contents, Tensors, write_checkpoint
from dsv3data.training.config import CheckpointConfig
from dsv3data.training.host_copy import copy_to_host, host_buffers
from dsv3data.training.stop import StopRequest

_TICK_S = 0.1


class CheckpointWriter:
    """Context manager that writes checkpoints into `folder`, one at a time, and ends with the last.

    Asynchronous: `save` returns when what it was given is copied into CPU memory of its own (pinned
    for a GPU), which no later step can reach; the thread writes from there. The copy is made once
    and used again. It takes 12 bytes a parameter (4 of the weight, 8 of the moments; 8 in all with
    BF16 moments) and 4 more with an average. Synchronous: no thread and no copy, `save` writes.

    The files are the same bytes either way.
    """

    def __init__(
        self, folder: Path, config: CheckpointConfig, *, stop: StopRequest, sink: Sink
    ) -> None:
        self._folder, self._config, self._stop, self._sink = folder, config, stop, sink
        self._copy: Tensors = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[Path] | None = None

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing begun is lost, also when the run ends with an error, which then is not hidden."""
        try:
            self.wait()
        except Exception as problem:  # of any kind: the first error is the one to raise
            if error is None:
                raise
            self._sink.note(f"WARNING {problem}")
        finally:
            self._thread.shutdown()

    def save(self, contents: Contents) -> None:
        """Write a checkpoint, or begin to; waits for the one before.

        Raises:
            EnvironmentFault: this one or the one before cannot be written, or there is no memory
                for the copy; earlier checkpoints are intact.
        """
        self.wait()
        if not self._config.asynchronous:
            path = write_checkpoint(self._folder, contents, keep=self._config.keep)
            self._sink.note(f"saved {path}")
            return
        copied = replace(contents, tensors=self._copied(contents.tensors))
        self._pending = self._thread.submit(
            write_checkpoint, self._folder, copied, keep=self._config.keep
        )

    def check(self) -> None:
        """Say what was written since, without waiting.

        Raises:
            EnvironmentFault: it could not be written; earlier checkpoints are intact.
        """
        if self._pending is not None and self._pending.done():
            ended, self._pending = self._pending, None
            self._sink.note(f"saved {ended.result()}")

    def wait(self) -> None:
        """`check` when nothing is being written any more."""
        told = False
        while self._pending is not None and wait([self._pending], _TICK_S).not_done:
            if not told:
                told = True
                self._sink.note("waiting until the checkpoint is written")
            self._stop.answer(self._sink)
        self.check()

    def _copied(self, tensors: Tensors) -> Tensors:
        if not self._copy:
            self._copy = {file: _buffers(group) for file, group in tensors.items()}
        for file, group in tensors.items():
            copy_to_host(group, self._copy[file])
        return self._copy


def _buffers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    try:
        return host_buffers(tensors)
    except RuntimeError as error:
        size = sum(tensor.nbytes for tensor in tensors.values())
        raise EnvironmentFault(
            f"no memory for a copy of {size:,} bytes that a checkpoint is written from: {error}",
            where="checkpoint.asynchronous",
            effect="training stopped; earlier checkpoints are intact",
            fix="write without a copy, while training waits: --set checkpoint.asynchronous=false",
        ) from error
