"""What the sections of `make gpu` share: where they run, a stopwatch, the file of their results.

Every section appends to one file of JSON lines, OUT/results.jsonl: first where and with what it was
measured, then a row as soon as it is known. A section that fails or is stopped leaves its rows.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kernels_table import NO_GPU, RESULTS, read_results
from measuring import machine as description

ROUNDS = 7
Row = dict[str, Any]
Way = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where to run, how large, and what a section was given."""

    smoke: bool  # tiny sizes on a CPU: does the script itself work?
    out: Path
    rows: Path  # a packed set
    until: float  # seconds since 1970: when the section should be done

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.smoke else "cuda")

    @property
    def seconds_left(self) -> float:
        return self.until - time.time()

    def shrink(self, size: int) -> int:
        return max(size // 64, 16) if self.smoke else size

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=self.device, dtype=torch.bfloat16)

    def wait(self) -> None:
        """Until the GPU has done all it was asked for."""
        if not self.smoke:
            torch.cuda.synchronize()

    def compare(
        self, ways: Mapping[str, Way], *, rounds: int = ROUNDS
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Median milliseconds of each way, the ways taking turns; and those that do not work.

        A first round compiles and warms up, and leaves out what fails in it.
        """
        working, left_out = dict(ways), {}
        for name, way in ways.items():
            try:
                self._once(way)
            except Exception as error:  # a compiler's and a driver's errors have no common class
                del working[name]
                left_out[name] = f"{type(error).__name__}: {error}"[:300]
        times: dict[str, list[float]] = {name: [] for name in working}
        for _ in range(1 if self.smoke else rounds):
            for name, way in working.items():
                times[name].append(self._once(way))
        return {name: statistics.median(values) for name, values in times.items()}, left_out

    def _once(self, way: Way) -> float:
        if self.smoke:
            started = time.perf_counter()
            way()
            return 1000 * (time.perf_counter() - started)
        # Push the last operands out of L2, and let the host run ahead of the GPU.
        torch.empty(256 << 20, dtype=torch.int8, device=self.device).zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        way()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))


Section = Callable[[Machine], Iterator[Row]]


def run_section(sections: Mapping[str, Section], purpose: str) -> None:
    """The command line of a script of sections: run one, and append its rows."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("section", choices=sections)
    parser.add_argument("--out", type=Path, required=True, help="folder of results.jsonl")
    parser.add_argument("--rows", type=Path, default=Path("runs/gpu-rows"), help="a packed set")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes on a CPU")
    options = parser.parse_args()
    machine = Machine(
        smoke=options.smoke,
        out=options.out,
        rows=options.rows,
        until=float(os.environ.get("UNTIL", time.time() + 180)),
    )
    torch.manual_seed(0)
    options.out.mkdir(parents=True, exist_ok=True)
    drop_faulty_tiles(options.out)
    stand_in_for_orjson()
    _append(options.out, {"section": options.section, "machine": _about(machine)})
    for row in sections[options.section](machine):
        _append(options.out, {"section": options.section, "row": row})


def _about(machine: Machine) -> Row:
    gpu = NO_GPU if machine.smoke else torch.cuda.get_device_name()
    return {
        "gpu": gpu,
        "cuda": torch.version.cuda,
        **description("torch", "triton", "numpy"),
        "command": " ".join(sys.argv),
    }


def _append(out: Path, line: Row) -> None:
    text = json.dumps(plain(line))
    with (out / RESULTS).open("a") as file:
        file.write(text + "\n")
    print(text, flush=True)


def plain(tree: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(tree, Mapping):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def drop_faulty_tiles(out: Path) -> None:
    """Leave out the cuts of a GEMM that failed a check by themselves: one that hangs would take the
    whole section with it. Where an earlier section of GEMMs left no row, whatever the checks said,
    specialised warps are left out too: the likeliest to hang."""
    from dsv3data.kernels.device import launch

    results = read_results(out)
    rows = results.get("checks", {"rows": []})["rows"]
    faulty = {row["tile"] for row in rows if row["tile"] and not row["passed"]}
    if any(name in results and not results[name]["rows"] for name in ("dense", "grouped")):
        faulty |= {tile.name for tile in launch.TILES if tile.specialised}
    if faulty:
        print(f"without {sorted(faulty)}", file=sys.stderr)
    kept = tuple(tile for tile in launch.TILES if tile.name not in faulty)
    launch.TILES = kept or launch.TILES


def stand_in_for_orjson() -> None:
    """The loader parses tokenizer.json with orjson, which a GPU machine may lack."""
    if importlib.util.find_spec("orjson") is None:
        module = types.ModuleType("orjson")
        module.loads = json.loads  # type: ignore[attr-defined]
        module.dumps = lambda tree, option=0: json.dumps(tree).encode()  # type: ignore[attr-defined]
        module.OPT_SORT_KEYS = 0  # type: ignore[attr-defined]
        module.JSONDecodeError = json.JSONDecodeError  # type: ignore[attr-defined]
        sys.modules["orjson"] = module
