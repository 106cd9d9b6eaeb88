"""``python -m minifbi.doctor``: what this computer has, and whether minifbi can work with it.

The report asks everything anew and survives whatever is missing or broken.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

import minifbi.backends as backends
from minifbi.backends.cupy_device import cupy_versions

PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "matplotlib", "pooch", "tqdm", "cupy")
THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
SIMD = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512vnni", "neon", "sve")  # LLVM's names
MISSING = "not installed"


def examine() -> dict[str, Any]:
    """Look at everything.

    Returns
    -------
    dict
        ``versions``, ``platform``, ``backends``, ``auto``, ``blas``, ``threads``, ``numba``,
        ``cuda``, ``downloads``, ``mnist`` and ``healthy``, of plain types that JSON knows.  A
        part that could not be found out is ``{"error": why}``.
    """
    report: dict[str, Any] = {
        "versions": _try(versions),
        "platform": _try(computer),
        "backends": _try(backend_states),
        "auto": _try(lambda: backends.get_backend("auto").name),
        "blas": _try(blas),
        "threads": {name: os.environ.get(name) for name in THREAD_VARIABLES},
        "numba": _try(numba_state),
        "cuda": _try(cuda_state),
        "downloads": _try(downloads),
        "mnist": _try(mnist),
    }
    report["healthy"] = "ok" in report["backends"].values() and report["mnist"].get("intact", False)
    return report


def _try(look: Callable[[], Any]) -> Any:
    """What `look` finds, or why it could not: a broken package may raise anything."""
    try:
        return look()
    except Exception as error:
        return {"error": _why(error)}


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def versions() -> dict[str, str]:
    """Versions of minifbi, Python and the packages it uses, "not installed" where one is not."""
    found = {"minifbi": _version("minifbi"), "python": platform.python_version()}
    if found["minifbi"] == MISSING:  # run from a checkout
        found["minifbi"] = getattr(importlib.import_module("minifbi"), "__version__", "unknown")
    for name in PACKAGES:
        found[name] = _version(name)
    packages = cupy_versions()  # one module under several names, of which only one may be there
    if packages:
        listed = ", ".join(f"{version} ({name})" for name, version in packages.items())
        found["cupy"] = f"{listed}, INSTALLED TWICE" if len(packages) > 1 else listed
    return found


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return MISSING


def computer() -> dict[str, Any]:
    """Operating system and processor."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "usable_cores": usable,
        "simd": _try(_simd),
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _simd() -> list[str]:
    """Vector instructions of the processor that Numba's compiler may use."""
    llvm = importlib.import_module("llvmlite.binding")
    features: Mapping[str, bool] = llvm.get_host_cpu_features()
    return [name for name in SIMD if features.get(name)]


def backend_states() -> dict[str, str]:
    """For each backend "ok", or the reason why it does not work here."""
    try:
        return backends.backend_status()
    except Exception:  # one of them is broken in a way of its own: ask one by one
        states: dict[str, str] = {}
        for name in backends.BACKEND_NAMES:
            try:
                backends.get_backend(name)
                states[name] = "ok"
            except Exception as error:
                states[name] = _why(error)
        return states


def blas() -> dict[str, Any]:
    """The library behind NumPy's matrix product, and its threads where they can be asked."""
    config: Any = np.show_config(mode="dicts")
    library = config.get("Build Dependencies", {}).get("blas", {})
    try:
        pools = importlib.import_module("threadpoolctl").threadpool_info()
        threads = [pool["num_threads"] for pool in pools if pool.get("user_api") == "blas"]
    except ImportError:
        threads = None
    return {
        "name": library.get("name", "unknown"),
        "version": library.get("version", "unknown"),
        "threads": threads[0] if threads else None,
    }


def numba_state() -> dict[str, Any] | None:
    """Numba's threads and where it keeps compiled kernels; None without Numba."""
    try:
        numba = importlib.import_module("numba")
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        return None
    threads = numba.get_num_threads()  # starts them, so that the layer is known after it
    named = os.environ.get("NUMBA_CACHE_DIR")
    beside = Path(backends.__file__).parent / "numba_kernels" / "__pycache__"
    cache = Path(named).expanduser() if named else beside
    return {
        "threads": threads,
        "threading_layer": numba.threading_layer(),
        "cache": str(cache),
        "cache_from": "NUMBA_CACHE_DIR" if named else "beside the kernels",
        "cache_writable": _writable(cache),
    }


def cuda_state() -> dict[str, Any] | None:
    """GPUs, driver and libraries as CuPy sees them; None where the cupy backend cannot run.

    Why it cannot is what ``backends`` says.
    """
    if backend_states().get("cupy") != "ok":
        return None
    runtime = backends.get_backend("cupy").xp.cuda.runtime
    devices = []
    for number in range(runtime.getDeviceCount()):
        facts = runtime.getDeviceProperties(number)
        name = facts["name"]
        devices.append(
            {
                "name": name.decode() if isinstance(name, bytes) else str(name),
                "compute_capability": f"{facts['major']}.{facts['minor']}",
                "memory_mb": facts["totalGlobalMem"] // 2**20,
            }
        )
    return {
        "devices": devices,
        "driver": _cuda_version(runtime.driverGetVersion()),
        "runtime": _cuda_version(runtime.runtimeGetVersion()),
    }


