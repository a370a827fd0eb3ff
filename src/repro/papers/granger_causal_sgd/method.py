r"""Causal pruning: log the path of gradient descent, regress the loss change on it, delete, rewind, again.

The regressors are the squared steps $x_{t,k} = (\Delta\theta_{t,k})^2$, one column a weight; a weight is kept where its
coefficient in $\Delta L_t \approx \sum_k\gamma_k x_{t,k}$ is not 0. The equations follow the authors' code of September
2024. Everything here takes networks and data of one's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from celer import celer_path
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from repro.base import one_of, whole
from repro.learn import Dataset, Ensemble
from repro.papers.granger_causal_sgd.training import Trace, _derived_seed, log
from repro.prune import Mask
from repro.series.granger import Status, granger_test

# Of tg_lasso over the rows. A slip in the authors' code compares the error of a pass with that of the last row of an
# earlier one, sees no improvement after the first pass, and stops after two more, whatever the data. Where features are
# so small that nothing is predicted, the rule that was meant (two passes without an improvement of 1e-4) stops there,
# too.
_PASSES = 3
_LARGEST_GRADIENT = 1e12  # the authors' bound


def step_test(energy: Tensor, loss_change: Tensor, n_lags: int = 2, *, first_lag: int = 0) -> dict[str, Any]:
    r"""Test whether the size of the steps helps to predict the loss change beyond its own past.

    $Y_t=a_0+\sum_{j=1}^q a_jY_{t-j}\;\left[+\sum_{j=0}^{q-1}b_jX_{t-l-j}\right]$ with l the first lag,
    $F=\frac{(\mathrm{RSS}_r-\mathrm{RSS}_f)/q}{\mathrm{RSS}_f/(n-2q-1)}$ with n = T - q rows, and the partial
    $R^2 = 1-\mathrm{RSS}_f/\mathrm{RSS}_r = qF/(qF+n-2q-1)$. With l = 0, $X_t$ stands beside $Y_t$: the step is fixed
    before its loss change is seen. The usual test has l = 1, all causes in the past.

    A test of prediction: what follows from the batch alone passes it, too, whether or not a step is taken.

    Args:
        energy: $X_t=\sum_k(\Delta\theta_{t,k})^2$ ``(S, T)``.
        loss_change: $Y_t$ ``(S, T)``.
        n_lags: q.
        first_lag: l, 0 or 1.

    Returns:
        ``f`` and ``p_value`` ``(S,)``, NaN where ``status``, names of ``series.granger.Status``, is not ``"OK"``;
        ``partial_r2``, 0 where the loss change is constant (``"CONSTANT_EFFECT"``: nothing to explain).

    Raises:
        ValueError: shapes that do not fit, fewer than 3 q + 2 rows, or a bad number of lags.
    """
    # granger_test looks at strictly earlier causes: X one step early makes X_t one of them; what the shift
    # brings to the end is later than all effects and never used
    found = granger_test(loss_change, energy.roll(first_lag - 1, dims=-1), n_lags)
    if not found.n_obs:
        raise ValueError(f"{n_lags} lags need at least {3 * n_lags + 2} rows, got {energy.shape[-1]}")
    explained = n_lags * found.f
    partial_r2 = explained / (explained + found.df_den)
    partial_r2[found.status == Status.CONSTANT_EFFECT] = 0.0
    status = [Status(each).name for each in found.status]
    return {"f": found.f, "p_value": found.p_value, "partial_r2": partial_r2, "status": status}


def tg_lasso(
    x: Tensor,
    y: Tensor,
    alpha: float | Sequence[float] | Tensor,
    *,
    seed: int = 0,
) -> Tensor:
    r"""Regress y on x with SGD and an L1 penalty that accumulates (truncated gradient).

    One row at a time, in random order, three times over, from $\gamma = q = u = 0$,
    with $\eta_t = 10^{-2}\,t^{-1/4}$:

    $$z = \gamma - \eta_t\,(x^\top\gamma - y)\,x,\qquad
    u \leftarrow u + \eta_t\alpha,\qquad
    \gamma_k = \begin{cases}\max(0, z_k - (u + q_k)) & z_k > 0\\
    \min(0, z_k + (u - q_k)) & z_k < 0\end{cases},
    \qquad q \leftarrow q + (\gamma - z),$$

    where the gradient is clamped to $\pm10^{12}$. In exact arithmetic $v = \gamma - q$
    then takes plain SGD steps, and $\gamma$ is v shrunk towards 0 by u: this is how it
    is computed. It also says what the rule selects where $x^\top\gamma$ is nothing
    beside y, as for squared weight changes of size $10^{-12}$: $\gamma_k \ne 0$ where
    $|\sum_t\eta_t y_t x_{t,k}| > \alpha\sum_t\eta_t$, a threshold on a weighted mean
    of products.

    Args:
        x: squared weight changes ``(T, p)``; computed in float64, products of numbers
            this small leave float32's range.
        y: loss changes ``(T,)``.
        alpha: the penalty, above 0, or A of them at once.
        seed: of the order of rows.

    Returns:
        $\hat\gamma$ ``(p,)``, or ``(A, p)``, float64.

    Raises:
        ValueError: a penalty not above 0, values that are not finite, shapes that do not
            fit.

    Not to be confused with a Lasso that has converged (as in ``held_out_fits``): this
    one stops far from the minimum.
    Source: Tsuruoka, Tsujii and Ananiadou (2009), section 3; step sizes and stopping
    from the authors' code.
    """
    x, y = x.double(), y.double()
    alpha = torch.as_tensor(alpha, dtype=torch.float64)[..., None]
    _check_regression(x, y, alpha)
    gamma = torch.zeros(*alpha.shape[:-1], x.shape[1], dtype=torch.float64)
    v, u = torch.zeros_like(gamma), torch.zeros_like(alpha)
    for t, i in enumerate(_in_random_order(len(y), seed), start=1):
        eta = 1e-2 * t**-0.25
        gradient = (gamma @ x[i] - y[i])[..., None] * x[i]
        v -= eta * gradient.clamp_(-_LARGEST_GRADIENT, _LARGEST_GRADIENT)
        u += eta * alpha
        gamma = v - v.clamp(-u, u)
    return gamma


def _in_random_order(n: int, seed: int) -> Iterator[int]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(_PASSES):
        yield from torch.randperm(n, generator=generator).tolist()


def _check_regression(x: Tensor, y: Tensor, alpha: Tensor) -> None:
    if x.ndim != 2 or 0 in x.shape or y.shape != x.shape[:1]:
        raise ValueError(f"x must be (T, p) and y (T,), not empty; got {tuple(x.shape)} and {tuple(y.shape)}")
    # a sum that is finite has finite terms only
    if not bool(x.sum().isfinite() & y.sum().isfinite()):
        raise ValueError("x and y must be finite; one of them holds a NaN or an infinity")
    if not alpha.numel() or not bool(((alpha > 0) & alpha.isfinite()).all()):
        raise ValueError(f"alpha must be above 0 and finite, got {alpha.flatten().tolist()}")


# --- the regression solved to its end, which the authors' rule never comes near --------------------------------------


def _ridge(x: Tensor, y: Tensor, penalties: Sequence[float]) -> Tensor:
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


def _lasso(x: Tensor, y: Tensor, penalties: Sequence[float]) -> Tensor:
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


# --- the loop ---------------------------------------------------------------------------------------------------------


def _causal_weights(trace: Trace, change: Tensor, alpha: Tensor, seeds: Sequence[int]) -> Tensor:
    r"""Return where $\hat\gamma_k \ne 0$: the weights that the rule calls causal, from one ``tg_lasso`` a layer.

    Args:
        trace: of S networks.
        change: $\Delta L_t$ ``(S, T)``, such as ``trace.loss_changes["same_batch"]``.
        alpha: penalties ``(S,)``, one a network, or ``(S, A)``.
        seeds: of the order of rows, one a network; what is close to the threshold hangs on it.

    Returns:
        Bool ``(S, p)``, or ``(S, A, p)``.
    """
    kept = torch.empty(*alpha.shape, trace.steps.shape[2], dtype=torch.bool)
    for i, y in enumerate(change):
        x = trace.squares(i)
        for columns in trace.layers.values():
            kept[i, ..., columns] = tg_lasso(x[:, columns], y, alpha[i], seed=seeds[i]) != 0
    return kept


def causal_pruning(
    ensemble: Ensemble,
    datasets: Sequence[Dataset],
    alpha: float | Sequence[float],
    *,
    seeds: Sequence[int],
    target: str | Sequence[str] = "cross_batch",
    n_iterations: int = 10,
    n_epochs: int = 10,
    learning_rate: float = 1e-3,
    batch_size: int = 512,
    regress: bool = True,
    hold: bool = True,
) -> list[Mask]:
    r"""Log SGD, regress, delete, rewind: $m \leftarrow m\odot[\hat\gamma\ne0]$.

    There is no target sparsity: it is what $\alpha$ makes of it. A network that has
    lost a layer, or all its weights, goes on, as in the authors' code.

    Args:
        ensemble: S networks at $\theta_0$, which stay as they are.
        datasets: one a network.
        alpha: penalty, above 0; one, or one a network.
        seeds: one a network. In each iteration the order of batches is another, drawn
            from the seed and its number.
        target: loss change to regress on: ``"cross_batch"``, as in the authors' code, or
            ``"same_batch"``; one, or one a network.
        n_iterations: how often to log and prune.
        n_epochs, learning_rate, batch_size: of the logged SGD, the authors' by default;
            last short batches are kept.
        regress: False keeps $|\frac1T\sum_t\Delta L_t\Delta\theta_{t,k}^2|>\alpha$
            instead, which is what the regression does to features so small (claim G4),
            and needs no rows in memory.
        hold: False logs every time without a mask: the masks are drawn again, not
            iterated, and what all of them keep is kept (claim G10).

    Returns:
        After each iteration a mask, entries ``(S, *shape)``; each keeps a part of what
        the one before keeps.

    Raises:
        ValueError, MemoryError, TrainingDivergedError: as ``log``; an unknown target; a
            penalty not above 0.

    Source: the authors' code of September 2024.
    """
    targets = [target] * len(ensemble) if isinstance(target, str) else target
    for each in targets:
        one_of("target", each, ("cross_batch", "same_batch"))
    alphas = torch.as_tensor(alpha, dtype=torch.float64).expand(len(ensemble))
    if not bool((alphas > 0).all()):
        raise ValueError(f"alpha must be above 0, got {alpha}")
    mask, masks = Mask.stack([Mask.dense(member) for member in ensemble]), []
    for j in range(1, whole("n_iterations", n_iterations) + 1):
        # log works on a copy: each iteration begins at the weights that were given
        trace = log(
            ensemble,
            datasets,
            learning_rate=learning_rate,
            n_epochs=n_epochs,
            batch_size=batch_size,
            seeds=(orders := [_derived_seed(seed, j) for seed in seeds]),
            mask=mask if hold else None,
            rows=regress,
            drop_last=False,
        )
        found = trace.loss_changes if regress else trace.covariance
        own = torch.stack([found[each][i] for i, each in enumerate(targets)])
        kept = own.abs() > alphas[:, None]
        if regress:
            kept = _causal_weights(trace, own, alphas, orders)
        mask = mask & Mask(trace.by_name(kept))
        masks.append(mask)
    return masks
