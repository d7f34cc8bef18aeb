"""The stream through torch's DataLoader: reading in worker processes. The room's only torch.

Worker k of W reads the steps k, k + W, k + 2·W … of the stream, whole batches each, and DataLoader
gives them out in that order: the stream is the same for any number of workers. Workers send numpy
arrays through a pipe and the tensors are made here, so that nothing goes through /dev/shm, which
is too small in most containers.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Mapping
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from dsv3data.contracts.errors import Dsv3DataError, EnvironmentFault
from dsv3data.loader.packed_dataset import Batch
from dsv3data.loader.stream import SequenceStream, check_share

TorchBatch = dict[str, Any]
_LOOK_SECONDS = 2.0


class TorchLoader:
    """One rank's endless batches as tensors, read by `workers` processes.

    Args:
        stream: where to begin; it is copied, not moved.
        n: rows of the global batch, a multiple of `world`.
        workers: processes that read ahead; 0 reads in this one.
        prefetch: batches that each worker reads ahead.
        timeout_s: longest wait for a batch.

    A batch is a dict: `input_ids` int32 [n / world, L], `n_tokens` int32, `domain_ids` int32,
    `row_ids` int64, and `piece_lengths`, a list of int32 tensors.
    """

    def __init__(
        self,
        stream: SequenceStream,
        n: int,
        *,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        prefetch: int = 2,
        timeout_s: float = 300.0,
    ) -> None:
        check_share(n, rank, world)
        self._stream = stream.copy()
        self._n, self._rank, self._world = n, rank, world
        self._workers, self._prefetch, self._timeout_s = workers, prefetch, timeout_s

    def __iter__(self) -> Iterator[TorchBatch]:
        """Batches from the present state on. The state moves with each one that is given out.

        Raises:
            IntegrityError: a damaged row, as without workers.
            EnvironmentFault: a worker died or gave nothing for `timeout_s`.
        """
        batches = iter(self._data_loader())
        while True:
            result = self._wait(batches)
            if isinstance(result, Dsv3DataError):
                raise result
            self._stream.skip(self._n)
            yield _tensors(result)

    def state(self) -> dict[str, int | str]:
        """As `SequenceStream.state`, after the last batch that was given out."""
        return self._stream.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """As `SequenceStream.restore`; holds for the next `iter`."""
        self._stream.restore(state)

    def _wait(self, batches: Iterator[Any]) -> Any:
        """The next item. DataLoader notices a dead worker only when its own timeout is over, so
        that one is short, and the wait begins again."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                return next(batches)
            except RuntimeError as error:  # what DataLoader says of a dead or silent worker
                if "timed out" not in str(error) or time.monotonic() > deadline:
                    raise self._worker_fault(error) from error

    def _data_loader(self) -> DataLoader[Any]:
        steps = _Steps(self._stream.copy(), self._n, self._rank, self._world)
        if not self._workers:
            return DataLoader(steps, batch_size=None, collate_fn=_as_it_is)
        return DataLoader(
            steps,
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=self._workers,
            prefetch_factor=self._prefetch,
            timeout=min(_LOOK_SECONDS, self._timeout_s),
            multiprocessing_context=_processes(),
        )

    def _worker_fault(self, error: RuntimeError) -> EnvironmentFault:
        rows = f"rows {self._stream.place:,} to {self._stream.place + self._n - 1:,} of the stream"
        return EnvironmentFault(
            f"a process that reads data failed: {str(error).splitlines()[0]}",
            where=f"{self._stream.dataset.folder}, {rows}",
            effect="no batch was lost or given out twice: the state is that of the last one",
            fix="look for the out-of-memory killer, use fewer workers, continue from the state",
        )


class _Steps(IterableDataset[Batch | Dsv3DataError]):
    """The steps of one worker (of all, without workers)."""

    def __init__(self, stream: SequenceStream, n: int, rank: int, world: int) -> None:
        self._stream, self._n, self._rank, self._world = stream, n, rank, world

    def __iter__(self) -> Iterator[Batch | Dsv3DataError]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        self._stream.skip(number * self._n)
        while True:
            try:
                yield self._stream.next(self._n, rank=self._rank, world=self._world)
            except Dsv3DataError as error:
                # Raised in a worker, it would arrive without its place and its fix.
                yield error
                return
            self._stream.skip((workers - 1) * self._n)


def _processes() -> BaseContext:
    """Workers are forked from a clean server that has torch imported, and nothing else running.

    A fork of this process would copy the threads of Arrow and tokenizers as dead; a spawned worker
    imports torch anew, seconds of processor time each.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _as_it_is(batch: Any) -> Any:
    return batch


def _tensors(batch: Batch) -> TorchBatch:
    """Tensors that share the arrays' memory."""
    arrays: dict[str, np.ndarray[Any, Any]] = {
        name: getattr(batch, name) for name in ("input_ids", "n_tokens", "domain_ids", "row_ids")
    }
    lengths = [torch.from_numpy(part.copy()) for part in batch.piece_lengths]
    return {name: torch.from_numpy(a) for name, a in arrays.items()} | {"piece_lengths": lengths}
