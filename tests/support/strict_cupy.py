"""A stand-in for CuPy that needs no GPU, and is stricter than the real one.

``get_backend("cupy")`` computes on it in the tests of a machine without a card.  It behaves
like CuPy in what goes wrong most easily:

- its arrays are a class of their own; NumPy arrays are neither taken nor given without
  ``asarray`` or ``asnumpy`` (in indices they are, as CuPy does);
- it has no function that CuPy 14 has not, and few of those;
- a reduction gives an array of shape (), never a number, and looking at a number is counted
  (:data:`synchronizations`), as a GPU would have to be waited for;
- results of elementwise functions are C-contiguous, whatever the order of what went in;
- a raw kernel wants contiguous arrays of the declared dtype, and plain int and float;
- ``empty`` holds NaN.

The kernels themselves are replaced: :mod:`cupy_twins` has the same in NumPy, and
:mod:`cuda_on_cpu` the CUDA source compiled as C++.
"""

from __future__ import annotations

import contextlib
import re
from types import SimpleNamespace

import numpy as np

synchronizations = 0  # how often something looked at a number
uploads = 0  # how often something came from the host
launches: list[str] = []  # names of the raw kernels that ran
executor = None  # what runs a raw kernel: callable(module, name, grid, block, arguments)

ELEMENTWISE = """abs absolute add subtract multiply divide true_divide power exp log log1p sqrt
    tanh sign maximum minimum greater less isfinite isnan where clip square negative""".split()
OTHERS = """concatenate stack split expand_dims broadcast_to pad take_along_axis put_along_axis
    zeros_like ones_like empty_like full_like ascontiguousarray moveaxis tensordot matmul sum
    mean argmax take reshape transpose""".split()


class OutOfMemoryError(MemoryError):
    """As ``cupy.cuda.memory.OutOfMemoryError``."""


class CUDARuntimeError(RuntimeError):
    """As ``cupy.cuda.runtime.CUDARuntimeError``."""

    def __init__(self, status, text="cudaErrorUnknown: unknown error"):
        super().__init__(text)
        self.status = status


for _error in (OutOfMemoryError, CUDARuntimeError):
    _error.__module__ = "cupy_backends.cuda.api.runtime"


def _inner(value):
    """The NumPy array inside; TypeError for what CuPy refuses."""
    if isinstance(value, ndarray):
        return value._a
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, (list, tuple)):
        return type(value)(_inner(one) for one in value)
    return value


def _wrap(value, order=None):
    if isinstance(value, (list, tuple)):
        return type(value)(_wrap(one) for one in value)
    if isinstance(value, np.generic):
        value = np.array(value)
    if order == "C":
        value = np.array(value, order="C", copy=None if value.flags.c_contiguous else True)
    return ndarray(value) if isinstance(value, np.ndarray) else value


def _look():
    global synchronizations
    synchronizations += 1


