r"""Points of an affine set $\{x: Zx=y\}$ that are least in some sense, and the LASSO: where flows are said to end.

To ask for the point with the same predictions as some weights x, pass $y = Zx$.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog

from repro._extras import require
from repro.geometry._checks import check_finite, check_positive, checked_problem
from repro.geometry.potentials import conjugate, inverse_mirror_map

__all__ = ["lasso", "least_l1", "least_l2", "least_potential"]

Array = NDArray[np.float64]

_MAX_STEPS = 200
_ROUND_OFF = 1e-14
_RATIO = 1e3
"""Factor between the scales that lead from an easy problem to one of a small scale."""


def least_potential(Z: ArrayLike, y: ArrayLike, a: ArrayLike, c: ArrayLike = 0.0) -> Array:
    r"""The interpolator of least hyperbolic entropy, $\arg\min_{Zx=y}\sum_iR_{a_i}(x_i)$.

    By damped Newton steps on the dual, $\min_\nu\sum_i\frac{a_i}2\cosh(2(Z^\top\nu)_i+c_i)-y^\top\nu$, with
    $x = a\sinh(2Z^\top\nu+c)$. A small scale is approached from larger ones. Not the limit of a flow by construction:
    that it is one, for $a=a_\infty$, is the theorem to be checked.

    Args:
        Z: inputs, ``(d, n)``; rows may depend on each other.
        y: targets, ``(d,)``.
        a: scale, positive, one or ``(n,)``.
        c: centre, one or ``(n,)``, as in :func:`repro.geometry.potentials.hyperbolic_entropy`.

    Returns:
        x, ``(n,)``.

    Raises:
        ValueError: no x solves $Zx=y$; a scale that is not positive; shapes that do not fit; values not finite.
        RuntimeError: the residual stays above 1e-8 of its terms.
    """
    Z, y = checked_problem(Z, y)
    n = Z.shape[1]
    scale, centre = _vector(a, n, "a"), _vector(c, n, "c")
    check_positive(a=scale)
    rows, targets = _orthonormal(Z, y)
    typical = np.abs(targets).max(initial=0.0)
    stages = max(0, int(np.ceil(np.log(max(typical, 1e-300) / scale.min()) / np.log(_RATIO))))
    nu = np.zeros(len(targets))
    for k in range(stages, -1, -1):
        nu = _newton(rows, targets, scale * _RATIO**k, centre, nu)
        reach = np.abs(2 * nu @ rows + centre).max(initial=0.0)
        if k and reach > 0:
            nu = nu * (1 + np.log(_RATIO) / reach)  # large entries grow by this much as the scale shrinks
    x = inverse_mirror_map(nu @ rows, scale, centre)
    if (residual := np.abs(Z @ x - y).max()) > 1e-8 * (np.abs(Z) @ np.abs(x) + np.abs(y)).max():
        raise RuntimeError(f"the dual could not be solved: a residual of {residual:.1e} is left")
    return x


def least_l1(Z: ArrayLike, y: ArrayLike) -> Array:
    r"""An interpolator of least $L_1$ norm, $\arg\min_{Zx=y}\|x\|_1$, by SciPy's linear programming (HiGHS).

    Unique for almost every Z; otherwise one vertex of the set of solutions.

    Args:
        Z: inputs, ``(d, n)``.
        y: targets, ``(d,)``.

    Returns:
        x, ``(n,)``, with at most d entries that are not zero.

    Raises:
        ValueError: no x solves $Zx=y$; shapes that do not fit; values that are not finite.
        RuntimeError: the solver gives up.
    """
    Z, y = checked_problem(Z, y)
    rows, targets = _orthonormal(Z, y)
    if not len(targets):
        return np.zeros(Z.shape[1])
    unit = np.abs(targets).max() or 1.0
    result = linprog(
        np.ones(2 * Z.shape[1]),
        A_eq=np.hstack([rows, -rows]),
        b_eq=targets / unit,
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if result.x is None:
        raise RuntimeError(f"the linear program could not be solved: {result.message}")
    positive, negative = np.split(result.x, 2)
    return unit * (positive - negative)


def least_l2(Z: ArrayLike, y: ArrayLike, centre: ArrayLike = 0.0) -> Array:
    r"""The interpolator closest to a centre, $\arg\min_{Zx=y}\|x-x_c\|_2 = x_c+Z^+(y-Zx_c)$.

    Args:
        Z: inputs, ``(d, n)``.
        y: targets, ``(d,)``.
        centre: $x_c$, a point ``(n,)`` or one number for all coordinates. Not the centre c of a potential; its
            minimum lies at $e^{-4A}x_0$.

    Returns:
        x, ``(n,)``.

    Raises:
        ValueError: no x solves $Zx=y$; shapes that do not fit; values that are not finite.
    """
    Z, y = checked_problem(Z, y)
    rows, targets = _orthonormal(Z, y)
    start = _vector(centre, Z.shape[1], "centre")
    return start + (targets - rows @ start) @ rows


def lasso(Z: ArrayLike, y: ArrayLike, penalty: float) -> Array:
    r"""The LASSO, $\arg\min_x\frac1{2d}\|Zx-y\|^2+\lambda\|x\|_1$, by scikit-learn's coordinate descent.

    Weight decay of constant strength $\alpha$ on both factors has its fixed points at $\lambda=2\alpha$.

    Args:
        Z: inputs, ``(d, n)``; no intercept is added.
        y: targets, ``(d,)``.
        penalty: $\lambda>0$, in units of f per unit of x.

    Returns:
        x, ``(n,)``.

    Raises:
        ValueError: a penalty that is not positive and finite; shapes that do not fit; values not finite.
    """
    Z, y = checked_problem(Z, y)
    if not 0 < penalty < np.inf:
        raise ValueError(f"penalty must be positive and finite; got {penalty}")
    require("papers", "sklearn")
    from sklearn.linear_model import Lasso

    return Lasso(penalty, fit_intercept=False, tol=1e-14, max_iter=1_000_000).fit(Z, y).coef_


def _newton(rows: Array, targets: Array, a: Array, c: Array, nu: Array) -> Array:
    """Minimiser of the dual from ``nu`` on; stops at round-off."""

    def dual(at: Array) -> tuple[float, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            mu = at @ rows
            x = inverse_mirror_map(mu, a, c)
            return float(conjugate(mu, a, c).sum() - targets @ at), x

    value, x = dual(nu)
    for _ in range(_MAX_STEPS):
        gradient = rows @ x - targets
        size = np.abs(gradient).max(initial=0.0)
        if size <= _ROUND_OFF * (np.abs(rows) @ np.abs(x)).max(initial=0.0):
            break
        hessian = (rows * (2 * np.hypot(x, a))) @ rows.T
        step = -np.linalg.lstsq(hessian, gradient)[0]
        slope, length = gradient @ step, 1.0
        while length > 1e-40:
            tried, tried_x = dual(nu + length * step)
            if np.isfinite(tried) and (
                tried < value + 1e-4 * length * slope or np.abs(rows @ tried_x - targets).max() < size
            ):
                break
            length /= 2
        else:
            break
        nu, value, x = nu + length * step, tried, tried_x
    return nu


def _orthonormal(Z: Array, y: Array) -> tuple[Array, Array]:
    """Orthonormal rows and targets of the same affine set; refuses an empty one."""
    u, s, rows = np.linalg.svd(Z, full_matrices=False)
    rank = int((s > s[0] * max(Z.shape) * np.finfo(np.float64).eps).sum())
    u, s, rows = u[:, :rank], s[:rank], rows[:rank]
    missed = np.abs(y - u @ (u.T @ y)).max()
    if missed > 1e-9 * np.abs(y).max():
        raise ValueError(
            f"no x solves Zx = y: Z has rank {rank} of {len(y)} rows, and y is off its range by {missed:.3g}"
        )
    return rows, u.T @ y / s


def _vector(values: ArrayLike, n: int, name: str) -> Array:
    values = np.asarray(values, dtype=np.float64)
    if values.shape not in ((), (n,)):
        raise ValueError(
            f"{name} must be one number or hold {n}, one a column of Z; got shape {values.shape}"
        )
    check_finite(**{name: values})
    return np.broadcast_to(values, (n,))
