r"""Triangular factors of lagged designs, many pairs at once: one QR at the largest lag, Givens down from there.

The design of lag L has the columns $1, y_{t-1},\dots,y_{t-L}, x_{t-1},\dots,x_{t-L}, y_t$ and the rows
$t=L,\dots,T-1$. In its triangular factor R the last column holds what each column adds to the fit of $y_t$:
squares of its entries are sums of squares, and none of them is a difference of two others.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

__all__ = ["lagged_design", "leave_out_lag", "triangular_factor", "walk_down"]


def lagged_design(effect: torch.Tensor, cause: torch.Tensor, lag: int) -> torch.Tensor:
    """The columns of the design as rows: ``(N, T)`` twice to ``(N, 2 lag + 2, T - lag)``."""
    n_pairs, n_times = cause.shape
    columns = cause.new_empty(n_pairs, 2 * lag + 2, n_times - lag)
    columns[:, 0] = 1
    for k in range(1, lag + 1):
        columns[:, k] = effect[:, lag - k : n_times - k]
        columns[:, lag + k] = cause[:, lag - k : n_times - k]
    columns[:, -1] = effect[:, lag:]
    return columns


def triangular_factor(columns: torch.Tensor) -> torch.Tensor:
    """R of Householder's QR of ``(N, p, n)``, the pairs last: ``(p, p, N)``, signs of the rows arbitrary."""
    reflected, _ = torch.geqrf(columns.mT)
    return reflected[:, : columns.shape[1]].triu().permute(1, 2, 0).contiguous()


def _absorb(factor: torch.Tensor, row: torch.Tensor, first: int) -> None:
    """Add one row of data to R, in place: Givens rotations from column ``first`` on; ``row`` is used up."""
    for j in range(first, len(factor)):
        kept, new = factor[j, j:], row[j - first :]
        a, b = kept[0], new[0]
        length = torch.hypot(a, b)
        at_rest = length == 0
        length.masked_fill_(at_rest, 1.0)
        cosine, sine = (a / length).masked_fill_(at_rest, 1.0), b / length
        turned = kept * sine
        kept.mul_(cosine).addcmul_(new, sine)
        new.mul_(cosine).sub_(turned)


def leave_out_lag(factor: torch.Tensor, effect: torch.Tensor, cause: torch.Tensor, lag: int) -> torch.Tensor:
    """R of lag - 1 from R of lag: without two columns, with the row of the time point that it gains."""
    kept = [*range(lag), *range(lag + 1, 2 * lag), 2 * lag + 1]
    index = torch.tensor(kept, device=factor.device)
    # What the oldest lag of the effect explained is left over, and goes to the columns behind it.
    freed = factor[lag].index_select(0, index[lag:])
    residual = torch.hypot(factor[2 * lag, -1], factor[-1, -1])
    smaller = factor.index_select(0, index).index_select(1, index)
    smaller[-1, -1] = residual
    _absorb(smaller, freed, lag)
    time = lag - 1
    past = range(time - 1, -1, -1)
    row = torch.cat(
        [
            torch.ones_like(cause[:1, :1]).expand(1, len(cause)),
            effect[:, list(past)].T.expand(time, len(cause)),
            cause[:, list(past)].T,
            effect[:, time].expand(1, len(cause)),
        ]
    )
    _absorb(smaller, row, 0)
    return smaller


def walk_down(
    effect: torch.Tensor, cause: torch.Tensor, largest: int, smallest: int
) -> Iterator[tuple[int, torch.Tensor]]:
    """Each lag from the largest to the smallest with its R, ``(2 lag + 2, 2 lag + 2, N)``."""
    factor = triangular_factor(lagged_design(effect, cause, largest))
    yield largest, factor
    for lag in range(largest, smallest, -1):
        factor = leave_out_lag(factor, effect, cause, lag)
        yield lag - 1, factor
