"""Nearest neighbours among delay vectors of a chunk of series, by the rules of nolds or of TISEAN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rules", "nearest"]


@dataclass(frozen=True)
class Rules:
    """Which delay vectors are compared, and how far they are followed.

    nolds takes the least distance, of equal ones the earliest. TISEAN passes over identical vectors and those at
    a distance of 1 or more, compares squares, and of equal ones takes the latest.
    """

    emb_dim: int
    lag: int
    min_tsep: int
    n_steps: int
    like_tisean: bool = False

    @property
    def span(self) -> int:
        """Points in time a followed vector needs beyond its first."""
        return (self.emb_dim - 1) * self.lag + self.n_steps - 1

    def n_vectors(self, n_times: int) -> int:
        """Vectors that can be followed to the end: the references, and the candidates."""
        return n_times - self.span


def nearest(series: Tensor, rules: Rules) -> tuple[Tensor, Tensor]:
    """Return each vector's neighbour and whether it has one: ``(N, n)`` int64 and bool.

    ``series`` is ``(N, T)`` float64, long enough for every vector to have a candidate.
    """
    n = rules.n_vectors(series.shape[1])
    distances = torch.zeros(len(series), n, n, dtype=torch.float64, device=series.device)
    for c in range(rules.emb_dim):
        x = series[:, c * rules.lag : c * rules.lag + n]
        distances += (x[:, :, None] - x[:, None, :]).square_()
    if rules.like_tisean:
        distances.masked_fill_((distances == 0) | (distances >= 1), torch.inf)
    else:
        distances.sqrt_()
    steps = torch.arange(n, device=series.device)
    distances.masked_fill_((steps[:, None] - steps).abs() <= rules.min_tsep, torch.inf)
    least = distances.amin(2)
    tied = distances == least[:, :, None]
    if rules.like_tisean:
        return torch.where(tied, steps, -1).amax(2), least.isfinite()
    return torch.where(tied, steps, n).amin(2), least.isfinite()
