"""A Lasso that has converged, on standardized columns: what the authors' regression would be if it were solved."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from celer import celer_path
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from repro.papers.granger_causal_sgd._pairs import check_pair, positive_numbers, standardized

__all__ = ["lasso"]

_BLOCK = 2**22  # numbers of a block of columns in float64: 32 MiB


def lasso(
    x: Tensor,
    y: Tensor,
    penalty: float | Sequence[float],
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
) -> Tensor:
    r"""Return the Lasso's coefficients on standardized columns, in the unit of x.

    The minimum of $\frac{1}{2T}\lVert \tilde y - Z\beta\rVert^2 + \alpha\lVert\beta\rVert_1$, where Z holds the columns
    of x with mean 0 and standard deviation 1, $\tilde y = y - \bar y$, and
    $\alpha = \text{penalty}\cdot\lVert Z^\top\tilde y\rVert_\infty / T$: at penalty 1 all coefficients are 0. Returned
    is $\gamma_k = \beta_k / s_k$, with $s_k$ the column's standard deviation, which predicts
    $\bar y + (x - \bar x)^\top\gamma$. Where no columns are alike, at most T coefficients differ from 0.

    The solver is celer's (working sets, dual extrapolation), without a copy of Z; see ``benchmarks/README.md``.

    Args:
        x: squared weight changes ``(..., T, p)``; float32 needs half the memory, beside x one copy of one network's.
        y: loss changes ``(..., T)``.
        penalty: share of the least penalty that leaves nothing, in (0, 1]; or A of them, solved from the largest on.
        tolerance: duality gap at which to stop, as a share of $\lVert\tilde y\rVert^2/T$. In float32 less than 1e-5
            cannot be reached.
        max_iterations: working sets to try at most.

    Returns:
        Coefficients ``(..., p)``, float64, or ``(A, ..., p)``. Constant columns have 0; all have where y is constant.

    Raises:
        ValueError: a penalty outside (0, 1], values that are not finite, shapes that do not fit.
        TypeError: not floating-point.
        RuntimeError: the solver did not reach the tolerance.

    Not to be confused with ``tg_lasso``, which does not standardize and stops far from the minimum.
    """
    check_pair(x, y)
    shares = positive_numbers("penalty", penalty)
    if max(shares) > 1:
        raise ValueError(
            f"penalty is a share of the least that leaves no coefficient, at most 1; got {max(shares)}"
        )
    positive_numbers("tolerance", tolerance)
    lead, (n_rows, p) = x.shape[:-2], x.shape[-2:]
    coefficients = np.empty((len(shares), math.prod(lead), p))
    for i, (rows, target) in enumerate(zip(x.reshape(-1, n_rows, p), y.reshape(-1, n_rows), strict=True)):
        coefficients[:, i] = _fit(rows, target, np.array(shares), tolerance, max_iterations)
    result = torch.from_numpy(coefficients).view(len(shares), *lead, p)
    return result if isinstance(penalty, Sequence) else result[0]


def _fit(
    x: Tensor, y: Tensor, shares: NDArray[np.float64], tolerance: float, max_iterations: int
) -> NDArray[np.float64]:
    """Fit one network ``(T, p)`` at A penalties; return ``(A, p)``."""
    z, scale = _standardized_columns(x)
    target = (y - y.mean()).to(x.dtype).numpy()
    largest = float(np.abs(z.T @ target).max()) / len(target)
    if largest <= torch.finfo(x.dtype).eps * float(y.abs().max()):
        return np.zeros((len(shares), x.shape[1]))
    falling = np.argsort(-shares)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            _, path, _ = celer_path(
                z, target, "lasso", alphas=largest * shares[falling], tol=tolerance, max_iter=max_iterations, prune=1
            )  # fmt: skip
        except ConvergenceWarning as warning:
            raise RuntimeError(
                f"the Lasso did not converge to tolerance {tolerance} in {max_iterations} working sets ({warning}); "
                "allow more, take a larger penalty or tolerance, or float64"
            ) from None
    coefficients = np.empty((len(shares), x.shape[1]))
    coefficients[falling] = path.T / scale
    return coefficients


def _standardized_columns(x: Tensor) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
    """Return Z with columns contiguous, in the dtype of x, and the scales ``(p,)``."""
    n_rows, p = x.shape
    z = torch.empty(p, n_rows, dtype=x.dtype)
    scales = torch.empty(p, dtype=torch.float64)
    width = max(1, _BLOCK // n_rows)
    for start in range(0, p, width):
        columns = slice(start, start + width)
        block, scale = standardized(x[:, columns].double())
        z[columns], scales[columns] = block.mT, scale[0]
    return z.numpy().T, scales.numpy()
