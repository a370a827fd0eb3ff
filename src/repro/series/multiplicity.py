r"""Many tests at once: p-values adjusted along one axis, for all other axes together.

An adjusted p-value is the smallest level at which its test would be rejected, in [0, 1]: compare it with the level.
The arithmetic is that of ``statsmodels.stats.multitest.multipletests``, which knows one family of tests and no
missing values; here 100,000 families take one sort, and a test that could not be made (NaN) is left out of its
family.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repro.series._inputs import Array, real_numbers


def holm(p: ArrayLike, axis: int = -1) -> Array:
    r"""Holm's step-down correction: the chance of any false rejection in a family is at most the level.

    For $p_{(1)}\le\dots\le p_{(m)}$: $\tilde p_{(k)}=\min\{1,\ \max_{j\le k}\,(m-j+1)\,p_{(j)}\}$. Valid under
    any dependence. Not the false-discovery rate: see ``benjamini_hochberg``.

    Args:
        p: p-values in [0, 1], any shape; NaN, or a mask, means untestable: not counted in m, and NaN again.
        axis: the axis along which the family runs.

    Returns:
        Adjusted p-values in the shape of ``p``.

    Raises:
        ValueError: a p-value out of range, no axis, or an axis that is not there.
        TypeError: values that are not real numbers.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    ordered, order, m = _sorted(p, axis)
    factors = m - np.arange(ordered.shape[-1])
    return _put_back(np.maximum.accumulate(ordered * factors, axis=-1), order, axis)


def benjamini_hochberg(p: ArrayLike, axis: int = -1) -> Array:
    r"""Benjamini and Hochberg's step-up correction: the expected share of false rejections is at most the level.

    $\tilde p_{(k)}=\min_{j\ge k} \min\{1,\ \tfrac mj\,p_{(j)}\}$. Valid for independent and for positively
    dependent tests. Not a bound on the chance of any false rejection: see ``holm``.

    Args:
        p: p-values in [0, 1], any shape; NaN, or a mask, means untestable: not counted in m, and NaN again.
        axis: the axis along which the family runs.

    Returns:
        Adjusted p-values in the shape of ``p``.

    Raises:
        ValueError: a p-value out of range, no axis, or an axis that is not there.
        TypeError: values that are not real numbers.

    Source: Y. Benjamini, Y. Hochberg, J. R. Statist. Soc. B 57 (1995) 289-300.
    """
    ordered, order, m = _sorted(p, axis)
    rank = np.arange(1.0, ordered.shape[-1] + 1)
    raw = ordered / (rank / m)
    return _put_back(np.fmin.accumulate(raw[..., ::-1], axis=-1)[..., ::-1], order, axis)


def _sorted(p: ArrayLike, axis: int) -> tuple[Array, NDArray[np.intp], Array]:
    """Each family along the last axis in rising order, NaN last; the order; the number that is there."""
    values = real_numbers(p, "p").astype(np.float64)
    if not -values.ndim <= axis < values.ndim:
        raise ValueError(f"p-values of shape {values.shape} have no axis {axis}")
    wrong = (values < 0) | (values > 1)
    if wrong.any():
        raise ValueError(f"p-values lie in [0, 1] or are NaN, got {values[wrong][0]}")
    families = np.moveaxis(values, axis, -1)
    order = np.argsort(families, axis=-1)
    m = np.maximum(np.isfinite(families).sum(axis=-1, keepdims=True), 1).astype(np.float64)
    return np.take_along_axis(families, order, axis=-1), order, m


def _put_back(adjusted: Array, order: NDArray[np.intp], axis: int) -> Array:
    """The adjusted values where their tests stand; what is missing comes last, and stays so."""
    found = np.empty_like(adjusted)
    np.put_along_axis(found, order, np.minimum(adjusted, 1.0), axis=-1)
    return np.moveaxis(found, -1, axis)
