#!/usr/bin/env python3
"""Thousands of flipped bits in a token set and a packed set: does anybody miss one?

    python benchmarks/bit_flips.py TOKENS PACKED RESULTS.json [--flips 10000] [--seed N]

Half of the flips go to each set, by kind of byte first (ids, offsets, footer, manifest, lineage …);
`dsv3data.testing.assert_flips_found` says what must be noticed. Both sets are copied, and read once
for each flip: small ones (a megabyte, a tokenizer of a few thousand entries) take minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dsv3data.io.manifest_file import read_manifest
from dsv3data.testing import assert_flips_found
from measuring import machine

_MEMORY = Path("/dev/shm")


def main() -> None:
    arguments = _arguments()
    print(f"seed {arguments.seed}")
    result: dict[str, Any] = {"machine": machine("pyarrow"), "arguments": sys.argv[1:], "sets": {}}
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        for name, source in (("tokens", arguments.tokens), ("packed", arguments.packed)):
            copy = Path(shutil.copytree(source, Path(folder) / name))
            started = time.perf_counter()
            report = assert_flips_found(copy, flips=arguments.flips // 2, seed=arguments.seed)
            result["sets"][name] = {
                "root": read_manifest(source).root,
                "flips": arguments.flips // 2,
                "missed": 0,  # else the line above had raised
                "seconds": round(time.perf_counter() - started, 1),
                **dataclasses.asdict(report),
            }
            print(json.dumps(result["sets"][name], indent=1))
    arguments.results.write_text(json.dumps(result, indent=1) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tokens", type=Path)
    parser.add_argument("packed", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    return parser.parse_args()


if __name__ == "__main__":
    main()
