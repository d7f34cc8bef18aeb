"""Lines of JSON taken apart in one pass: where each ends, and its text.

The kernel finds the string behind the text key of each line and decodes it into a buffer. What is
left of the line, with "" in the place of that string, is short, and for a real parser: only if that
is JSON was this one here.

It takes no line that it is not sure of, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from dsv3data.compiled import compiled, trailing_zeros

Bytes = NDArray[np.uint8]

# Bytes that are looked at together: the source reaches so far beyond its end, and so does the
# buffer for texts.
WIDTH = 32
# What the kernel says of a line, by column: where it starts and stops, where the literal of its
# text does (with its quotes; -1: there is none, or it is unsure), and the text in the buffer.
START, STOP, LITERAL_START, LITERAL_STOP, TEXT_START, TEXT_STOP = range(6)
N_COLUMNS = 6

_QUOTE, _BACKSLASH, _SPACES_END, _LINE_END = 0x22, 0x5C, 0x20, 0x0A
_COLON, _COMMA, _U = 0x3A, 0x2C, 0x75
_OPEN, _CLOSE = (0x7B, 0x5B), (0x7D, 0x5D)
# What an escaped byte stands for; 0: it may not be escaped, or is the u of \uXXXX.
_ESCAPED = np.zeros(256, dtype=np.uint8)
_ESCAPED[[*b'"\\/bfnrt']] = [*b'"\\/\b\f\n\r\t']
# The value of a hexadecimal digit; -1: it is none.
_HEX = np.full(256, -1, dtype=np.int64)
_HEX[[*b"0123456789abcdefABCDEF"]] = [*range(16), *range(10, 16)]


def _vector(builder: Any, context: Any, signature: Any, arguments: Any, which: int) -> Any:
    """The WIDTH bytes of an argument that begin at the argument behind it, as an address."""
    array = context.make_array(signature.args[which])(context, builder, arguments[which])
    address = builder.gep(array.data, [arguments[which + 1]])
    return builder.bitcast(address, ir.VectorType(ir.IntType(8), WIDTH).as_pointer())


def _find_marks(builder: Any, data: Any) -> Any:
    def those(relation: str, byte: int) -> Any:
        return builder.icmp_unsigned(relation, data, ir.Constant(data.type, [byte] * WIDTH))

    found = builder.or_(those("==", _QUOTE), those("==", _BACKSLASH))
    found = builder.or_(found, those("<", _SPACES_END))
    return builder.zext(builder.bitcast(found, ir.IntType(WIDTH)), ir.IntType(64))


def _generate_marks(typing_context: Any, source: Any, place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = builder.load(_vector(builder, context, signature, arguments, 0), align=1)
        return _find_marks(builder, data)

    return types.uint64(source, types.int64), generate


def _generate_copy_marks(typing_context: Any, source: Any, place: Any, target: Any, at: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = builder.load(_vector(builder, context, signature, arguments, 0), align=1)
        builder.store(data, _vector(builder, context, signature, arguments, 2), align=1)
        return _find_marks(builder, data)

    return types.uint64(source, types.int64, target, types.int64), generate


# marks(source, place): which of the WIDTH bytes at `place` can end a plain run of characters in a
# JSON string: a quote, a backslash, or what must be escaped; bit k stands for byte k.
_marks = cast(Callable[[Bytes, int], np.uint64], intrinsic(_generate_marks))
# copy_marks(source, place, target, at): the same, and the bytes are copied.
_copy_marks = cast(Callable[[Bytes, int, Bytes, int], np.uint64], intrinsic(_generate_copy_marks))


def load() -> None:
    """Compile, or take from the cache, what is called below."""
    nothing = np.zeros(2 * WIDTH, dtype=np.uint8)
    source = np.frombuffer(bytes(WIDTH), dtype=np.uint8)
    take_lines_apart(source, 0, 0, source, nothing, np.empty((1, N_COLUMNS), dtype=np.int64))


@compiled
def take_lines_apart(
    source: Bytes, start: int, stop: int, name: Bytes, texts: Bytes, table: NDArray[np.int64]
) -> tuple[int, int]:
    """Lines from `start` on, as rows of `table`, while that has room.

    Args:
        source: uint8 [stop + WIDTH or more].
        start: where a line begins.
        stop: behind the last byte of a line; its `\\n` may be missing.
        name: the text key, of characters that JSON spells as they are.
        texts: uint8 [stop - start + 2 WIDTH or more]: the texts in UTF-8, as far as the source is.
        table: int64 [rows, N_COLUMNS].

    Returns:
        the number of rows, and where the line behind the last one begins.
    """
    row, end = 0, 0
    while start < stop and row < len(table):
        line = table[row]
        line[START], line[LITERAL_START] = start, -1
        line[TEXT_START] = line[TEXT_STOP] = end
        line[STOP] = _take_line_apart(source, start, stop, name, texts, line)
        if line[LITERAL_START] >= 0:
            end = line[TEXT_STOP]
        start = line[STOP] + 1
        row += 1
    return row, min(start, stop)


@compiled
def _take_line_apart(
    source: Bytes, place: int, stop: int, name: Bytes, texts: Bytes, line: NDArray[np.int64]
) -> int:
    """Fill in the literal and the text; give where the line ends.

    Nothing but strings and the depth of brackets is understood here. That is enough to tell keys of
    the outermost object from all else, if what is left of the line is JSON.
    """
    depth, is_key = 0, False
    while place < stop:
        byte = source[place]
        if byte == _LINE_END:
            return place
        if byte == _QUOTE:
            close = _string_end(source, place + 1, stop)
            if close < 0:
                break
            here, place = place + 1, close + 1
            if is_key and _is_name(source, here, close, name):
                place = _skip_spaces(source, place, stop)
                if source[place] != _COLON:
                    break
                place = _skip_spaces(source, place + 1, stop)
                if source[place] != _QUOTE or line[LITERAL_START] >= 0:
                    break
                line[LITERAL_START] = place
                close, end = _decode_string(source, place + 1, stop, texts, line[TEXT_START])
                if close < 0:
                    break
                line[LITERAL_STOP], line[TEXT_STOP] = close + 1, end
                place = close + 1
            is_key = False
            continue
        if byte in _OPEN:
            depth += 1
            is_key = depth == 1
        elif byte in _CLOSE:
            depth -= 1
        elif byte == _COMMA:
            is_key = depth == 1
        place += 1
    if place >= stop:
        return stop
    line[LITERAL_START] = -1
    return _line_end(source, place, stop)


@compiled
def _string_end(source: Bytes, place: int, stop: int) -> int:
    """The quote that ends the string whose first character is at `place`; -1 if none does."""
    while place < stop:
        marks = _marks(source, place)
        if not marks:
            place += WIDTH
            continue
        place += trailing_zeros(marks)
        if place >= stop or source[place] == _QUOTE:
            break
        if source[place] != _BACKSLASH or source[place + 1] < _SPACES_END:
            return -1
        place += 2
    return place if place < stop else -1


@compiled
def _decode_string(source: Bytes, place: int, stop: int, texts: Bytes, end: int) -> tuple[int, int]:
    """The same, and the string's value is written to `texts` from `end` on.

    Returns:
        the place of the quote, -1 if the string is not valid or has half of a surrogate pair, and
        where the value ends.
    """
    while place < stop:
        marks = _copy_marks(source, place, texts, end)
        if not marks:
            place += WIDTH
            end += WIDTH
            continue
        step = trailing_zeros(marks)
        place += step
        end += step
        if place >= stop:
            break
        if source[place] == _QUOTE:
            return place, end
        if source[place] != _BACKSLASH:
            break
        escaped = source[place + 1]
        if _ESCAPED[escaped]:
            texts[end] = _ESCAPED[escaped]
            place += 2
            end += 1
            continue
        code = _code_unit(source, place + 2) if escaped == _U else -1
        place += 6
        if 0xD800 <= code < 0xDC00 and source[place] == _BACKSLASH and source[place + 1] == _U:
            low = _code_unit(source, place + 2)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00) if low >> 10 == 0x37 else -1
            place += 6
        if code < 0 or 0xD800 <= code < 0xE000 or place >= stop:
            break
        end = _write_utf8(code, texts, end)
    return -1, end


@compiled
def _code_unit(source: Bytes, place: int) -> int:
    """The value of four hexadecimal digits; negative if they are none."""
    code = 0
    for number in range(4):
        code = code << 4 | _HEX[source[place + number]]
    return code


@compiled
def _write_utf8(code: int, texts: Bytes, end: int) -> int:
    if code < 0x80:
        texts[end] = code
        return end + 1
    if code < 0x800:
        texts[end] = 0xC0 | code >> 6
        texts[end + 1] = 0x80 | code & 0x3F
        return end + 2
    if code < 0x10000:
        texts[end] = 0xE0 | code >> 12
        texts[end + 1] = 0x80 | code >> 6 & 0x3F
        texts[end + 2] = 0x80 | code & 0x3F
        return end + 3
    texts[end] = 0xF0 | code >> 18
    texts[end + 1] = 0x80 | code >> 12 & 0x3F
    texts[end + 2] = 0x80 | code >> 6 & 0x3F
    texts[end + 3] = 0x80 | code & 0x3F
    return end + 4


@compiled
def _line_end(source: Bytes, place: int, stop: int) -> int:
    while place < stop:
        marks = _marks(source, place)
        while marks:
            found = place + trailing_zeros(marks)
            if found >= stop:
                return stop
            if source[found] == _LINE_END:
                return found
            marks &= marks - np.uint64(1)
        place += WIDTH
    return stop


@compiled
def _skip_spaces(source: Bytes, place: int, stop: int) -> int:
    while place < stop and source[place] in (0x20, 0x09, 0x0D):
        place += 1
    return place


@compiled
def _is_name(source: Bytes, place: int, stop: int, name: Bytes) -> bool:
    if stop - place != len(name):
        return False
    for number in range(len(name)):  # noqa: SIM110  (numba knows no generators here)
        if source[place + number] != name[number]:
            return False
    return True
