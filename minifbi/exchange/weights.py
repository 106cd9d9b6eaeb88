"""Weights in a file, by the names and in the shapes of PyTorch."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minifbi import __version__
from minifbi.errors import CheckpointError, ConfigError
from minifbi.files.atomic import write_bytes
from minifbi.files.checkpoint import load_checkpoint
from minifbi.files.npz import read_npz
from minifbi.files.strict_json import check_regular
from minifbi.files.tensors import read_safetensors, write_safetensors
from minifbi.layers import Layer

COUNTER = "num_batches_tracked"  # PyTorch's BatchNorm counts batches, and computes nothing from it
CHECKPOINT = "checkpoint.npz"  # what stands for a run folder


class LoadedWeights(NamedTuple):
    """What :func:`load_weights` did.

    Attributes
    ----------
    missing : list of str
        Names of the model that kept their values.
    surplus : list of str
        Names in the file that the model does not have.
    converted : dict of str to str
        Type in the file, such as "bfloat16", of each array that had another than the model.
    """

    missing: list[str]
    surplus: list[str]
    converted: dict[str, str]

    def __str__(self) -> str:
        parts = []
        if self.converted:
            kinds = ", ".join(sorted(set(self.converted.values())))
            parts.append(f"{len(self.converted)} arrays converted from {kinds}")
        for what, names in (("kept as they were", self.missing), ("not used", self.surplus)):
            if names:
                parts.append(f"{what}: {', '.join(names)}")
        return "; ".join(parts) or "all names and types agree"


def save_weights(
    model: Layer, path: str | Path, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a model's parameters and buffers to a ``.safetensors`` or ``.npz`` file.

    Parameters
    ----------
    model : Layer
        For example a network of :mod:`minifbi.models`.
    path : path
        Its ending says the format; its folder exists.  ``.npz`` is what ``np.load`` reads, and has
        no metadata.
    metadata : mapping of str to str, optional
        Written beside "minifbi", the version, and "input_shape", where the model knows it.

    Raises
    ------
    ConfigError
        If the file ends otherwise, or the metadata is not text.
    OSError
        If it cannot be written; a file that was there before is kept.

    Examples
    --------
    >>> import minifbi
    >>> from minifbi.exchange import load_weights, save_weights
    >>> model, other = minifbi.lenet(seed=0), minifbi.lenet(seed=1)
    >>> save_weights(model, "lenet.safetensors")
    >>> print(load_weights(other, "lenet.safetensors"))
    all names and types agree
    """
    path, arrays = Path(path), model.state_dict()
    if path.suffix == ".npz":
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        write_bytes(path, buffer.getbuffer())
        return
    if path.suffix != ".safetensors":
        raise ConfigError(f"{path}: expected a file that ends with .safetensors or .npz")
    texts = {"format": "pt", "minifbi": __version__}  # "pt": PyTorch's names and shapes
    shape = getattr(model, "input_shape", None)
    if shape is not None:
        texts["input_shape"] = json.dumps(list(shape))
    texts |= metadata or {}
    if not all(isinstance(text, str) for item in texts.items() for text in item):
        raise ConfigError(f"metadata={texts!r}: expected text by text")
    write_safetensors(path, arrays, texts)


def describe_run(meta: Mapping[str, Any]) -> dict[str, str]:
    """What a reader of the weights must know about a run, as metadata.

    Parameters
    ----------
    meta : mapping
        What :func:`minifbi.training.load_model` returns beside the model.

    Returns
    -------
    dict of str to str
        "model", "input_shape", "class_names" and "pixels", the values as JSON but for names.
    """
    return {
        "model": str(meta["config"]["model"]),
        "input_shape": json.dumps(meta["input_shape"]),
        "class_names": json.dumps(meta.get("class_names", []), ensure_ascii=False),
        "pixels": "0 to 1",
    }


