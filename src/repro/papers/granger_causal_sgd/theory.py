"""The regression of loss changes on squared steps solved to its end, which the authors' rule never comes near."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from celer import celer_path
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor


def ridge(x: Tensor, y: Tensor, penalties: Sequence[float]) -> Tensor:
    r"""Return $\hat\gamma = X^\top (XX^\top + \lambda I)^{-1} y$, with $\lambda$ relative to $XX^\top$.

    With X and y less their means, the minimum of $\lVert y - X\gamma\rVert^2 + \lambda\lVert\gamma\rVert^2$ at
    $\lambda = \text{penalty}\cdot\operatorname{tr}(XX^\top)/T$. Penalty 0 gives the limit: of all least-squares
    solutions the one of least norm.

    Args:
        x: squared weight changes ``(T, p)``, float64.
        y: loss changes ``(T,)``.
        penalties: A of them, relative to the mean squared length of a row, so that they have no unit; at least 0.

    Returns:
        ``(A, p)``.
    """
    x, y = x - x.mean(dim=0), y - y.mean()
    values, vectors = torch.linalg.eigh(x @ x.T)
    # directions without any length beyond rounding carry no information about y
    seen = values > len(y) * torch.finfo(torch.float64).eps * values[-1]
    shares = torch.tensor(penalties, dtype=torch.float64)[:, None]
    dual = (vectors.T @ y) / torch.where(seen, values + shares * values.clamp(min=0).mean(), torch.inf)
    return dual @ vectors.T @ x


def lasso(x: Tensor, y: Tensor, penalties: Sequence[float]) -> Tensor:
    r"""Return the coefficients of a Lasso that has converged on standardized columns, in the unit of x.

    The minimum of $\frac{1}{2T}\lVert \tilde y - Z\beta\rVert^2 + \alpha\lVert\beta\rVert_1$, where Z holds the columns
    of x with mean 0 and standard deviation 1, $\tilde y = y - \bar y$, and
    $\alpha = \text{penalty}\cdot\lVert Z^\top\tilde y\rVert_\infty / T$: at penalty 1 all coefficients are 0. Returned
    is $\gamma_k = \beta_k / s_k$, with $s_k$ the column's standard deviation, which predicts
    $\bar y + (x - \bar x)^\top\gamma$. Where no columns are alike, at most T coefficients differ from 0.

    The solver is celer's (working sets, dual extrapolation), to a duality gap of $10^{-5}\lVert\tilde y\rVert^2/T$; see
    ``benchmarks/README.md``.

    Args:
        x: squared weight changes ``(T, p)``.
        y: loss changes ``(T,)``.
        penalties: A shares of the least penalty that leaves nothing, in (0, 1], from the largest on.

    Returns:
        ``(A, p)``, float64. Constant columns have 0; all have where y is constant.

    Raises:
        ConvergenceWarning: the solver did not reach the gap; allow a larger penalty, or float64.
    """
    centered = x - x.mean(dim=0)
    scale = centered.square().mean(dim=0).sqrt()
    # what is left of a constant column is rounding, not variation
    constant = scale <= 1e-13 * x.abs().amax(dim=0)
    scale[constant] = torch.inf
    z = (centered / scale).T.contiguous().numpy().T  # column by column, as the solver wants it
    target = (y - y.mean()).to(x.dtype).numpy()
    largest = float(np.abs(z.T @ target).max()) / len(target)
    if largest <= torch.finfo(x.dtype).eps * float(y.abs().max()):
        return torch.zeros(len(penalties), x.shape[1], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        alphas = largest * np.array(penalties)
        _, path, _ = celer_path(z, target, "lasso", alphas=alphas, tol=1e-5, max_iter=200, prune=1)
    return torch.from_numpy(path.T.copy()).double() / scale
