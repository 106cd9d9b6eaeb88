"""Nets from the oracle files: NAME.json describes the net and its variants, NAME.npz the arrays.

More oracles of the same form can be dropped into tests/fbi/oracles, or into the
folder that the environment variable MINIFBI_ORACLES names, and are tested like the others.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minifbi.layers import AvgPool2d, Conv2d, Dense, Flatten, MaxPool2d, ReLU, Sequential

FOLDERS = [Path(__file__).parents[1] / "fbi" / "oracles"]
if os.environ.get("MINIFBI_ORACLES"):
    FOLDERS.append(Path(os.environ["MINIFBI_ORACLES"]))


@dataclass
class Oracle:
    """One net with its reference values."""

    net: list[dict[str, Any]]
    variants: list[dict[str, Any]]
    arrays: dict[str, np.ndarray]

    def build(self, backend: str, dtype: Any) -> Sequential:
        """The net as minifbi layers, with the oracle's weights; layer i is named "layer<i>"."""
        layers: dict[str, Any] = {}
        for i, spec in enumerate(self.net):
            name = f"layer{i}"
            options = {"bias": spec.get("bias"), "backend": backend, "dtype": dtype}
            if spec["kind"] == "conv":
                out, inside, *kernel = self.arrays[f"{name}.weight"].shape
                layers[name] = Conv2d(
                    inside, out, tuple(kernel), spec["stride"], spec["padding"], **options
                )
            elif spec["kind"] == "dense":
                out, inside = self.arrays[f"{name}.weight"].shape
                layers[name] = Dense(inside, out, **options)
            elif spec["kind"] == "pool":
                kind = {"max": MaxPool2d, "avg": AvgPool2d}[spec["mode"]]
                layers[name] = kind(spec["size"], spec["stride"], spec.get("padding", 0))
            elif spec["kind"] == "flatten":
                layers[name] = Flatten()
            else:
                raise AssertionError(f"oracle with a layer of unknown kind {spec['kind']!r}")
            if spec.get("relu"):
                layers[f"relu{i}"] = ReLU()
        model = Sequential(layers)
        model.load_state_dict({name: self.arrays[name] for name in model.parameters()})
        return model


def load_oracles() -> dict[str, Oracle]:
    """All oracles by name."""
    found = {}
    for folder in FOLDERS:
        for path in sorted(folder.glob("*.json")):
            description = json.loads(path.read_text())
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
            found[path.stem] = Oracle(description["net"], description["variants"], arrays)
    assert found, "no oracles found"
    return found
