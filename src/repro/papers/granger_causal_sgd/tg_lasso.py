"""TG_LASSO: the truncated-gradient regression with which the authors' code decides which weights are causal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from repro.papers.granger_causal_sgd._pairs import check_pair, positive_numbers

__all__ = ["TgLasso", "tg_lasso"]

_LARGEST_GRADIENT = 1e12


@dataclass(frozen=True)
class TgLasso:
    r"""What TG_LASSO found.

    Attributes:
        coefficients: $\hat\gamma$ ``(..., p)``, float64; ``(A, ..., p)`` if several $\alpha$ were given.
        n_passes: passes over the rows, of the same shape without p.
    """

    coefficients: Tensor
    n_passes: Tensor

    @property
    def kept(self) -> Tensor:
        r"""Where $\hat\gamma_k \ne 0$: the weights that the rule calls causal and keeps."""
        return self.coefficients != 0


def tg_lasso(
    x: Tensor,
    y: Tensor,
    alpha: float | Sequence[float],
    *,
    stop: str = "authors",
    max_passes: int = 1000,
    tolerance: float = 1e-4,
    patience: int = 2,
    rate: float = 1e-2,
    decay: float = 0.25,
    seed: int = 0,
) -> TgLasso:
    r"""Regress y on x with SGD and an L1 penalty that accumulates (truncated gradient).

    One row at a time, in random order, from $\gamma = q = u = 0$, with $\eta_t = 10^{-2}\,t^{-1/4}$:

    $$z = \gamma - \eta_t\,(x^\top\gamma - y)\,x,\qquad u \leftarrow u + \eta_t\alpha,\qquad
    \gamma_k = \begin{cases}\max(0, z_k - (u + q_k)) & z_k > 0\\ \min(0, z_k + (u - q_k)) & z_k < 0\end{cases},
    \qquad q \leftarrow q + (\gamma - z),$$

    where the gradient is clamped to $\pm10^{12}$. In exact arithmetic $v = \gamma - q$ then takes plain SGD steps,
    $v \leftarrow v - \eta_t\,(x^\top\gamma - y)\,x$, and $\gamma$ is v shrunk towards 0 by u,
    $\gamma_k = \operatorname{sign}(v_k)\max(0, |v_k| - u)$. This is how it is computed. It also says what the rule
    selects where $x^\top\gamma$ is nothing beside y, as for squared weight changes of size $10^{-12}$:
    $\gamma_k \ne 0$ where $|\sum_t\eta_t y_t x_{t,k}| > \alpha\sum_t\eta_t$: a threshold on a weighted mean of
    products.

    Rows are in the same order for all leading dimensions and all $\alpha$, so a result does not depend on what
    stands beside it.

    Args:
        x: squared weight changes ``(..., T, p)``; the leading dimensions are networks. float64 is meant: products
            of numbers this small leave float32's range. Other dtypes are converted.
        y: loss changes ``(..., T)``.
        alpha: the penalty, or A of them at once.
        stop: ``"authors"`` makes ``1 + patience`` passes, 3 by default: the code of September 2024 compares
            the error of a pass, a sum over all rows, with that of the last row of an earlier one, and so sees no
            improvement after the first pass. ``"intended"`` stops when the summed squared error of a pass has not
            fallen by more than ``tolerance`` below the least for ``patience`` passes running. With features so
            small that nothing is predicted, that is after the third pass, too.
        max_passes: passes at most.
        tolerance: see ``stop``.
        patience: see ``stop``.
        rate: $\eta_1$.
        decay: the exponent of t.
        seed: of the order of rows.

    Returns:
        Coefficients ``(..., p)``, or ``(A, ..., p)``, and passes made.

    Raises:
        ValueError: a penalty or rate not above 0, values that are not finite, shapes that do not fit, no rows,
            another stopping rule.
        TypeError: not floating-point.

    Not to be confused with a Lasso that has converged (``lasso.lasso``): this one stops far from the minimum.
    Source: Tsuruoka, Tsujii and Ananiadou (2009), section 3; step sizes and stopping from the authors' code.
    """
    check_pair(x, y)
    alphas = torch.tensor(positive_numbers("alpha", alpha), dtype=torch.float64)
    _check_options(stop, max_passes, tolerance, patience, rate, decay)
    lead, (n_rows, p) = x.shape[:-2], x.shape[-2:]
    if stop == "authors":
        max_passes = min(max_passes, 1 + patience)
    stopping = _Stopping(stop == "intended", max_passes, tolerance, patience)
    coefficients = torch.empty(len(alphas), math.prod(lead), p, dtype=torch.float64)
    n_passes = torch.empty(len(alphas), math.prod(lead), dtype=torch.int64)
    # network by network: what one network needs stays in the processor's cache
    for i, (rows, target) in enumerate(zip(x.reshape(-1, n_rows, p), y.reshape(-1, n_rows), strict=True)):
        order = torch.Generator().manual_seed(seed)
        coefficients[:, i], n_passes[:, i] = _fit(
            rows.double(), target.double(), alphas, stopping, rate, decay, order
        )
    coefficients, n_passes = coefficients.view(-1, *lead, p), n_passes.view(-1, *lead)
    if not isinstance(alpha, Sequence):
        return TgLasso(coefficients[0], n_passes[0])
    return TgLasso(coefficients, n_passes)


@dataclass(frozen=True)
class _Stopping:
    """When to stop: after ``max_passes``, or, if the error is watched, earlier."""

    watch: bool
    max_passes: int
    tolerance: float
    patience: int


def _fit(
    x: Tensor,
    y: Tensor,
    alphas: Tensor,
    stopping: _Stopping,
    rate: float,
    decay: float,
    order: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Fit one network ``(T, p)`` at A penalties; return coefficients ``(A, p)`` and passes ``(A,)``."""
    n_rows, p = x.shape
    sums = torch.zeros(len(alphas), p, dtype=torch.float64)
    shrunk = torch.zeros_like(sums)
    penalty = torch.zeros(len(alphas), 1, dtype=torch.float64)
    result, n_passes = torch.empty_like(sums), torch.zeros(len(alphas), dtype=torch.int64)
    running = torch.ones(len(alphas), dtype=torch.bool)
    least, without = torch.full((len(alphas),), torch.inf, dtype=torch.float64), torch.zeros_like(n_passes)
    largest = x.abs().amax(dim=1)
    step = 0
    for made in range(1, stopping.max_passes + 1):
        squared_error = torch.zeros_like(least)
        for t in torch.randperm(n_rows, generator=order).tolist():
            step += 1
            eta = rate * step**-decay
            error = shrunk @ x[t] - y[t]  # (A,)
            squared_error += error**2
            if bool(error.abs().amax() * largest[t] <= _LARGEST_GRADIENT):
                sums.addr_(error, x[t], alpha=-eta)
            else:
                gradient = torch.outer(error, x[t]).clamp_(-_LARGEST_GRADIENT, _LARGEST_GRADIENT)
                sums.sub_(gradient, alpha=eta)
            penalty += eta * alphas[:, None]
            torch.clamp(sums, -penalty, penalty, out=shrunk)
            torch.sub(sums, shrunk, out=shrunk)
        n_passes[running] = made
        result[running] = shrunk[running]
        if stopping.watch:
            without = torch.where(squared_error < least - stopping.tolerance, 0, without + 1)
            least = torch.minimum(least, squared_error)
            running &= without < stopping.patience
            if not bool(running.any()):
                break
    return result, n_passes


def _check_options(
    stop: str, max_passes: int, tolerance: float, patience: int, rate: float, decay: float
) -> None:
    if stop not in ("authors", "intended"):
        raise ValueError(f"stop is 'authors' or 'intended', got {stop!r}")
    for name, count in (("max_passes", max_passes), ("patience", patience)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    positive_numbers("rate", rate)
    positive_numbers("tolerance", tolerance, zero=True)
    positive_numbers("decay", decay, zero=True)
