"""What this computer has: versions, processor, backends, threads, GPUs, data.

A part that is missing or broken becomes part of the report and raises no error.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping
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
    """Examine this computer.

    Returns
    -------
    dict
        ``versions``, ``platform``, ``backends``, ``auto``, ``blas``, ``threads``, ``numba``,
        ``cuda``, ``downloads``, ``mnist`` and ``healthy``, of types that JSON knows.  A part
        that could not be examined is ``{"error": why}``.
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
    """What `look` returns, or its error: a broken package may raise anything."""
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
    """The library behind NumPy's matrix product, and its number of threads if known."""
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
    cache = Path(os.path.expanduser(named)) if named else beside
    return {
        "threads": threads,
        "threading_layer": numba.threading_layer(),
        "cache": str(cache),
        "cache_from": "NUMBA_CACHE_DIR" if named else "beside the kernels",
        "cache_writable": _writable(cache),
    }


def cuda_state() -> dict[str, Any] | None:
    """GPUs, driver and libraries as CuPy sees them; None where the cupy backend cannot run.

    The entry ``backends`` gives the reason.
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
    """CUDA's version number as text: 12.8 for 12080."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _writable(folder: Path) -> bool:
    """Whether this user can write files into a folder, or make the folder."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def downloads() -> dict[str, Any]:
    """The folder for downloaded data sets; nothing is made or downloaded here."""
    from minifbi.datasets import cache_folder

    folder = cache_folder()
    return {"folder": str(folder), "exists": folder.is_dir(), "writable": _writable(folder)}


def mnist() -> dict[str, Any]:
    """Whether the MNIST files of the package exist and have the right check sums."""
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