class ndarray:
    """An array "on the device"."""

    __array_priority__ = 100

    def __init__(self, array):
        self._a = array

    def __array__(self, *_, **__):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to "
            "construct a NumPy array explicitly."
        )

    def __array_function__(self, function, *_):
        raise TypeError(f"numpy.{function.__name__} on a device array")

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        # NumPy's scalars are taken, as in np.float32(2) * array, and nothing else
        if method != "__call__" or options:
            return NotImplemented
        return _wrap(ufunc(*[_inner(one) for one in inputs]), "C")

    # ---- what it looks like, without waiting ----
    shape = property(lambda self: self._a.shape)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    dtype = property(lambda self: self._a.dtype)
    nbytes = property(lambda self: self._a.nbytes)
    itemsize = property(lambda self: self._a.itemsize)
    flags = property(lambda self: self._a.flags)
    T = property(lambda self: ndarray(self._a.T))

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    # ---- what waits ----
    def get(self):
        _look()
        return self._a.copy()

    def item(self):
        _look()
        return self._a.item()

    def tolist(self):
        return self.get().tolist()

    def __bool__(self):
        _look()
        return bool(self._a)

    def __float__(self):
        _look()
        return float(self._a)

    def __int__(self):
        _look()
        return int(self._a)

    def __repr__(self):
        return repr(self.get())

    def __str__(self):
        return str(self.get())

    __hash__ = None

    # ---- indexing ----
    def _index(self, key):
        keys = key if isinstance(key, tuple) else (key,)
        inner = []
        for one in keys:
            if isinstance(one, ndarray):
                if one.dtype.kind == "b":
                    _look()  # how many are True must be known
                one = one._a
            inner.append(one)
        if not any(one is Ellipsis for one in keys):
            inner.append(Ellipsis)  # so that a single element stays an array
        return tuple(inner)

    def __getitem__(self, key):
        return ndarray(self._a[self._index(key)])

    def __setitem__(self, key, value):
        self._a[self._index(key)] = _inner(value)

    # ---- methods ----
    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        return ndarray(self._a.astype(dtype, order=order, copy=copy))

    def reshape(self, *shape):
        return ndarray(self._a.reshape(*shape))

    def transpose(self, *axes):
        return ndarray(self._a.transpose(*axes))

    def swapaxes(self, a, b):
        return ndarray(self._a.swapaxes(a, b))

    def squeeze(self, axis=None):
        return ndarray(self._a.squeeze(axis))

    def ravel(self):
        return ndarray(self._a.ravel())

    def copy(self):
        return ndarray(self._a.copy(order="C"))

    def fill(self, value):
        self._a.fill(value)


def _method(name):
    def method(self, *args, **options):
        return _wrap(getattr(self._a, name)(*args, **options), "C")

    return method


for _name in ("sum", "mean", "max", "min", "argmax", "argmin", "all", "any", "prod"):
    setattr(ndarray, _name, _method(_name))


def _operator(name, in_place):
    def operator(self, other):
        if isinstance(other, (list, tuple)) or other is None:
            return NotImplemented
        result = getattr(self._a, name)(_inner(other))
        if result is NotImplemented:
            return result
        return self if in_place else _wrap(result, "C")

    return operator


for _name in "add sub mul truediv pow floordiv mod matmul and or xor".split():
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__", False))
    setattr(ndarray, f"__r{_name}__", _operator(f"__r{_name}__", False))
    if _name != "matmul":
        setattr(ndarray, f"__i{_name}__", _operator(f"__i{_name}__", True))
for _name in "eq ne lt le gt ge".split():
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__", False))
for _name in "neg pos abs invert".split():
    setattr(ndarray, f"__{_name}__", _method(f"__{_name}__"))


# ---- functions ---------------------------------------------------------------------------
def _function(name, elementwise):
    real = getattr(np, name)

    def function(*args, **options):
        result = real(*[_inner(one) for one in args], **{k: _inner(v) for k, v in options.items()})
        return _wrap(result, "C" if elementwise else None)

    if isinstance(real, np.ufunc):

        def at(array, index, values):
            real.at(array._a, array._index(index), _inner(values))

        function.at = at
    return function


globals().update({name: _function(name, True) for name in ELEMENTWISE})
globals().update({name: _function(name, False) for name in OTHERS})


def _from_host(value, dtype):
    if isinstance(value, (list, tuple)) and any(isinstance(one, ndarray) for one in value):
        return stack([asarray(one, dtype) for one in value])._a  # noqa: F821
    global uploads
    uploads += 1
    return np.array(value, dtype=dtype)


def array(value, dtype=None, copy=True, order="K"):
    if isinstance(value, ndarray):
        return ndarray(np.array(value._a, dtype=dtype, copy=copy, order=order))
    return ndarray(_from_host(value, dtype))


def asarray(value, dtype=None, order=None):
    if isinstance(value, ndarray):
        return value if dtype in (None, value.dtype) else value.astype(dtype)
    return ndarray(_from_host(value, dtype))


def asnumpy(value):
    return value.get() if isinstance(value, ndarray) else np.asarray(value)


