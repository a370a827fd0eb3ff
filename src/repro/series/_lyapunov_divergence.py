"""Mean log distances of neighbours as time goes on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from repro.series._lyapunov_neighbors import Rules

__all__ = ["mean_log_distances"]


def mean_log_distances(series: Tensor, neighbours: Tensor, found: Tensor, rules: Rules) -> Tensor:
    r"""Return $S(k)$ ``(N, K)`` of series ``(N, T)`` with the vectors' neighbours ``(N, n)``.

    $S(k)$ is $-\infty$ where all pairs coincide after k steps, NaN where no vector has a neighbour.
    """
    n_series, n_times = series.shape
    n = neighbours.shape[1]
    flat = series.reshape(-1)
    first = torch.arange(n_series, device=series.device)[:, None] * n_times
    at = (neighbours + first).view(-1)
    everywhere = bool(found.all())

    def squared_differences(t: int) -> Tensor:
        difference = flat[t:].index_select(0, at).view(n_series, n)
        return difference.sub_(series[:, t : t + n]).square_()

    # a squared difference serves as one coordinate now and as the one before it a lag later
    squares = {t: squared_differences(t) for t in range((rules.emb_dim - 1) * rules.lag)}
    means = torch.empty(n_series, rules.n_steps, dtype=torch.float64, device=series.device)
    for k in range(rules.n_steps):
        last = k + (rules.emb_dim - 1) * rules.lag
        squares[last] = squared_differences(last)
        distances = squares.pop(k)
        if rules.emb_dim > 1:
            distances += squares[k + rules.lag]
        for c in range(2, rules.emb_dim):
            distances += squares[k + c * rules.lag]
        means[:, k] = _mean_log(distances, None if everywhere else found)
    return means


def _mean_log(squares: Tensor, found: Tensor | None) -> Tensor:
    """Mean log of the roots of ``squares`` (N, n), which are overwritten; without zeros, and those not found."""
    logs = _log(squares)
    total = logs.sum(1)
    if found is None and total.isfinite().all():
        return total.mul_(0.5 / logs.shape[1])
    used = logs.isfinite() if found is None else logs.isfinite() & found
    means = 0.5 * torch.where(used, logs, 0.0).sum(1) / used.sum(1)
    coincide = ~used.any(1) if found is None else ~used.any(1) & found.any(1)
    return means.masked_fill_(coincide, -torch.inf)


def _log(values: Tensor) -> Tensor:
    """Natural logarithm in place; on a CPU by NumPy, whose float64 logarithm is three times as fast."""
    if values.device.type != "cpu":
        return values.log_()
    with np.errstate(divide="ignore"):
        np.log(values.numpy(), out=values.numpy())
    return values
