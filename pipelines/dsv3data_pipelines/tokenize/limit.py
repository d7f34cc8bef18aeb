"""`--limit N`: the first N documents of the input, whatever the units are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dsv3data.io.sources import Document, ReadOptions, Unit, read_unit


def limited(
    units: Sequence[Unit], options: ReadOptions, limit: int | None
) -> Iterator[tuple[Unit, int | None]]:
    """Units with the number of documents to take of each (None: all), up to the unit with the last
    one. A number depends on those of all units before it, so that documents are counted here."""
    if limit is None:
        yield from ((unit, None) for unit in units)
        return
    for unit in units:
        found = 0
        for item in read_unit(unit, options):
            found += isinstance(item, Document)
            if found == limit:
                break
        yield unit, found
        limit -= found
        if not limit:
            return