def empty(shape, dtype=float, order="C"):
    dtype = np.dtype(dtype)
    if memory.limit is not None:
        asked = int(np.prod(shape)) * dtype.itemsize
        if memory.used + asked > memory.limit:
            raise OutOfMemoryError(
                f"Out of memory allocating {asked:,} bytes (allocated so far: {memory.used:,} "
                "bytes)."
            )
        memory.used += asked
    return ndarray(np.full(shape, np.nan if dtype.kind == "f" else 119, dtype))


def zeros(shape, dtype=float, order="C"):
    return ndarray(np.zeros(shape, dtype))


def ones(shape, dtype=float, order="C"):
    return ndarray(np.ones(shape, dtype))


def arange(start, stop=None, step=1, dtype=None):
    return ndarray(np.arange(start, stop, step, dtype=dtype))


def _sliding_window_view(x, window_shape, axis=None):
    return ndarray(np.lib.stride_tricks.sliding_window_view(x._a, window_shape, axis))


lib = SimpleNamespace(
    stride_tricks=SimpleNamespace(sliding_window_view=_sliding_window_view),
)


# ---- raw kernels ---------------------------------------------------------------------------
def signatures(code):
    """The parameters of every kernel of a CUDA source: {name: [(type, name), ...]}."""
    flat = re.sub(r"//[^\n]*", "", code).replace("\\\n", " ")
    for name, text in re.findall(r"^#define (\w+) (.*)$", flat, re.M):
        if name.isupper() and "(" not in text:
            flat = re.sub(rf"(?<!#define )\b{name}\b", text, flat)
    found = {}
    for name, parameters in re.findall(r"__global__ void (\w+)\(([^)]*)\)", flat):
        pairs = [one.strip().rsplit(" ", 1) for one in parameters.split(",")]
        found[name] = [(kind.replace("const ", ""), what) for kind, what in pairs]
    return found


class RawModule:
    """Kernels by name; a call checks its arguments, then :data:`executor` runs it."""

    def __init__(self, code, options=()):
        self.code = code
        self.real = re.search(r"typedef (\w+) T;", code)[1]
        self.index = re.search(r"typedef ([\w ]+) I;", code)[1]
        self.signatures = signatures(code)

    def get_function(self, name):
        parameters = self.signatures[name]

        def kernel(grid, block, arguments):
            for size, most in ((grid, 2**31 - 1), (block, 1024)):
                assert all(type(n) is int and 0 < n <= most for n in size), (name, size)
            assert len(arguments) == len(parameters), (name, len(arguments), parameters)
            dtypes = {"T*": {"float": "f", "double": "d"}[self.real], "unsigned*": "I"}
            for value, (kind, what) in zip(arguments, parameters, strict=True):
                place = (name, what, kind, type(value))
                if kind in dtypes:
                    assert isinstance(value, ndarray), place
                    assert value.dtype.char == dtypes[kind], (*place, value.dtype)
                    assert value.flags.c_contiguous, (*place, "is not contiguous")
                else:
                    assert type(value) is {"long long": int, "double": float}[kind], place
            launches.append(name)
            inner = [_inner(value) for value in arguments]
            executor(self, name, grid, block, inner)

        return kernel


# ---- the device ----------------------------------------------------------------------------
memory = SimpleNamespace(limit=None, used=0)


def _mem_info():
    total = memory.limit or 2**33
    return total - memory.used, total


def get_default_memory_pool():
    return SimpleNamespace(
        free_bytes=lambda: 0, used_bytes=lambda: memory.used, total_bytes=lambda: memory.used
    )


cuda = SimpleNamespace(
    get_current_stream=lambda: SimpleNamespace(synchronize=_look),
    runtime=SimpleNamespace(
        memGetInfo=_mem_info, getDeviceCount=lambda: 1, CUDARuntimeError=CUDARuntimeError
    ),
    memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
)


@contextlib.contextmanager
def limited(size):
    """A device of `size` bytes, whose memory is never given back."""
    memory.limit, memory.used = size, 0
    try:
        yield
    finally:
        memory.limit, memory.used = None, 0
