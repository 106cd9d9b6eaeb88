"""The contract of a backend: where arrays live and how the heavy kernels run.

A backend offers an array module ``xp`` (NumPy's interface) for everything
elementwise, and these kernels:

====================  =========================================================
the closed trio       ``conv2d``, its transpose ``conv2d_transpose`` and the
                      weight gradient ``conv2d_weight``.  A layer with weights
                      needs no other linear map, forward, relevance and
                      backward included (see :mod:`minifbi.layers.conv`).
the same for dense    ``dense``, ``dense_transpose``, ``dense_weight``: three matrix products.
maximum pooling       ``max_pool2d`` with its winners, and the two maps that the
                      winners define: ``max_pool2d_scatter`` (what belongs to a
                      window goes to its winner) and ``max_pool2d_gather`` (the
                      transpose: each window reads its winner).
average pooling       ``avg_pool2d`` and its transpose.
channels              ``scale_shift`` and ``channel_sums``: a number per channel, multiplied
                      and added, and the sums that its gradients are.
fused kernels         ``conv2d_relu_pool``, ``relu_unpool``, ``bias_gradient``,
                      ``conv2d_gather``, ``l1_difference``, ``l1_difference_backward``,
                      ``add`` and ``multiply``: several of the above, or elementwise
                      steps, in one go.  They exist for speed only.  Their definition is the
                      composition that :class:`~minifbi.backends.numpy_backend.NumpyBackend`
                      spells out.
====================  =========================================================

All kernels take and return arrays of logical shape (N, C, H, W), and in one
floating dtype (float32 or float64).  The *memory order* of the result is the
backend's own choice, as with PyTorch's ``memory_format``: the numpy backend
keeps the batch first, the numba backend the batch last, the cupy backend the channel
first.

`stride`, `padding` and `kernel` are pairs (vertical, horizontal); a `window` is a
pooling's (kernel, stride, padding), or None where nothing is pooled.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minifbi.arguments import labels_of

Array = Any  # a NumPy or CuPy array; their common interface has no type of its own
Pair = tuple[int, int]
Window = tuple[Pair, Pair, Pair]


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Height and width of a convolution's or pooling's output (rounded down).

    Parameters
    ----------
    size, kernel, stride, padding : pair of int
        Input size, window, step and zero border, each (vertical, horizontal).

    Returns
    -------
    pair of int
        ``(size + 2 * padding - kernel) // stride + 1`` in each direction; not
        positive where the window does not fit.
    """
    return (
        (size[0] + 2 * padding[0] - kernel[0]) // stride[0] + 1,
        (size[1] + 2 * padding[1] - kernel[1]) // stride[1] + 1,
    )


