"""Mean log distances of neighbours as time goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from repro.series._lyapunov_neighbors import Rules, nearest

__all__ = ["bytes_a_series", "mean_log_distances"]


def mean_log_distances(series: Tensor, rules: Rules) -> tuple[Tensor, Tensor]:
    r"""Return $S(k)$ ``(N, K)``, and how many vectors have a neighbour ``(N,)``.

    $S(k)$ is $-\infty$ where all pairs coincide after k steps, NaN where no vector has a neighbour.
    """
    neighbours, found = nearest(series, rules)
    n = neighbours.shape[1]
    width = rules.n_steps + (rules.emb_dim - 1) * rules.lag
    squares = [(series[:, t : t + n] - series[:, t:].gather(1, neighbours)).square_() for t in range(width)]
    means = torch.empty(len(series), rules.n_steps, dtype=torch.float64, device=series.device)
    for k in range(rules.n_steps):
        distance = squares[k].clone()
        for c in range(1, rules.emb_dim):
            distance += squares[k + c * rules.lag]
        used = (distance > 0) & found
        logs = torch.where(used, distance, 1.0).log_().sum(1)
        means[:, k] = 0.5 * logs / used.sum(1)
        means[:, k].masked_fill_(~used.any(1) & found.any(1), -torch.inf)
    return means, found.sum(1)


def bytes_a_series(n_times: int, rules: Rules) -> int:
    """Working memory that a series of T points takes."""
    n = rules.n_vectors(n_times)
    return 8 * n * (4 * n + rules.span + 8)
