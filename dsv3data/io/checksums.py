"""The CRC-32 that shards and rows are checked with: zlib's, by the fastest library there is.

ISA-L folds with carry-less multiplication and is about four times as fast as zlib; where it is not
installed, zlib gives the same numbers.
"""

from __future__ import annotations

try:
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ["crc32"]
