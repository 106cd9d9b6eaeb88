"""The CUDA source of the kernels, compiled as C++ and run on the CPU: every thread in turn.

It is the source itself that runs, index by index as on a GPU, with two differences: the
threads come one after the other, and every pointer knows how far it may reach, so that an
access outside an array is found.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
from pathlib import Path

import numpy as np
from strict_cupy import signatures

from minifbi.backends.cupy_backend import kernel_source

COMPILER = shutil.which("g++") or shutil.which("clang++")

SHIM = """
#include <cmath>
#define __global__ static
#define __device__ static
struct Place { unsigned x; };
static Place gridDim, blockDim, blockIdx, threadIdx;
static long long outside = 0;  // accesses outside an array
template <class E> struct Checked {
    E* at; long long size;
    E& operator[](long long i) const {
        static E nothing[1] = {};
        if (i < 0 || i >= size) { ++outside; return const_cast<E&>(nothing[0]); }
        return at[i];
    }
    E& operator*() const { return (*this)[0]; }
};
using std::sqrt;
"""


def _program(real: str, index: str) -> str:
    source = kernel_source(real, index).replace('extern "C" {', "").replace('}  // extern "C"', "")
    found = signatures(source)
    for kind in ("const T", "T", "const unsigned", "unsigned"):
        source = source.replace(f"({kind}* ", f"(Checked<{kind}> ")
        source = source.replace(f", {kind}* ", f", Checked<{kind}> ")
        source = source.replace(f"\n                            {kind}* ", f" Checked<{kind}> ")
    launches = []
    for name, parameters in found.items():
        takes, gives = [], []
        for kind, what in parameters:
            if kind.endswith("*"):
                takes.append(f"{kind} {what}, long long {what}_size")
                gives.append(f"{{{what}, {what}_size}}")
            else:
                takes.append(f"{kind} {what}")
                gives.append(what)
        launches.append(
            f"long long launch_{name}(unsigned grid, unsigned block, {', '.join(takes)}) {{\n"
            "    outside = 0; gridDim.x = grid; blockDim.x = block;\n"
            "    for (blockIdx.x = 0; blockIdx.x < grid; ++blockIdx.x)\n"
            "        for (threadIdx.x = 0; threadIdx.x < block; ++threadIdx.x)\n"
            f"            {name}({', '.join(gives)});\n"
            "    return outside;\n}"
        )
    return SHIM + source + '\nextern "C" {\n' + "\n".join(launches) + "\n}\n"


@functools.cache
def library(folder: Path, real: str, index: str) -> ctypes.CDLL:
    """The kernels for one pair of types, compiled into `folder`."""
    source = folder / f"{real}-{index.replace(' ', '')}.cpp"
    source.write_text(_program(real, index))
    built = source.with_suffix(".so")
    command = [COMPILER, "-std=c++14", "-O1", "-shared", "-fPIC", "-w", str(source), "-o"]
    done = subprocess.run([*command, str(built)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(built))


def run(folder: Path, module, name: str, grid, block, arguments) -> None:
    """Run a kernel as :data:`strict_cupy.executor` should."""
    function = library(folder, module.real, module.index)[f"launch_{name}"]
    function.restype = ctypes.c_longlong
    given = [ctypes.c_uint(grid[0]), ctypes.c_uint(block[0])]
    for value in arguments:
        if isinstance(value, np.ndarray):
            given += [ctypes.c_void_p(value.ctypes.data), ctypes.c_longlong(value.size)]
        else:
            given.append((ctypes.c_longlong if isinstance(value, int) else ctypes.c_double)(value))
    assert function(*given) == 0, f"{name} reached outside its arrays"
