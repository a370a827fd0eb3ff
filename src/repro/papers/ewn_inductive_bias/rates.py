r"""How fast the loss falls: exponents that a look at the loss against time cannot tell apart.

A factor $\log^2 t$ is invisible over a few decades of $t$. Its derivative is not: along a flow,
$\frac{d}{dt}\frac1{\mathcal L} \asymp z^p$ with $p = 2$ for EWN at every depth and $p = 2 - 2/L$ for plain
and SWN networks of order $L$, and $\mathcal L \asymp 1/(t\log^p t)$.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["bound_ratio", "expected_exponent", "local_exponent"]

Array = NDArray[np.float64]


def expected_exponent(method: str, order: int) -> float:
    """Exponent p of the theory for a network of that order of homogeneity: 2 for EWN, else 2 - 2/order."""
    if order < 1:
        raise ValueError(f"the order of homogeneity must be at least 1, got {order}")
    if method not in ("plain", "swn", "ewn"):
        raise ValueError(f"unknown method {method!r}: accepted are plain, swn, ewn")
    return 2.0 if method == "ewn" else 2.0 - 2.0 / order


def local_exponent(z: Array, log_rate: Array, low: float, high: float) -> float:
    r"""Exponent $p = d\log(\frac{d}{dt}\mathcal L^{-1})/d\log z$, fitted over a range of $z$.

    Least squares of ``log_rate`` on $\log z$ over the points with ``low`` $\le z \le$ ``high``. Not to be
    confused with a fit of $\log\mathcal L$ on $\log t$, whose slope is near -1 for every method.

    Args:
        z: $-\log\mathcal L$, ``(n_points,)``.
        log_rate: $\log\frac{d}{dt}\mathcal L^{-1}$ at unit learning rate.
        low: smallest z of the fit.
        high: largest z of the fit.

    Returns:
        The slope; NaN if fewer than three points lie in the range or the path does not reach ``high``.

    Source: derived here (claim E10). Explained in: chapter ``ewn-inductive-bias``.
    """
    if not 0 < low < high:
        raise ValueError(f"the range of z must satisfy 0 < low < high, got {low} and {high}")
    inside = (z >= low) & (z <= high)
    if inside.sum() < 3 or z.max() < high:
        return float("nan")
    return float(np.polyfit(np.log(z[inside]), log_rate[inside], 1)[0])


def bound_ratio(z: Array, log_rate: Array, order: int, n_nodes: int) -> Array:
    r"""Rate of EWN flow over its lower bound, $\frac{d}{dt}\frac1{\mathcal L} \big/ \frac{L^2}{n} z^2 \ge 1$
    (derived in the chapter).

    By Cauchy-Schwarz over the n nodes and Euler's identity; for the exponential loss, from any time at which
    $\mathcal L < 1$, without assuming that any direction converges. Integrated, it gives
    $\mathcal L = O(1/(t\log^2 t))$ with explicit constants.

    Args:
        z: $-\log\mathcal L$, shape ``(n_points,)``.
        log_rate: $\log\frac{d}{dt}\mathcal L^{-1}$ at unit learning rate.
        order: degree of homogeneity L of the network.
        n_nodes: number of all trained nodes n, dead ones too.

    Returns:
        The ratio at every point with z > 0; NaN elsewhere, where the bound says nothing.
    """
    positive = z > 0
    ratio = np.full(z.shape, np.nan)
    ratio[positive] = np.exp(log_rate[positive] - 2 * np.log(z[positive])) * n_nodes / order**2
    return ratio
