"""Many tests at once: corrections of p-values along one axis, for all other axes together.

The arithmetic is that of ``statsmodels.stats.multitest.multipletests``, which knows one family of tests and no
missing values; here 100,000 families take one sort, and a test that could not be made (NaN) is left out of its
family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from repro.series._inputs import real_numbers

__all__ = ["Correction", "benjamini_hochberg", "holm", "least_p", "storey"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Correction:
    r"""What is left of many tests after a correction; all arrays have the shape of the p-values.

    Attributes:
        rejected: whether ``adjusted`` is at most the level; False where the p-value is NaN.
        adjusted: smallest level at which the test would be rejected, in [0, 1]; NaN where the p-value is.
        null_share: share of true null hypotheses $\pi_0$ that the correction assumed, one a family (the
            axis has length 1): an estimate in Storey's procedure, 1 in the others.
    """

    rejected: NDArray[np.bool_]
    adjusted: Array
    null_share: Array


def holm(p: ArrayLike, level: float = 0.05, axis: int = -1) -> Correction:
    r"""Holm's step-down correction: the chance of any false rejection in a family is at most ``level``.

    For $p_{(1)}\le\dots\le p_{(m)}$: $\tilde p_{(k)}=\min\{1,\ \max_{j\le k}\,(m-j+1)\,p_{(j)}\}$. Valid under
    any dependence. Not the false-discovery rate: see ``benjamini_hochberg``.

    Args:
        p: p-values in [0, 1], any shape; NaN, or a mask, means untestable: not counted in m, never rejected.
        level: family-wise error rate, strictly between 0 and 1.
        axis: the axis along which the family runs.

    Returns:
        ``Correction`` in the shape of ``p``.

    Raises:
        ValueError: a p-value or a level out of range, no axis, or an axis that is not there.
        TypeError: values that are not real numbers.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    families, level = _checked(p, level, "level", axis)

    def step_down(ordered: Array, rank: Array, m: Array) -> Array:
        return np.maximum.accumulate(ordered * (m - rank + 1), axis=-1)

    return _corrected(families, level, axis, step_down)


def benjamini_hochberg(p: ArrayLike, q: float = 0.05, axis: int = -1) -> Correction:
    r"""Benjamini and Hochberg's step-up correction: the expected share of false rejections is at most ``q``.

    $\tilde p_{(k)}=\min_{j\ge k} \min\{1,\ \tfrac mj\,p_{(j)}\}$. Valid for independent and for positively
    dependent tests. Not a bound on the chance of any false rejection: see ``holm``.

    Args:
        p: p-values in [0, 1], any shape; NaN, or a mask, means untestable: not counted in m, never rejected.
        q: false-discovery rate, strictly between 0 and 1.
        axis: the axis along which the family runs.

    Returns:
        ``Correction`` in the shape of ``p``.

    Raises:
        ValueError: a p-value or a rate out of range, no axis, or an axis that is not there.
        TypeError: values that are not real numbers.

    Source: Y. Benjamini, Y. Hochberg, J. R. Statist. Soc. B 57 (1995) 289-300.
    """
    families, q = _checked(p, q, "q", axis)
    return _corrected(families, q, axis, _step_up)


def storey(p: ArrayLike, q: float = 0.05, lambda_: float = 0.5, axis: int = -1) -> Correction:
    r"""Storey's q-values: Benjamini and Hochberg's, times an estimate of the share of true nulls.

    $\hat\pi_0=\min\{1,\ \frac{1+\#\{p_i>\lambda\}}{(1-\lambda)\,m}\}$, for true nulls have uniform p-values and
    fill the interval above $\lambda$. $\tilde p_{(k)}=\min_{j\ge k}\min\{1,\ \hat\pi_0\tfrac mj\,p_{(j)}\}$ over
    p-values up to $\lambda$; those above are adjusted to 1. The 1 in the numerator gives control in finite
    samples (independent tests); the estimate without it is 0, and rejects everything, when no p-value lies
    above $\lambda$. Tests that are conservative or too eager under the null distort the estimate.

    Args:
        p: p-values in [0, 1], any shape; NaN, or a mask, means untestable: not counted in m, never rejected.
        q: false-discovery rate, strictly between 0 and 1.
        lambda_: $\lambda$, where the nulls are counted from, strictly between 0 and 1.
        axis: the axis along which the family runs.

    Returns:
        ``Correction`` in the shape of ``p``, with the estimates in ``null_share``.

    Raises:
        ValueError: a p-value, a rate or lambda out of range, no axis, or an axis that is not there.
        TypeError: values that are not real numbers.

    Source: J. D. Storey, J. R. Statist. Soc. B 64 (2002) 479-498; the finite-sample form is theorem 3 of
    Storey, Taylor, Siegmund, J. R. Statist. Soc. B 66 (2004) 187-205.
    """
    families, q = _checked(p, q, "q", axis)
    if not 0 < lambda_ < 1:
        raise ValueError(f"lambda_ must lie strictly between 0 and 1, got {lambda_}")
    tested = np.maximum(np.isfinite(families).sum(axis=-1, keepdims=True), 1)
    above = (families > lambda_).sum(axis=-1, keepdims=True)
    share = np.minimum(1.0, (1 + above) / ((1 - lambda_) * tested))

    def step_up(ordered: Array, rank: Array, m: Array) -> Array:
        return share * _step_up(np.where(ordered > lambda_, np.inf, ordered), rank, m)

    return _corrected(families, q, axis, step_up, share)


