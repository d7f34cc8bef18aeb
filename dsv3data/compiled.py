"""Compiling kernels: a decorator that caches machine code, and a few machine instructions.

The cache of a compiled function lies in the `__pycache__` beside its file, or in the user's cache
folder where that is read-only, or in NUMBA_CACHE_DIR. Where none can be written (a read-only
installation without a home) functions are compiled again in each process, which costs seconds.
A kernel calls only functions of its own file and of this one: the cache of a file is renewed when
that file changes, not when a function or a constant of another one does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile `function` at its first call, without the interpreter lock."""
    kernel: Any
    try:
        kernel = njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder for the cache can be written
        kernel = njit(nogil=True)(function)
    return cast(Function, kernel)


def inlined(function: Function) -> Function:
    """Compile `function` into each of its callers. For a small one in a hot loop: a call passes
    seven words for each array."""
    return cast(Function, njit(inline="always")(function))


def _load_u64(typing_context: Any, data: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(array.data, [arguments[1]])
        word = builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()))
        word.align = 1
        return word

    return types.uint64(data, types.int64), generate


def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


def _signed(typing_context: Any, number: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, arguments[0], signature.args[0], types.int64)

    return types.int64(number), generate


def _prefetch(typing_context: Any, data: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        insert: Any = cgutils.get_or_insert_function
        function = insert(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, number, number, number]),
            "llvm.prefetch.p0i8",
        )
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), byte)
        to_write, to_stay, is_data = (ir.Constant(number, value) for value in (1, 3, 1))
        builder.call(function, [address, to_write, to_stay, is_data])
        return context.get_dummy_value()

    return types.void(data, types.int64), generate


# load_u64(data, position): bytes position..position + 7 of uint8 [N] as one little-endian word.
# Nothing checks the bounds: the caller's array reaches 8 bytes beyond every position.
load_u64 = cast(Callable[[NDArray[np.uint8], int], np.uint64], intrinsic(_load_u64))
# trailing_zeros(word): zero bits below the lowest set bit of a uint64 that is not 0.
trailing_zeros = cast(Callable[[np.uint64], int], intrinsic(_trailing_zeros))
# signed(number): as int64. Mixed with a signed number, an unsigned one would become a float.
signed = cast(Callable[[Any], int], intrinsic(_signed))
# prefetch(data, position): asks for the cache line of the item that lies `position` items behind
# the first one, to be changed soon. Never wrong, at most useless.
prefetch = cast(Callable[[NDArray[Any], int], None], intrinsic(_prefetch))