def _cuda_version(number: int) -> str:
    """12080 is CUDA's way to write 12.8."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _writable(folder: Path) -> bool:
    """Whether files can be put into a folder, or the folder be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def downloads() -> dict[str, Any]:
    """The folder for data sets that are downloaded; nothing is made or fetched here."""
    named = os.environ.get("MINIFBI_CACHE_DIR")
    root = named or importlib.import_module("pooch").os_cache("minifbi")
    folder = Path(root).expanduser()
    return {"folder": str(folder), "exists": folder.is_dir(), "writable": _writable(folder)}


def mnist() -> dict[str, Any]:
    """Whether the MNIST files that come with minifbi are there and have their check sums."""
    try:
        from minifbi.datasets import load_mnist

        data = load_mnist()
    except Exception as error:
        return {"intact": False, "detail": _why(error)}
    sizes = ", ".join(
        f"{len(split):,} {name}"
        for name, split in (
            ("training", data.train),
            ("validation", data.validation),
            ("test", data.test),
        )
    )
    return {"intact": True, "detail": f"{sizes} images"}


# ---- printing ----------------------------------------------------------------------------
def describe(report: Mapping[str, Any]) -> str:
    """The report as text, a line for each finding."""
    rows: list[tuple[str, str]] = []

    def part(name: str, title: str, lines: Callable[[Any], list[tuple[str, str]]]) -> None:
        found = report[name]
        rows.append((title, ""))
        if isinstance(found, Mapping) and "error" in found:
            rows.append(("  could not be asked", found["error"]))
        else:
            rows.extend((f"  {key}", text) for key, text in lines(found))

    part("versions", "Versions", lambda found: list(found.items()))
    part("platform", "Computer", _describe_computer)
    part(
        "backends",
        "Backends",
        lambda found: [*found.items(), ("auto takes", _text(report["auto"]))],
    )
    part(
        "blas",
        "NumPy's matrix product",
        lambda found: [
            ("library", f"{found['name']} {found['version']}"),
            ("threads", _text(found["threads"], "unknown (threadpoolctl is not installed)")),
        ],
    )
    part(
        "threads",
        "Variables for threads",
        lambda found: [(name, _text(value, "not set")) for name, value in found.items()],
    )
    part("numba", "Numba", _describe_numba)
    part("cuda", "GPU", _describe_cuda)
    part(
        "downloads",
        "Data",
        lambda found: [
            (
                "downloads go to",
                f"{found['folder']}{'' if found['exists'] else ' (not there yet)'}"
                f"{'' if found['writable'] else ' (NOT writable)'}",
            ),
        ],
    )
    found = report["mnist"]
    rows.append(
        (
            "  MNIST",
            ("intact: " if found.get("intact") else "NOT intact: ")
            + str(found.get("detail") or found.get("error")),
        )
    )
    width = max(len(name) for name, text in rows if text) + 2
    lines = []
    for name, text in rows:
        # the further lines of a long message stand below its first
        more = textwrap.wrap(text, 100 - width, break_long_words=False, break_on_hyphens=False) or [
            ""
        ]
        lines += [
            f"{left:<{width}}{line}".rstrip()
            for left, line in zip_longest([name], more, fillvalue="")
        ]
    ok = "minifbi can run here."
    lines.append(ok if report["healthy"] else "Something is wrong: a backend or MNIST is missing.")
    return "\n".join(lines)


def _text(value: Any, missing: str = "nothing") -> str:
    if isinstance(value, Mapping):
        return f"could not be asked: {value['error']}"
    return missing if value is None else str(value)


def _describe_computer(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    simd = found["simd"]
    return [
        ("system", found["system"]),
        ("processor", found["cpu"]),
        ("cores", f"{found['cores']}, of which this process may use {found['usable_cores']}"),
        ("vector instructions", " ".join(simd) if isinstance(simd, list) else "unknown"),
    ]


def _describe_numba(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if found is None:
        return [("", MISSING)]
    note = (
        "writable"
        if found["cache_writable"]
        else ("NOT writable: Numba takes the user's cache folder, or compiles in each process anew")
    )
    return [
        ("threads", str(found["threads"])),
        ("threading layer", found["threading_layer"]),
        ("compiled kernels", f"{found['cache']} ({found['cache_from']}; {note})"),
    ]


def _describe_cuda(found: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if found is None:
        return [("", "none that the cupy backend could use; why, it says above")]
    return [
        *(
            (
                f"device {number}",
                f"{device['name']}, compute capability {device['compute_capability']}, "
                f"{device['memory_mb']:,} MiB",
            )
            for number, device in enumerate(found["devices"])
        ),
        ("CUDA", f"{found['runtime']}; the driver knows up to {found['driver']}"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the command line if left out.

    Returns
    -------
    int
        0 if at least one backend works and MNIST is intact, else 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m minifbi.doctor",
        description="Report versions, backends, threads and data; exit with 0 if minifbi can run.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="print the report as a JSON object")
    arguments = parser.parse_args(argv)
    report = examine()
    print(json.dumps(report, indent=2) if arguments.json else describe(report))
    return 0 if report["healthy"] else 1


if __name__ == "__main__":
    sys.exit(main())