def least_p(p: ArrayLike, axis: int = -1) -> Array:
    r"""Return the least p-value of each family, $p^\star=\min_L p_L$; NaN where any of them is NaN.

    This is not a p-value. A p-value falls below $\alpha$ with a chance of at most $\alpha$ under the null
    hypothesis; the least of L independent ones does so with a chance of $1-(1-\alpha)^L$ (L = 14 lags, $\alpha$ =
    0.05: 0.51), and of L dependent ones with a chance between $\alpha$ and $L\alpha$. A valid one is the least of
    ``holm(p).adjusted``, which is $\min(1,L\,p^\star)$.

    Args:
        p: p-values in [0, 1], any shape, such as ``(N, L)``: N series, L lags.
        axis: the axis along which the family runs; at least one p-value long.

    Returns:
        The shape of ``p`` without the axis.

    Raises:
        ValueError: a p-value out of range, no axis, an empty axis, or an axis that is not there.
        TypeError: values that are not real numbers.
    """
    families = _families(p, axis)
    if families.shape[-1] == 0:
        raise ValueError(f"the least of no p-values is undefined: the shape is {np.shape(p)}, axis {axis}")
    least: Array = families.min(axis=-1)
    return least


def _families(p: ArrayLike, axis: int) -> Array:
    found = real_numbers(p, "p")
    values = (
        found.to("cpu", torch.float64).numpy()
        if isinstance(found, torch.Tensor)
        else found.astype(np.float64)
    )
    if not -values.ndim <= axis < values.ndim:
        raise ValueError(f"p-values of shape {values.shape} have no axis {axis}")
    wrong = (values < 0) | (values > 1)
    if wrong.any():
        raise ValueError(f"p-values lie in [0, 1] or are NaN, got {values[wrong][0]}")
    return np.moveaxis(values, axis, -1)


def _checked(p: ArrayLike, level: float, name: str, axis: int) -> tuple[Array, float]:
    if not isinstance(level, Real) or not 0 < level < 1:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {level}")
    return _families(p, axis), float(level)


def _step_up(ordered: Array, rank: Array, m: Array) -> Array:
    # a missing p-value must not lower those before it
    raw = np.where(rank > m, np.inf, ordered / (rank / m))
    raised: Array = np.minimum.accumulate(raw[..., ::-1], axis=-1)[..., ::-1]
    return raised


def _corrected(
    families: Array,
    level: float,
    axis: int,
    adjust: Callable[[Array, Array, Array], Array],
    share: Array | None = None,
) -> Correction:
    """Sort each family (last axis; NaN comes last), adjust in that order, and put everything back."""
    order = np.argsort(families, axis=-1)
    m = np.maximum(np.isfinite(families).sum(axis=-1, keepdims=True), 1).astype(np.float64)
    rank = np.arange(1.0, families.shape[-1] + 1)
    raw = adjust(np.take_along_axis(families, order, axis=-1), rank, m)
    adjusted = np.empty_like(families)
    np.put_along_axis(adjusted, order, np.minimum(raw, 1.0), axis=-1)
    adjusted[np.isnan(families)] = np.nan
    adjusted = np.moveaxis(adjusted, -1, axis)
    null_share = np.ones((*families.shape[:-1], 1)) if share is None else share
    return Correction(adjusted <= level, adjusted, np.moveaxis(null_share, -1, axis))
