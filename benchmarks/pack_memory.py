"""Peak memory of `pack` against --memory, for one token set and for larger ones.

    python benchmarks/pack_memory.py TOKENS [LARGER…] --out benchmarks/results/pack-memory.json

For each limit the partitions are about the largest that `pack` accepts. The peak is the highest
resident set of the process, as the kernel gives it at its end; pages of mapped files count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dsv3data.contracts.manifest import TOKENS
from dsv3data.io.manifest_file import read_manifest
from measuring import machine

# Limit in MiB → partition_tokens. 256 MiB is less than the engine takes, and refused; 512 MiB if a
# single document has millions of tokens.
LIMITS = {256: 2**18, 512: 2**20, 640: 2**20, 1024: 2**24}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tokens", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limits", type=int, nargs="*", default=[*LIMITS], help="MiB")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    given = parser.parse_args()
    result = {
        "command": " ".join(sys.argv),
        "machine": machine(),
        "runs": [
            _run(tokens, limit, given.scratch) for limit in given.limits for tokens in given.tokens
        ],
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _run(tokens: Path, limit: int, scratch: Path) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    command = [str(Path(sys.executable).with_name("dsv3data")), "pack", str(tokens), "--json"]
    command += ["--out", str(folder / "out"), "--memory", f"{limit}M", "--workers", "1"]
    command += ["--set", f"partition_tokens={LIMITS[limit]}"]
    with (folder / "stdout").open("w+") as out, (folder / "stderr").open("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        found: dict[str, Any] = {
            "tokens": read_manifest(tokens, expect=(TOKENS,)).counts["tokens"],
            "limit_mib": limit,
            "partition_tokens": LIMITS[limit],
            "exit_code": process.returncode,
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        }
        if process.returncode:
            found["refused"] = [line for line in err.read().splitlines() if "error: " in line]
        else:
            counts = json.load(out)
            found["padding_share"] = counts["padding"] / (counts["rows"] * counts["context"])
            found["peak_mib"] = usage.ru_maxrss >> 10
    shutil.rmtree(folder)
    return found


if __name__ == "__main__":
    main()
