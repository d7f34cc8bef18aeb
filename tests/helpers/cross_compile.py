"""Compile a Triton kernel for Hopper on a machine without a GPU, and read what came out."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

HOPPER = GPUTarget("cuda", 90, 32)
PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"


@dataclass(frozen=True, kw_only=True)
class Compiled:
    ptx: str
    shared_bytes: int
    scratch_bytes: int  # global memory that a launch would need an allocator for
    registers: int  # of a thread
    threads: int  # of a program
    spilled_bytes: int  # of a thread, stores and loads

    def counts(self, pattern: str) -> int:
        return len(re.findall(pattern, self.ptx))


def compile_for_hopper(
    kernel: Any, types: dict[str, str], constants: dict[str, Any], options: dict[str, Any],
    folder: Path,
) -> Compiled:  # fmt: skip
    """`types` of the arguments in their order, `constants` the rest.

    Pointers and the integers that a launch specialises on get the hint that 16 divides them, as
    Triton finds for itself on real sizes; without it another kernel would be looked at.
    """
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    hints = {
        (place,): [["tt.divisibility", 16]]
        for place, parameter in enumerate(kernel.params)
        if signature[parameter.name].startswith("*")
        or (signature[parameter.name] == "i32" and not parameter.do_not_specialize)
    }
    source = ASTSource(kernel, signature, constants, hints)
    compiled = triton.compile(source, target=HOPPER, options=options)
    ptx = compiled.asm["ptx"]
    path = folder / f"{kernel.__name__}.ptx"
    path.write_text(ptx)
    said = subprocess.run(
        [PTXAS, "-v", "--gpu-name=sm_90a", path, "-o", path.with_suffix(".cubin")],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", said)
    return Compiled(
        ptx=ptx,
        shared_bytes=compiled.metadata.shared,
        scratch_bytes=compiled.metadata.global_scratch_size,
        threads=int(re.findall(r"\.reqntid (\d+)", ptx)[0]),
        registers=int(re.findall(r"Used (\d+) registers", said)[0]),
        spilled_bytes=sum(map(int, spills)),
    )
