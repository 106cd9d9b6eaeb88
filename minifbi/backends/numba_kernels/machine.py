"""What this CPU can hold in its registers, and the sizes that follow from it."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite.binding import get_host_cpu_features, get_process_triple


def _machine() -> tuple[int, int]:
    """Bytes in a vector register, and how many such registers there are."""
    wanted = numba.config.CPU_FEATURES  # type: ignore[attr-defined]
    if wanted is not None:
        features = {name[1:] for name in wanted.split(",") if name.startswith("+")}
    else:
        features = {name for name, present in get_host_cpu_features().items() if present}
    if "avx512f" in features:
        return 64, 32
    if "avx" in features:
        return 32, 16
    is_arm = get_process_triple().startswith(("aarch64", "arm64"))
    return 16, 32 if is_arm else 16


VECTOR_BYTES, REGISTERS = _machine()

# The tile of the convolution: output channels x vectors of samples.
ROWS = 8 if REGISTERS == 32 else 4
VECTORS = 2

# The tile of a convolution into few channels: so many neighbouring pixels.
FEW_PIXELS = 16 if REGISTERS == 32 else 8

# The tile of the weight gradient: output channels x input channels (or taps of a kernel row).
WEIGHT_ROWS = 4
WEIGHT_VECTORS = 1
WEIGHT_CHANNELS = 4 if REGISTERS == 32 else 2
WEIGHT_TAPS = 5 if REGISTERS == 32 else 3

# Written for the winner of a window in which nothing is active.
NO_WINNER = 255


def lanes_of(dtype: Any) -> int:
    """How many numbers of a dtype fit into one vector."""
    return int(VECTOR_BYTES // np.dtype(dtype).itemsize)
