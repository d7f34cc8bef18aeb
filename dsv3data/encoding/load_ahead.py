"""The tables of fastokens, loaded in a thread while other things are loaded.

They are what a start waits for longest: a second and a half for 128,000 entries, in which fastokens
leaves the interpreter to others. Nothing but the standard library is imported here, so that a new
process can begin with it.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future
from typing import Any

_begun: dict[str, tuple[threading.Thread, Future[Any]]] = {}


def load_ahead(document_json: str) -> None:
    """Begin; whoever begins calls `fastokens_tables` of the same text later.

    Args:
        document_json: of a `Vocabulary`.
    """
    if document_json in _begun:
        return
    future: Future[Any] = Future()
    thread = threading.Thread(target=_load, args=(document_json, future))
    _begun[document_json] = thread, future
    thread.start()


def fastokens_tables(document_json: str) -> Any:
    """fastokens' Tokenizer. No thread is left.

    Raises:
        ImportError: fastokens is not installed.
    """
    load_ahead(document_json)
    thread, future = _begun.pop(document_json)
    thread.join()
    return future.result()


def _load(document_json: str, future: Future[Any]) -> None:
    os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")  # read at its first text
    try:
        from fastokens import Tokenizer

        future.set_result(Tokenizer.from_json_str(document_json))
    except BaseException as error:  # whatever foreign code raises
        future.set_exception(error)
