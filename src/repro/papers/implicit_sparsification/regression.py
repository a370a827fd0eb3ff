r"""The paper's toy problem: fewer samples than unknowns, and a truth with few non-zeros."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SparseRegression", "sparse_regression"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SparseRegression:
    r"""A noiseless linear regression $f(x)=\frac1{2d}\|Zx-y\|^2$ with $y=Zx^*$.

    Attributes:
        Z: samples, ``(d, n)``.
        y: targets, ``(d,)``.
        x_star: the truth, ``(n,)``.
        x0: where training starts, ``(n,)``.
    """

    Z: Array
    y: Array
    x_star: Array
    x0: Array

    def loss(self, x: Array) -> Array:
        r"""$f(x)=\frac1{2d}\|Zx-y\|^2$ for points ``(..., n)``, shape ``(...)``."""
        residual = x @ self.Z.T - self.y
        return np.vecdot(residual, residual) / (2 * len(self.y))

    def gradient(self, x: Array) -> Array:
        r"""$\nabla f(x)=\frac1d Z^\top(Zx-y)$ for points ``(..., n)``, same shape."""
        return (x @ self.Z.T - self.y) @ self.Z / len(self.y)

    def misfit(self, x: Array) -> float:
        r"""$\|Zx-y\|/\|y\|$ of one point ``(n,)``: 0 where it interpolates, 1 at the origin."""
        return float(np.linalg.norm(self.Z @ x - self.y) / np.linalg.norm(self.y))


def sparse_regression(
    seed: int, d: int = 40, n: int = 100, n_nonzero: int = 5, *, start_deviation: float | None = None
) -> SparseRegression:
    r"""Draw a problem: $z_j\sim N(0,I_n)$, $\|x^*\|_0$ as given, $x_0\sim N(0,\frac1{\sqrt n}I_n)$.

    The paper leaves the values of $x^*$ open: they are $\pm1$ here, with random signs, at random places.

    Args:
        seed: of everything drawn.
        d: samples.
        n: unknowns.
        n_nonzero: non-zero entries of the truth, 1 to n.
        start_deviation: standard deviation of the start. None takes $n^{-1/2}$ for its variance, as the paper's
            notation says, 0.316 for n = 100; the other reading is ``n ** -0.5``.

    Raises:
        ValueError: no samples, more non-zeros than unknowns, a deviation that is not positive.

    Source: section 4 of the paper's first version (its figures 1, 4 and 5).
    """
    if d < 1 or not 1 <= n_nonzero <= n:
        raise ValueError(
            f"a problem needs a sample and 1 to n non-zeros; got d = {d}, n = {n} and {n_nonzero} non-zeros"
        )
    deviation = n**-0.25 if start_deviation is None else start_deviation
    if not 0 < deviation < np.inf:
        raise ValueError(f"start_deviation must be positive and finite, got {start_deviation}")
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((d, n))
    x_star = np.zeros(n)
    x_star[rng.choice(n, n_nonzero, replace=False)] = rng.choice([-1.0, 1.0], n_nonzero)
    return SparseRegression(Z, Z @ x_star, x_star, deviation * rng.standard_normal(n))
