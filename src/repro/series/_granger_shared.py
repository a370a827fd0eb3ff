r"""Triangular factors for one effect and many causes: the columns of the effect are factored once for all.

As in ``_granger_factors``, but the Householder reflections of the columns $1, y_{t-1},\dots,y_{t-L}$ are the same for
every pair. They are found once and applied to all causes by matrix products; a QR of each pair's own is left for
the L columns of its cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from repro.series._granger_algebra import SumsOfSquares, independent_share, triangular, view

__all__ = ["SharedFactors"]


class _Rotation(NamedTuple):
    r"""Householder's $Q^\top=I-WV^\top$ of the effect's columns, ``(n, k)`` twice, and how independent they are."""

    vectors: torch.Tensor
    weighted: torch.Tensor
    independent: torch.Tensor

    def head_and_tail(self, rows: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Rotate ``(N, m, n)``: what falls on the k columns, ``(N, m, k)``; the rest goes to ``out``."""
        n, k = self.vectors.shape
        flat = rows.reshape(-1, n)
        amounts = flat @ self.vectors
        torch.addmm(flat[:, k:], amounts, self.weighted[k:].T, alpha=-1, out=out.view(-1, n - k))
        return torch.addmm(flat[:, :k], amounts, self.weighted[:k].T, alpha=-1).view(*rows.shape[:2], k)


def _rotation(columns: torch.Tensor) -> tuple[_Rotation, torch.Tensor]:
    """QR of ``(n, k)``, the reflections joined as in LAPACK's larft, and its R, ``(k, k)``."""
    reflected, scales = torch.geqrf(columns)
    k = columns.shape[1]
    vectors = reflected.tril(-1)
    vectors.diagonal().fill_(1.0)
    mixing = torch.diag(scales)
    for j in range(1, k):
        mixing[:j, j] = -scales[j] * (mixing[:j, :j] @ (vectors[:, :j].T @ vectors[:, j]))
    factor = reflected[:k].triu()
    own = factor[None, 1:, 1:].square()
    independent = independent_share(own.sum(1), own.diagonal(dim1=1, dim2=2))
    return _Rotation(vectors, vectors @ mixing.T, independent), factor


class SharedFactors:
    """The rotations for one effect ``(1, T)``, and memory for up to ``n_pairs`` causes at a time."""

    def __init__(self, n_pairs: int, effect: torch.Tensor, largest: int, smallest: int) -> None:
        n_times, size = effect.shape[1], largest + 1

        def memory(n: int) -> torch.Tensor:
            return effect.new_empty(n_pairs * size * n)

        self._rows, self._tail = memory(n_times - largest), memory(max(n_times - largest - size, size + 3))
        self._factor, self._triangle, self._scales = memory(2 * size), memory(size), memory(1)
        self._effect, self._lags = effect, range(largest, smallest - 1, -1)

        y = effect[0]
        past = [y[largest - k : n_times - k] for k in range(1, largest + 1)]
        rotation, factor = _rotation(torch.stack([torch.ones_like(y[largest:]), *past], 1))
        self._rotations = [rotation]
        for lag in self._lags[1:]:
            row = torch.cat([torch.ones_like(y[:1]), y[:lag].flip(0)])
            rotation, factor = _rotation(torch.cat([factor[: lag + 1, : lag + 1], row[None]]))
            self._rotations.append(rotation)

    @staticmethod
    def bytes_a_pair(n_times: int, largest: int) -> int:
        """Memory for one pair, with the temporary arrays of a rotation."""
        size = largest + 1
        return 8 * size * (2 * max(n_times - largest, 0) + 5 * size)

    def walk_down(self, cause: torch.Tensor) -> Iterator[tuple[int, SumsOfSquares]]:
        """Each lag from the largest to the smallest with its sums of squares, from ``(N, T)``."""
        n_pairs, n_times = cause.shape
        factor = None
        for lag, rotation in zip(self._lags, self._rotations, strict=True):
            own = lag + 1
            if factor is None:
                rows = view(self._rows, n_pairs, own, n_times - lag)
                for k in range(1, lag + 1):
                    rows[:, k - 1] = cause[:, lag - k : n_times - k]
                rows[:, -1] = self._effect[:, lag:]
                tail = view(self._tail, n_pairs, own, n_times - lag - own)
                head = rotation.head_and_tail(rows, tail)
            else:
                # The row that the design gains rotates with those of the effect's columns, and what is left of it
                # joins the rows below: that of the effect's oldest lag, which is free now, and the cause's.
                rows = view(self._rows, n_pairs, own, own + 1)
                rows[:, :-1, :own], rows[:, -1, :own] = factor[:, :lag, :own], factor[:, -1, :own]
                rows[:, :-1, own], rows[:, -1, own] = cause[:, :lag].flip(1), self._effect[:, lag]
                tail = view(self._tail, n_pairs, own, lag + 4)
                tail[:, :-1, :-1], tail[:, -1, :-1] = factor[:, :lag, own:], factor[:, -1, own:]
                gained = rows.new_empty(n_pairs, own, 1)
                head = rotation.head_and_tail(rows, gained)
                tail[:, :, -1:] = gained
            factor = view(self._factor, n_pairs, own, 2 * own)
            factor[:, :, :own] = head
            factor[:, :, own:] = triangular(tail, self._scales, view(self._triangle, n_pairs, own, own))
            sums = SumsOfSquares.of(factor, lag)
            yield lag, sums._replace(independent=torch.minimum(sums.independent, rotation.independent))
