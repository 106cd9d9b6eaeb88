"""Two measures of sparsity over the rows of a matrix: Gini index and Hoyer sparsity.

Both use absolute values, do not change when all values are multiplied by the same number, and
are 0 where all values are equal.  They serve for activations and for attributions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minifbi.evaluate._common import divide

__all__ = ["gini_rows", "hoyer_rows"]


def gini_rows(values: NDArray[Any]) -> NDArray[np.float64]:
    """Gini index of the absolute values of each row.

    With the absolute values of a row in ascending order, c_1 <= ... <= c_n::

        G = 1 - 2 sum_k (c_k / sum_j c_j) * (n - k + 1/2) / n
          = sum_k (2k - n - 1) c_k / (n sum_k c_k)

    0 where all are equal, 1 - 1/n where all but one are 0; NaN for a row of zeros.

    Parameters
    ----------
    values : ndarray of float, shape (R, n)
        R rows of n signed values; each row is measured by itself.

    Returns
    -------
    ndarray of float64, shape (R,)

    References
    ----------
    Hurley and Rickard, "Comparing Measures of Sparsity", IEEE Trans. Information Theory 2009;
    for explanations: Chalasani et al., "Concise Explanations of Neural Networks using
    Adversarial Training", ICML 2020.
    """
    n = values.shape[1]
    out = np.empty(len(values))
    for row, signed in enumerate(values):
        # zeros come first in ascending order and add nothing, so they need not be sorted
        c = np.sort(np.abs(signed[signed != 0]))
        k = np.arange(n - len(c) + 1, n + 1, dtype=np.float64)
        total = c.sum(dtype=np.float64)
        out[row] = divide(((2 * k - n - 1) * c).sum(), n * total)
    return out


def hoyer_rows(values: NDArray[Any]) -> NDArray[np.float64]:
    """Hoyer's sparsity of each row: (sqrt(n) - |v|_1 / |v|_2) / (sqrt(n) - 1).

    0 where all absolute values are equal, 1 where all but one are 0; NaN for a row of zeros
    and for rows of one value.

    Parameters
    ----------
    values : ndarray of float, shape (R, n)
        R rows of n signed values; each row is measured by itself.

    Returns
    -------
    ndarray of float64, shape (R,)

    References
    ----------
    Hoyer, "Non-negative Matrix Factorization with Sparseness Constraints", JMLR 2004.
    """
    root = np.sqrt(values.shape[1])
    l1 = np.abs(values).sum(axis=1, dtype=np.float64)
    l2 = np.sqrt(np.square(values, dtype=np.float64).sum(axis=1))
    return np.asarray(divide(root - divide(l1, l2), root - 1))
