"""Checks of the exercises in 10_on_the_gpu."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

import checks
from checks import Verdict


# ---- exercise 1 --------------------------------------------------------------------------
class _NotGeneric(TypeError):
    """A NumPy function or array met an array of the stand-in."""


class _Device:
    """An array that only its own module's functions take; as strict as CuPy's."""

    def __init__(self, array: Any) -> None:
        self._inside = np.asarray(array)

    shape = property(lambda self: self._inside.shape)
    ndim = property(lambda self: self._inside.ndim)
    size = property(lambda self: self._inside.size)
    dtype = property(lambda self: self._inside.dtype)
    T = property(lambda self: _Device(self._inside.T))

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise _NotGeneric("a function of NumPy was called with an array of the device")

    __array__ = __array_function__ = __array_ufunc__ = _refuse

    def _look(self) -> Any:
        raise _NotGeneric("a number was looked at: the host would have to wait for the device")

    __float__ = __int__ = __bool__ = _look

    def __len__(self) -> int:
        return len(self._inside)

    def __getitem__(self, key: Any) -> _Device:
        return _Device(self._inside[key])

    def __iter__(self) -> Any:
        return (self[k] for k in range(len(self)))

    def __neg__(self) -> _Device:
        return _Device(-self._inside)


def _unwrap(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim:
        raise _NotGeneric("an array of NumPy met one of the device")
    if isinstance(value, (list, tuple)):
        return type(value)(_unwrap(one) for one in value)
    return value._inside if isinstance(value, _Device) else value


def _operator(name: str) -> Any:
    return lambda self, other: _Device(getattr(self._inside, name)(_unwrap(other)))


for _name in ("add", "sub", "mul", "truediv", "pow"):
    for _side in ("", "r"):
        setattr(_Device, f"__{_side}{_name}__", _operator(f"__{_side}{_name}__"))


def _function(name: str) -> Any:
    def function(*arguments: Any, **options: Any) -> _Device:
        inside = {key: _unwrap(value) for key, value in options.items()}
        return _Device(getattr(np, name)(*[_unwrap(one) for one in arguments], **inside))

    return function


def _method(name: str) -> Any:
    return lambda self, *a, **o: _Device(getattr(self._inside, name)(*a, **o))


for _name in ("max", "sum", "mean", "min", "reshape", "transpose", "astype", "copy"):
    setattr(_Device, _name, _method(_name))

_FUNCTIONS = """exp log sum max amax maximum mean expand_dims subtract divide true_divide stack
    concatenate zeros zeros_like ones ones_like reshape array asarray power broadcast_to
    empty_like""".split()
DEVICE = SimpleNamespace(
    newaxis=None, float32=np.float32, float64=np.float64, e=np.e,
    **{name: _function(name) for name in _FUNCTIONS},
)  # fmt: skip


class _Numpy(ModuleType):
    """NumPy, called by its name in messages rather than by its folder."""

    def __repr__(self) -> str:
        return "numpy"


NUMPY = _Numpy("numpy")
NUMPY.__dict__.update(vars(np))


def softmax(answer: Any) -> Verdict:
    """Softmax over rows, on any kind of array."""

    def reference(xp: Any, z: Any) -> Any:
        powers = np.exp(z - z.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def over_columns(xp: Any, z: Any) -> Any:
        return reference(xp, z.T).T

    def over_all(xp: Any, z: Any) -> Any:
        powers = np.exp(z - z.max())
        return powers / powers.sum()

    cases = [np.array([[0.0, 1.0]]), np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]])]
    with np.errstate(all="ignore"):
        verdict = checks.function(
            answer,
            reference,
            [(NUMPY, z) for z in (*cases, np.array([[1000.0, 999.0], [-800.0, 0.0]]))],
            "softmax",
            hint="Look at large numbers: e to the power of 1000 is infinite. Subtract the maximum "
            "of each row.",
            typical=[
                (over_columns, "each *row* is to sum up to 1: axis=1."),
                (over_all, "each row is to sum up to 1 by itself: axis=1, keepdims=True."),
                (
                    lambda xp, z: np.exp(z),
                    "those are the numerators; divide each row by its sum.",
                ),
            ],
        )
    if not verdict.ok:
        return verdict
    try:
        found = answer(DEVICE, _Device(cases[1]))
    except _NotGeneric as error:
        return Verdict(False, f"right on NumPy, but not generic: {error}. Use xp and methods only.")
    except AttributeError as error:
        return Verdict(
            False, f"right on NumPy; but the stand-in says: {error}. Simpler means will do."
        )
    except Exception as error:
        return Verdict(False, f"right on NumPy; on the stand-in {type(error).__name__}: {error}.")
    if not isinstance(found, _Device):
        return Verdict(
            False, f"on the stand-in it returned {type(found).__name__}, not one of its arrays."
        )
    return checks.values(
        found._inside,
        reference(np, cases[1]),
        "the result on the stand-in",
        praise="right, and generic: it would run on a GPU as it stands.",
    )


# ---- exercise 2 --------------------------------------------------------------------------
class _Clockwork:
    """A device and a clock on which time passes as told, and not otherwise."""

    ORDER, RUN, COMPILE, LEFT = 0.001, 0.5, 3.0, 20.0  # seconds

    def __init__(self) -> None:
        self.now = 100.0
        self.busy_until = self.now + self.LEFT  # somebody else's work
        self.runs = 0

    def task(self) -> None:
        self.now += self.ORDER + (self.COMPILE if self.runs == 0 else 0)
        self.busy_until = max(self.busy_until, self.now) + self.RUN
        self.runs += 1

    def synchronize(self) -> None:
        self.now = max(self.now, self.busy_until)

    def clock(self) -> float:
        return self.now


def measure(answer: Any) -> Verdict:
    """Seconds of one run on a device with a queue."""
    world = _Clockwork()
    got, failed = checks.call(answer, (world.task, world.synchronize, world.clock), "measure")
    if failed is not None:
        return failed
    if world.runs == 0:
        return Verdict(False, "the task never ran: call task().")
    try:
        got = float(got)
    except (TypeError, ValueError):
        return Verdict(False, f"expected a number of seconds, got {got!r:.40}.")
    one = world.ORDER + world.RUN
    shown = f"you found {checks.number(got, 4)} s; one run takes {one} s here"
    if abs(got - one) < 0.01:
        return Verdict(
            True,
            "right: nothing of others on your clock, all of your own, and the compiler before it.",
        )
    if got < 0:
        return Verdict(False, f"{shown}: later minus earlier.")
    if got < 0.1:
        return Verdict(
            False, f"{shown}. That is the time to *order* it: wait before you stop the clock."
        )
    if got > world.LEFT / 2:
        return Verdict(
            False, f"{shown}. There was work in the queue before: wait before you start the clock."
        )
    if got >= world.COMPILE:
        return Verdict(False, f"{shown}. The first run compiles: let one run before the clock.")
    return Verdict(
        False, f"{shown}. How many runs are on your clock, and is the queue empty when it starts?"
    )


# ---- exercise 3 --------------------------------------------------------------------------
def place_of(answer: Any) -> Verdict:
    """Element number to indices."""

    def reference(i: int, *shape: int) -> tuple[int, ...]:
        return tuple(int(k) for k in np.unravel_index(i, shape))

    def other_order(*order: int) -> Any:
        def wrong(i: int, *shape: int) -> tuple[int, ...]:
            found = reference(i, *[shape[axis] for axis in order])
            return tuple(found[order.index(axis)] for axis in range(4))

        return wrong

    cases = [
        (0, 2, 3, 4, 5),
        (3, 2, 3, 4, 5),
        (7, 2, 3, 4, 5),
        (59, 2, 3, 4, 5),
        (61, 2, 3, 4, 5),
        (119, 2, 3, 4, 5),
        (1234, 16, 8, 7, 7),
    ]
    return checks.function(
        answer,
        reference,
        cases,
        "place_of",
        hint="From fast to slow: the remainder of i / W is x; what is left, i // W, counts rows.",
        praise="right. `i = ((c * N + n) * H + y) * W + x` is the way back.",
        typical=[
            (other_order(1, 0, 2, 3), "that is the order (N, C, H, W); here the channel is first."),
            (other_order(0, 1, 3, 2), "rows and columns are exchanged: x changes fastest."),
            (other_order(3, 2, 1, 0), "the wrong way round: the *last* axis changes fastest."),
            (
                lambda i, *shape: (*reference(i, *shape)[:2], i // shape[3], i % shape[3]),
                "i // W counts the rows of *all* maps: which row is it in its own map?",
            ),
        ],
    )


# ---- exercise 4 --------------------------------------------------------------------------
class _Watched:
    """Memory that knows who has written where, and how far it reaches."""

    def __init__(self, size: int) -> None:
        self.values = np.full(size, np.nan)
        self.writers: dict[int, set[int]] = {}
        self.thread = 0

    def __len__(self) -> int:
        return len(self.values)

    def _place(self, place: Any) -> int:
        if not isinstance(place, (int, np.integer)):
            raise TypeError(f"out[{place!r:.20}]: a thread writes one element, by its number")
        if not 0 <= place < len(self.values):
            raise IndexError(f"out[{place}] is outside of memory: it has {len(self.values)} places")
        return int(place)

    def __setitem__(self, place: Any, value: Any) -> None:
        place = self._place(place)
        self.writers.setdefault(place, set()).add(self.thread)
        self.values[place] = value

    def __getitem__(self, place: Any) -> float:
        return float(self.values[self._place(place)])


class _ReadOnly(_Watched):
    """Memory that may only be read."""

    def __init__(self, values: Any) -> None:
        super().__init__(len(values))
        self.values = values

    def __setitem__(self, place: Any, value: Any) -> None:
        raise TypeError("x is only read")

    def _place(self, place: Any) -> int:
        try:
            return super()._place(place)
        except (IndexError, TypeError) as error:
            raise type(error)(str(error).replace("out[", "x[").replace("writes", "reads")) from None


def avg_pool(answer: Any) -> Verdict:
    """Average pooling, one thread at a time."""
    rng = np.random.default_rng(5)
    launches = [(1, 4, 4, 2, 1, 1), (3, 4, 6, 2, 2, 4), (2, 9, 6, 3, 5, 2), (2, 4, 4, 2, 8, 8)]
    for planes, height, width, size, grid, block in launches:
        x = rng.random(planes * height * width)
        windows = x.reshape(planes, height // size, size, width // size, size)
        expected = windows.mean(axis=(2, 4)).ravel()
        for order in (1, -1):
            out = _Watched(len(expected))
            threads = grid * block
            for thread in range(threads)[::order]:
                out.thread = thread
                given = (thread, threads, _ReadOnly(x), out, planes, height, width, size)
                try:
                    result = answer(*given)
                except Exception as error:
                    if "ellipsis" in str(error):
                        return Verdict(False, "there still is a `...` in it: write the body.")
                    return Verdict(
                        False, f"thread {thread} raised {type(error).__name__}: {error}."
                    )
                if result is Ellipsis:
                    return Verdict(False, "avg_pool returned `...`: write its body.")
            where = f"with {planes} maps of {height} x {width}, K={size}, {threads} thread(s)"
            if not out.writers:
                return Verdict(False, f"{where}: no thread wrote anything into out.")
            several = [place for place, who in out.writers.items() if len(who) > 1]
            if several:
                return Verdict(
                    False,
                    f"{where}: out[{several[0]}] was written by "
                    f"{len(out.writers[several[0]])} threads. Thread `first` has the elements "
                    "first, first + stride, first + 2 * stride, ...",
                )
            missing = np.flatnonzero(np.isnan(out.values))
            if missing.size:
                return Verdict(
                    False,
                    f"{where}: out[{missing[0]}] was never written. How far does the loop go, and "
                    "in which steps?",
                )
            verdict = checks.values(
                out.values,
                expected,
                f"{where}: out",
                hint="Which plane, row and column of windows is number i? Its pixels begin at row "
                "oy * K and column ox * K of that plane.",
                typical=[
                    (expected * size * size, f"{where}: those are sums; a mean is asked for."),
                    (
                        windows[:, :, 0, :, 0].ravel() / size**2,
                        f"{where}: only one pixel of each window is in the mean.",
                    ),
                ],
            )
            if not verdict.ok:
                return verdict
    return Verdict(
        True,
        "right, whatever the grid, in whatever order the threads run: nobody waits for anyone.",
    )


# ---- exercise 5 --------------------------------------------------------------------------
def what_helps(answer: Any) -> Verdict:
    """What makes a step faster that is bound by launches."""
    return checks.choice(
        answer,
        "b",
        {
            "a": "the device needs 120 x 2 = 240 µs of a step, the host 120 x 10 = 1200 µs. Who "
            "waits for whom?",
            "b": "right. The host's 1200 µs decide, and the device's 240 µs are hidden behind "
            "them. With a batch of 64 they become 480 µs, still hidden: twice the images in the "
            "same time. (Fewer, fused kernels would help, too.)",
            "c": "the device rests already, most of the time. And who looks, waits: see section 3.",
        },
    )
