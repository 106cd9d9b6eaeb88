"""Finding CuPy and a GPU, and saying in one line what is wrong with them."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import re
from collections.abc import Iterator
from typing import Any

from minifbi.backends.base import Backend
from minifbi.errors import BackendUnavailableError, DeviceError, DeviceMemoryError, MinifbiError

# One module under several names: only one of them may be installed at a time.
CUPY_PACKAGES = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x")
INSTALL = (
    "`pip install 'minifbi[cuda12]'` for a driver of CUDA 12, or 'minifbi[cuda13]' for one of "
    "CUDA 13 (nvidia-smi tells which)"
)
CPU = "or choose --backend numba, which needs no GPU"
NO_DRIVER, NO_DEVICE = 35, 100  # cudaErrorInsufficientDriver, cudaErrorNoDevice


def cupy_versions() -> dict[str, str]:
    """The installed packages that contain CuPy, with their versions."""
    found = {}
    for name in CUPY_PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def load_cupy() -> Any:
    """Import CuPy and make sure that it has a GPU to work on.

    Returns
    -------
    module
        ``cupy``.

    Raises
    ------
    BackendUnavailableError
        If CuPy is not installed, or twice, or does not import, or finds no driver, no device,
        or not the CUDA libraries that it needs.  One line each, with what to do.
    """
    packages = cupy_versions()
    if len(packages) > 1:
        listed = " and ".join(f"{name} {version}" for name, version in packages.items())
        raise BackendUnavailableError(
            f"backend 'cupy' cannot run here: CuPy is installed {len(packages)} times, as "
            f"{listed}, and they overwrite each other's files; `pip uninstall "
            f"{' '.join(packages)}`, then {INSTALL}"
        )
    try:
        cupy = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise _broken(error) from error
        raise BackendUnavailableError(
            f"backend 'cupy' cannot run here: CuPy is not installed; {INSTALL}, {CPU}"
        ) from None
    except Exception as error:  # a CuPy that does not fit its NumPy or CUDA raises anything
        raise _broken(error) from error
    check_device(cupy)
    return cupy


def _broken(error: Exception) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"backend 'cupy' cannot run here: importing cupy failed with {_line(error)}. "
        f"Install it anew: {INSTALL}, {CPU}"
    )


def check_device(cupy: Any) -> None:
    """Raise BackendUnavailableError unless there is a device, and CuPy can compute on it."""
    try:
        devices = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        status = getattr(error, "status", None)
        if status == NO_DRIVER:
            raise BackendUnavailableError(
                "backend 'cupy' cannot run here: there is no NVIDIA driver, or it is too old for "
                f"this CuPy ({_line(error)}); install or update the driver until nvidia-smi "
                f"works, {CPU}"
            ) from error
        if status != NO_DEVICE:
            raise BackendUnavailableError(
                f"backend 'cupy' cannot run here: asking for GPUs failed with {_line(error)}; "
                f"see whether nvidia-smi works, {CPU}"
            ) from error
        devices = 0
    if devices < 1:
        raise BackendUnavailableError(
            "backend 'cupy' cannot run here: the driver finds no NVIDIA GPU; see whether "
            f"nvidia-smi lists one and CUDA_VISIBLE_DEVICES does not hide it, {CPU}"
        )
    try:  # cuBLAS and the compiler are loaded only when they are needed, so need them now
        one = cupy.ones((2, 2), dtype="float32")
        cupy.asnumpy(one @ one + one)
    except Exception as error:
        raise BackendUnavailableError(
            "backend 'cupy' cannot run here: the GPU is there, but a first computation failed "
            f"with {_line(error)}; CuPy may lack CUDA's libraries: {INSTALL}, {CPU}"
        ) from error


def _line(error: BaseException) -> str:
    """An error as one line of at most some 200 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 200 else text[:197] + "..."


def is_device_error(error: BaseException) -> bool:
    """Whether CuPy or CUDA raised it."""
    module = type(error).__module__.partition(".")[0]
    return module in ("cupy", "cupy_backends", "cupyx")


def explain_device_error(
    error: BaseException,
    backend: Backend | None = None,
    batch_size: int | None = None,
    at_rest: int = 0,
) -> MinifbiError | None:
    """What CuPy or CUDA raised, as one of our errors; None for all other errors.

    Parameters
    ----------
    error : exception
        What CuPy or CUDA raised.
    backend : Backend, optional
        The cupy backend, where one was at work.
    batch_size : int, optional
        Images a step, where a step was running: the message then says how many would fit.
    at_rest : int
        Bytes that were in use before the step: weights, the optimiser's memory, the data.
    """
    if not is_device_error(error):
        return None
    if not isinstance(error, MemoryError):
        return DeviceError(
            f"the GPU stopped working: {_line(error)}. It may have been lost, reset or be out of "
            "order; see whether nvidia-smi works. Finished epochs are kept: go on with --resume"
        )
    asked = re.search(r"allocating ([\d,]+)", str(error))
    if backend is None or asked is None or batch_size is None:
        return DeviceMemoryError(
            f"the GPU is out of memory ({_line(error)}); try a smaller --batch-size"
        )
    pool = backend.xp.get_default_memory_pool()
    free, total = backend.xp.cuda.runtime.memGetInfo()
    wanted = int(asked[1].replace(",", ""))
    fits = fitting_batch(
        batch_size,
        needed=pool.used_bytes() + wanted - at_rest,
        available=free + pool.total_bytes() - at_rest,
    )
    advice = (
        f"--batch-size {fits} should fit"
        if fits
        else "not even one image fits: another program may hold the memory (see nvidia-smi)"
    )
    return DeviceMemoryError(
        f"the GPU is out of memory at batch size {batch_size}: {wanted / 2**20:,.1f} MiB more "
        f"were asked for, {free / 2**20:,.1f} of {total / 2**20:,.1f} MiB are free; {advice}"
    )


@contextlib.contextmanager
def clear_device_errors(
    backend: Backend | None = None, batch_size: int | None = None
) -> Iterator[None]:
    """Turn what CuPy or CUDA raises inside into one clear error of ours.

    Parameters
    ----------
    backend : Backend, optional
        The one at work.  With it, and a batch size, the message knows how much memory there is.
    batch_size : int, optional
        Named in the advice when the memory is full.

    Raises
    ------
    DeviceMemoryError
        If the GPU's memory was too small; the message names a batch size that should fit.
    DeviceError
        If the GPU stopped working.
    """
    if backend is not None and not backend.asynchronous:
        yield
        return
    pool = None if backend is None else backend.xp.get_default_memory_pool()
    at_rest = 0 if pool is None else int(pool.used_bytes())
    try:
        yield
    except Exception as error:
        clear = explain_device_error(error, backend, batch_size, at_rest)
        if clear is None:
            raise
        raise clear from error


def fitting_batch(batch_size: int, needed: int, available: int) -> int:
    """A batch size that should fit into `available` bytes, where `batch_size` did not.

    A step's memory grows with its batch.  `needed` is what the step had and asked for when it
    failed, so it may want more later; hence the margin, and a power of two.
    """
    most = min(0.75 * batch_size * available / max(needed, 1), batch_size - 1)
    return 1 << (int(most).bit_length() - 1) if most >= 1 else 0
