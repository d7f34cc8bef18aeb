"""The row groups of a Parquet file, from its footer.

pyarrow gives the same facts, but where a byte of the footer is wrong it may end the process: an
exception of its C++ part passes through a place that allows none. (Flip bits in the size statistics
of a column chunk and ask for `metadata.row_group(0).column(0)`.) Its readers of the data itself
catch theirs. So the footer is read here: a struct in Thrift's compact protocol.
[apache/parquet-format: parquet.thrift; apache/thrift: thrift-compact-protocol.md]
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dsv3data.contracts.errors import BadInput
from dsv3data.io.sources.place import Place

_MAGIC = b"PAR1"
_TAIL_BYTES = 8
_MOST_NESTED = 32
# Field numbers of parquet.thrift.
_ROW_GROUPS, _COLUMNS, _NUM_ROWS, _COLUMN_META = 4, 1, 3, 3
_COMPRESSED_SIZE, _DATA_PAGE, _DICTIONARY_PAGE = 7, 9, 11
# Types of the compact protocol.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY = range(1, 9)
_LIST, _SET, _MAP, _STRUCT = range(9, 13)


class RowGroup(NamedTuple):
    """`chunks`: (start, stop) in bytes of each column's data, in the order of the columns."""

    n_rows: int
    chunks: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Bytes of the column chunks."""
        return sum(stop - start for start, stop in self.chunks)


class _Damaged(Exception):
    """The footer is not what Parquet says it is."""


def row_groups(place: Place) -> list[RowGroup]:
    """The row groups of a Parquet file, in order.

    Raises:
        BadInput: the file has no footer that could be read, or one that points out of the file.
    """
    try:
        tree = _Thrift(_footer(place)).struct()
        return [_row_group(group, place.size) for group in _items(tree, _ROW_GROUPS)]
    except _Damaged as error:
        raise BadInput(
            f"the Parquet footer cannot be read: {error}",
            where=str(place),
            effect="nothing was started",
            fix="write the file again, or move it out of the input",
        ) from error


def footer_range(place: Place) -> tuple[int, int]:
    """Where the footer begins, and the end of the file: what tells its length is after it."""
    return place.size - _TAIL_BYTES - _length(place), place.size


def _footer(place: Place) -> bytes:
    stop = place.size - _TAIL_BYTES
    return _read(place, stop - _length(place), stop)


def _length(place: Place) -> int:
    if place.size < _TAIL_BYTES + len(_MAGIC):
        raise _Damaged("the file is too short")
    tail = _read(place, place.size - _TAIL_BYTES, place.size)
    if tail[4:] != _MAGIC:
        raise _Damaged("the file does not end with PAR1")
    length = int.from_bytes(tail[:4], "little")
    if length > place.size - _TAIL_BYTES - len(_MAGIC):
        raise _Damaged(f"it says to be {length:,} bytes long, more than the file")
    return length


def _read(place: Place, start: int, stop: int) -> bytes:
    data = b""
    for chunk in place.chunks(start, stop=stop):
        data += chunk
        if len(data) >= stop - start:
            break
    return data[: stop - start]


def _row_group(tree: Any, file_size: int) -> RowGroup:
    columns = [_field(column, _COLUMN_META, dict) for column in _items(tree, _COLUMNS)]
    n_rows = _field(tree, _NUM_ROWS, int)
    chunks = tuple(_chunk(column) for column in columns)
    if n_rows < 0 or any(not 0 <= start <= stop <= file_size for start, stop in chunks):
        raise _Damaged("it points out of the file")
    return RowGroup(n_rows, chunks)


def _chunk(column: dict[int, Any]) -> tuple[int, int]:
    start = _field(column, _DATA_PAGE, int)
    # Some writers say 0 where there is no dictionary.
    if _DICTIONARY_PAGE in column and (first := _field(column, _DICTIONARY_PAGE, int)) > 0:
        start = min(start, first)
    return start, start + _field(column, _COMPRESSED_SIZE, int)


def _items(tree: Any, number: int) -> list[Any]:
    items: list[Any] = _field(tree, number, list)
    return items


def _field(tree: Any, number: int, kind: type) -> Any:
    value = tree.get(number) if isinstance(tree, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise _Damaged(f"field {number} is missing or of another type")
    return value


class _Thrift:
    """Reads values of the compact protocol: structs as {field number: value}."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._depth = 0

    def struct(self) -> dict[int, Any]:
        """The struct that begins here."""
        self._depth += 1
        if self._depth > _MOST_NESTED:
            raise _Damaged("it is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind)
        self._depth -= 1
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (_I16, _I32, _I64):
            return self._integer()
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind == _STRUCT:
            return self.struct()
        if kind in (_LIST, _SET):
            return self._list()
        if kind == _MAP:
            return self._map()
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        raise _Damaged(f"it holds a value of type {kind}, which there is not")

    def _list(self) -> list[Any]:
        head = self._byte()
        size = head >> 4 if head >> 4 < 15 else self._varint()
        return [self._value(head & 15) for _ in range(self._counted(size))]

    def _map(self) -> list[Any]:
        size = self._counted(self._varint())
        kinds = self._byte() if size else 0
        return [(self._value(kinds >> 4), self._value(kinds & 15)) for _ in range(size)]

    def _counted(self, size: int) -> int:
        """A number of values, each of which takes a byte at least."""
        if size > len(self._data) - self._at:
            raise _Damaged("it counts more values than there are bytes")
        return size

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise _Damaged("it holds a number of more than 64 bits")

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise _Damaged("it ends too early")
        self._at += size
        return self._data[self._at - size : self._at]
