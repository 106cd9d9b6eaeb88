"""``import cupy`` of a program that is given this folder: the stand-in, with its kernels."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

import cupy_twins
import strict_cupy

strict_cupy.executor = cupy_twins.run
sys.modules["cupy"] = strict_cupy