class Backend(ABC):
    """What a backend offers.

    All kernels share these arguments:

    ======================  ==============================================================
    x, u                    maps (N, C, H, W), or samples (N, F), of one floating dtype
    weight                  kernels (O, C, kh, kw), or a matrix (O, F)
    bias                    (O,), or None
    z, g                    an output (N, O, OH, OW) or (N, O), and a gradient or ratio there
    a                       an output after ReLU and pooling, in its own shape
    winners                 places of maxima, in the shape of the pooled maps
    stride, padding         pairs (vertical, horizontal), as is `kernel`
    size                    (H, W) of the result, where that does not follow from the rest
    window                  a pooling's (kernel, stride, padding), or None
    array, dtype            anything that NumPy takes, and float32 or float64, or None
    ======================  ==============================================================

    A kernel returns a new array and changes none, but for `adam`.  Shapes are checked by the
    layers, before a kernel is called.

    Attributes
    ----------
    name : str
    xp : module
        With NumPy's interface.
    asynchronous : bool
    adam : callable, or None
    fuses : bool
    """

    name: str
    xp: Any
    #: Whether kernels are only queued when they are called, as on a GPU.  Whoever looks at a
    #: number then waits for all that was queued before it, so the trainer looks seldom.
    asynchronous: bool = False
    #: A kernel for the step of :class:`minifbi.optim.Adam`, if there is one.  It takes and gives
    #: what :func:`minifbi.optim.adam_step` does; `mean` and `square` are C-contiguous.
    adam: Callable[..., Array] | None = None
    #: Whether convolution, ReLU and pooling run faster as one kernel; :mod:`minifbi.fusion`
    #: rewrites models for such backends.
    fuses: bool = False

    def __repr__(self) -> str:
        return f"<minifbi backend {self.name!r}>"

    def warm(self) -> bool:
        """Whether the kernels are ready; if not, the first step has to compile them."""
        return True

    def images(self, array: Any, dtype: Any) -> Array:
        """Like :meth:`asarray`, for a batch of images, in the order that the kernels like best."""
        return self.asarray(array, dtype)

    def floats(self, array: Any, dtype: Any = None) -> Array:
        """Like :meth:`asarray`, for the numbers of a Tensor: float32 or float64.

        Parameters
        ----------
        array : array_like
            Floating arrays keep their dtype; integers, booleans and Python numbers become
            float64 unless `dtype` is given.
        dtype : float32 or float64, optional
            Of the result.

        Returns
        -------
        array, same shape
            Not copied where it need not be.

        Raises
        ------
        TypeError
            If the dtype is neither float32 nor float64.
        """
        if isinstance(array, np.ndarray) and not array.dtype.isnative:  # read from some files
            array = array.astype(array.dtype.newbyteorder("="))
        found = self.asarray(array, dtype)
        if found.dtype.kind in "iub":
            found = found.astype(np.float64)
        if found.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"a Tensor holds float32 or float64, not {found.dtype}; "
                f"convert the array first, for example with .astype(np.float32)"
            )
        return found

    def synchronize(self) -> None:  # noqa: B027  # nothing to do is the right thing on a CPU
        """Wait until all that was asked for is done (at once, unless asynchronous)."""

    def scalars(self, arrays: Sequence[Array]) -> list[float]:
        """Read `arrays` of shape (), all at once: where a host waits, it waits only once."""
        return [float(array) for array in arrays]

    def holds(self, array: Any) -> bool:
        """Whether an `array` is one of this backend's, and need not be brought to it."""
        return isinstance(array, self.xp.ndarray)

    def free_memory(self) -> int | None:
        """Bytes that arrays can still take, where that is not for the host to say."""
        return None

    def labels(self, labels: Any, batch: int, classes: int) -> Array:
        """Labels as an int64 array (N,), checked by :func:`minifbi.arguments.labels_of`.

        Labels that are on a device already come from a data set, which has checked that they are
        in range; to look at them there would make the host wait in each step.

        Parameters
        ----------
        labels : array_like of int
            Classes, 0 to `classes` - 1.
        batch : int
            How many there must be, N.
        classes : int
            The number of classes.

        Returns
        -------
        array of int64, shape (N,)

        Raises
        ------
        ShapeError
            If their number or type is wrong, or one is out of range.
        """
        there = self.asynchronous and self.holds(labels)
        checked = labels_of(labels, batch, classes, look=not there)
        return checked if there else self.asarray(checked)

    # ---- moving arrays ---------------------------------------------------------------
    @abstractmethod
    def asarray(self, array: Any, dtype: Any = None) -> Array:
        """Bring a NumPy `array` (or nested lists) to where this backend computes, as `dtype`."""

    @abstractmethod
    def to_numpy(self, array: Array) -> Any:
        """Bring one of this backend's arrays back as a NumPy array."""

    # ---- the closed trio -------------------------------------------------------------
    @abstractmethod
    def conv2d(self, x: Array, weight: Array, stride: Pair, padding: Pair) -> Array:
        """Cross-correlation: x (N, C, H, W), weight (O, C, kh, kw) -> (N, O, OH, OW)."""

    @abstractmethod
    def conv2d_transpose(
        self, g: Array, weight: Array, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        """Transpose of ``conv2d`` in x: g (N, O, OH, OW) -> (N, C, H, W), `size` = (H, W)."""

    @abstractmethod
    def conv2d_weight(self, x: Array, g: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        """Transpose of ``conv2d`` in its weight.

        x (N, C, H, W), g (N, O, OH, OW) -> (O, C, kh, kw).
        """

    @abstractmethod
    def dense(self, x: Array, weight: Array) -> Array:
        """Matrix product: x (N, F), weight (O, F) -> (N, O)."""

    @abstractmethod
    def dense_transpose(self, g: Array, weight: Array) -> Array:
        """Transpose of ``dense`` in x: g (N, O) -> (N, F)."""

    @abstractmethod
    def dense_weight(self, x: Array, g: Array) -> Array:
        """Transpose of ``dense`` in its weight: x (N, F), g (N, O) -> (O, F)."""

    # ---- pooling ---------------------------------------------------------------------
    @abstractmethod
    def max_pool2d(
        self, x: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> tuple[Array, Array]:
        """Maximum of each window, and the winner's place in it.

        Returns the maxima (N, C, OH, OW) and the winners, same shape, small
        unsigned integers ``row * kw + column`` inside the window; the first of
        equals wins, the padding never does, and NaN wins over everything.
        """

    @abstractmethod
    def max_pool2d_scatter(
        self, g: Array, winners: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        """Add g (N, C, OH, OW) at the winners' places in a map of zeros (N, C, H, W)."""

    @abstractmethod
    def max_pool2d_gather(
        self, x: Array, winners: Array, kernel: Pair, stride: Pair, padding: Pair
    ) -> Array:
        """Read x (N, C, H, W) at the winners' places: the transpose of the scatter."""

    @abstractmethod
    def avg_pool2d(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        """Mean of each window, the zeros of the padding counted (PyTorch's default)."""

    @abstractmethod
    def avg_pool2d_transpose(
        self, g: Array, kernel: Pair, stride: Pair, padding: Pair, size: Pair
    ) -> Array:
        """Transpose of ``avg_pool2d``: g (N, C, OH, OW) -> (N, C, H, W), `size` = (H, W)."""

    # ---- channels --------------------------------------------------------------------
    @abstractmethod
    def scale_shift(self, x: Array, scale: Array, shift: Array | None) -> Array:
        """x (N, C, H, W) times `scale` plus `shift`, one number of each per channel: (C,)."""

    @abstractmethod
    def channel_sums(self, g: Array, x: Array | None) -> tuple[Array, Array]:
        """Sums of g, and of g * x, over samples and pixels: (N, C, H, W) -> (C,), (C,).

        They are the gradients of ``scale_shift`` at its shift and its scale.  Without x the
        second is that of g.
        """

    # ---- fused kernels ---------------------------------------------------------------
    @abstractmethod
    def conv2d_relu_pool(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        stride: Pair,
        padding: Pair,
        window: Window | None,
    ) -> tuple[Array, Array | None]:
        """Convolution, bias, ReLU and, with a window, max-pooling.

        Returns the activations and the winners (None without a window).  Where a maximum
        is not above 0, the winner may be one that does not exist: nothing goes back from
        there.
        """

    @abstractmethod
    def relu_unpool(
        self, g: Array, a: Array, winners: Array | None, window: Window | None, size: Pair
    ) -> Array:
        """Way back through max-pooling and ReLU: ``g * (a > 0)``, scattered to the winners.

        `g` has the shape of `a`, which like the winners is what ``conv2d_relu_pool``
        returned; `size` is that of the map before the pooling.  The result is for this
        backend's ``conv2d_transpose`` and ``conv2d_weight``, and may be in a form that
        only they can read.
        """

    @abstractmethod
    def bias_gradient(self, g: Array, a: Array) -> Array:
        """Sum of ``g * (a > 0)`` over samples and pixels: (N, O, H, W) -> (O,)."""

    @abstractmethod
    def conv2d_gather(
        self,
        u: Array,
        weight: Array,
        stride: Pair,
        padding: Pair,
        a: Array,
        winners: Array | None,
        window: Window | None,
    ) -> Array:
        """Transpose of ``relu_unpool`` after a convolution of `u` (N, C, H, W).

        ``conv2d(u, weight)`` read at the winners, times ``a > 0``; the shape of `a`.
        """

    @abstractmethod
    def l1_difference(self, x: Array, ratio: Array) -> Array:
        """Sum of |x - x * ratio|: a term of Eq. (3), not yet divided; shape ()."""

    @abstractmethod
    def l1_difference_backward(self, x: Array, ratio: Array, scale: Array) -> tuple[Array, Array]:
        """Gradients of ``l1_difference`` at x and at the ratio, times `scale` of shape ().

        With sigma = sign(x - x * ratio) * scale they are sigma * (1 - ratio) and -sigma * x.
        """

    @abstractmethod
    def add(self, a: Array, b: Array) -> Array:
        """`a` + `b` of one shape: two gradients of one tensor, which may be large."""

    @abstractmethod
    def multiply(self, a: Array, b: Array) -> Array:
        """`a` * `b` of one shape: Eq. (2), and its gradients."""
