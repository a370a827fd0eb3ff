r"""Triangular factors of lagged designs, many pairs at once: QR at the largest lag, and from there lag by lag.

The design of lag L has the columns $1, y_{t-1},\dots,y_{t-L}, x_{t-1},\dots,x_{t-L}, y_t$ and the rows
$t=L,\dots,T-1$. In its triangular factor R the last column holds what each column adds to the fit of $y_t$:
squares of its entries are sums of squares, and none of them is a difference of two others.

The design of lag L - 1 has two columns less and one row more: its R is that of the old R without the two columns
and with the row below, a matrix of 2L + 3 rows whatever T is.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from repro.series._granger_algebra import SumsOfSquares, independent_share, triangular, view

__all__ = ["PairFactors"]


class PairFactors:
    """Memory for up to ``n_pairs`` pairs at a time, used again for one chunk after the other.

    Fresh memory for each step would cost as much time as the arithmetic. Matrices are stored with their columns
    as rows, which is how LAPACK wants them.
    """

    def __init__(self, n_pairs: int, n_times: int, largest: int, smallest: int, device: torch.device) -> None:
        size = 2 * largest + 2

        def memory(n: int) -> torch.Tensor:
            return torch.empty(n_pairs * size * n, dtype=torch.float64, device=device)

        self._design, self._update = memory(n_times - largest), memory(size + 1)
        self._factor, self._scales = memory(size), memory(1)
        self._lags = range(largest, smallest - 1, -1)

    @staticmethod
    def bytes_a_pair(n_times: int, largest: int) -> int:
        """Memory for one pair."""
        size = 2 * largest + 2
        return 8 * size * (max(n_times - largest, 0) + 3 * size)

    def walk_down(self, effect: torch.Tensor, cause: torch.Tensor) -> Iterator[tuple[int, SumsOfSquares]]:
        """Each lag from the largest to the smallest with its sums of squares, from ``(N, T)`` twice."""
        factor = None
        for lag in self._lags:
            if factor is None:
                columns = self._lagged_design(effect, cause, lag)
            else:
                columns = self._with_row(factor, effect, cause, lag)
            n_pairs, size, _ = columns.shape
            factor = triangular(columns, self._scales, view(self._factor, n_pairs, size, size))
            sums = SumsOfSquares.of(factor[:, lag + 1 :], lag)
            own = factor[:, 1 : lag + 1, 1 : lag + 1].square()
            own_share = independent_share(own.sum(2), own.diagonal(dim1=1, dim2=2))
            yield lag, sums._replace(independent=torch.minimum(sums.independent, own_share))

    def _lagged_design(self, effect: torch.Tensor, cause: torch.Tensor, lag: int) -> torch.Tensor:
        n_pairs, n_times = cause.shape
        columns = view(self._design, n_pairs, 2 * lag + 2, n_times - lag)
        columns[:, 0] = 1
        for k in range(1, lag + 1):
            columns[:, k] = effect[:, lag - k : n_times - k]
            columns[:, lag + k] = cause[:, lag - k : n_times - k]
        columns[:, -1] = effect[:, lag:]
        return columns

    def _with_row(
        self, old: torch.Tensor, effect: torch.Tensor, cause: torch.Tensor, lag: int
    ) -> torch.Tensor:
        """R of lag + 1 without its two oldest columns, above the row that the design of lag gains."""
        n_pairs, size, _ = old.shape
        columns = view(self._update, n_pairs, size - 2, size + 1)
        columns[:, : lag + 1, :size] = old[:, : lag + 1]
        columns[:, lag + 1 : -1, :size] = old[:, lag + 2 : -2]
        columns[:, -1, :size] = old[:, -1]
        row = columns[:, :, size]
        row[:, 0] = 1
        row[:, 1 : lag + 1] = effect[:, :lag].flip(1)
        row[:, lag + 1 : -1] = cause[:, :lag].flip(1)
        row[:, -1] = effect[:, lag]
        return columns