def read_weights(path: str | Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """All arrays of a weights file, for example to rename them before ``load_state_dict``.

    Parameters
    ----------
    path : path
        A ``.safetensors`` file, an ``.npz`` file of arrays, a checkpoint of a run, or a run's
        folder, which stands for its checkpoint.npz.

    Returns
    -------
    arrays : dict of str to ndarray
        Of any shape, by name; bfloat16 comes as float32.
    metadata : dict of str to str
        Of a ``.safetensors`` file; else empty.

    Raises
    ------
    CheckpointError
        If there is no such file, or it is damaged, or of another format.
    """
    arrays, metadata, _ = _read(weights_file(path))
    return arrays, metadata


def load_weights(
    model: Layer, path: str | Path, *, strict: bool = True, skip: Collection[str] = ()
) -> LoadedWeights:
    """Set a model's parameters and buffers from a file.

    Parameters
    ----------
    model : Layer
        Nothing of it changes if there is an error.
    path : path
        As for :func:`read_weights`.
    strict : bool
        Whether the names of file and model must be the same.  False: what only one of them has
        is left as it is, as in PyTorch; shapes must agree all the same.
    skip : collection of str
        Layers, by their names, that keep their values, whatever the file holds; for example
        the last one, where the new task has other classes.

    Returns
    -------
    LoadedWeights
        What was kept, not used, and converted to the model's dtype.

    Raises
    ------
    CheckpointError
        As for :func:`read_weights`; or if names or shapes differ, or a number is not finite in the
        model's dtype.
    ConfigError
        If there is no layer of a name in `skip`.
    """
    arrays, _, types = _read(weights_file(path))
    own = model.state_dict()
    skipped = set()
    for layer in skip:
        inside = {name for name in own if name.startswith(f"{layer}.")}
        if not inside:
            layers = dict.fromkeys(name.rpartition(".")[0] for name in own)
            raise ConfigError(f"skip={layer!r}: expected layers with weights: {', '.join(layers)}")
        skipped |= inside
    given = {
        name: array
        for name, array in arrays.items()
        if name not in skipped and (name.rpartition(".")[2] != COUNTER or name in own)
    }
    missing = [name for name in own if name not in given]
    surplus = [name for name in given if name not in own]
    for name, array in given.items():
        if name.endswith("running_var") and (np.asarray(array) < 0).any():
            raise CheckpointError(f"{path}: {name} is a variance and has numbers below 0")
    if not strict:
        given = {name: array for name, array in given.items() if name in own}
    kept = {name: own[name] for name in (skipped if strict else missing)}
    try:
        model.load_state_dict({**given, **kept})
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    converted = {name: types[name] for name in given if types[name] != own[name].dtype}
    return LoadedWeights(missing, [] if strict else surplus, converted)


def checksum(path: str | Path) -> str:
    """SHA-256 of a weights file, in hexadecimal digits.

    Parameters
    ----------
    path : path
        As for :func:`read_weights`.

    Returns
    -------
    str

    Raises
    ------
    CheckpointError
        If it cannot be read.
    """
    path = weights_file(path)
    try:
        check_regular(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {path}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error


def weights_file(path: str | Path) -> Path:
    """The file itself, where a run's folder stands for its checkpoint."""
    path = Path(path)
    path = path / CHECKPOINT if path.is_dir() else path
    if path.suffix not in (".safetensors", ".npz"):
        raise CheckpointError(
            f"{path}: expected .safetensors, .npz, or the folder of a run; files of torch.save are "
            "pickled, which can run code, so minifbi does not read them: convert them in PyTorch "
            "with safetensors.torch.save_file(model.state_dict(), 'net.safetensors')"
        )
    return path


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str], dict[str, str]]:
    """Arrays, metadata, and the type in the file of each array."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        check_regular(path)
        with path.open("rb") as file:
            arrays = read_npz(file)
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {path}") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise CheckpointError(
            f"{path} is no .npz file of arrays as np.savez writes it, or it is damaged ({error})"
        ) from error
    if "meta" in arrays:  # a checkpoint of a run, which is sealed
        arrays = load_checkpoint(path)[0].get("parameters", {})
    return arrays, {}, {name: str(array.dtype) for name, array in arrays.items()}
