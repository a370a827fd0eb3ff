"""What both ways to a triangular factor share: QR in memory of one's own, and sums of squares from a factor."""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["SumsOfSquares", "independent_share", "triangular", "view"]


def view(memory: torch.Tensor, *shape: int) -> torch.Tensor:
    """The first part of a vector as an array ``(a, b, c)``."""
    return memory[: shape[0] * shape[1] * shape[2]].view(shape)


def triangular(columns: torch.Tensor, scales: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """The transpose of R in Householder's QR of ``(N, p, n)``, columns as rows, into ``out``, ``(N, p, p)``.

    ``columns`` is used up; ``scales`` is memory for N p numbers. Signs are arbitrary.
    """
    n_pairs, size, _ = columns.shape
    reflected = columns.mT
    torch.geqrf(reflected, out=(reflected, scales[: n_pairs * size].view(n_pairs, size)))
    return torch.tril(columns[:, :, :size], out=out)


def independent_share(lengths: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
    """The least share of a squared length that the columns before leave: ``(N, k)`` twice to ``(N,)``."""
    # 0/0: a constant column, of which nothing is left.
    return (left / lengths).nan_to_num_(0.0).amin(1)


class SumsOfSquares(NamedTuple):
    """Each ``(N,)``: what the cause explains, residuals with it, total, and ``independent_share`` of its columns."""

    explained: torch.Tensor
    residual: torch.Tensor
    total: torch.Tensor
    independent: torch.Tensor

    @classmethod
    def of(cls, factor: torch.Tensor, lag: int) -> SumsOfSquares:
        """From the last columns of R, those of the cause and the response, as ``(N, lag + 1, 2 lag + 2)``."""
        squares = factor[:, :, 1:].square()
        response = squares[:, -1]
        causes = squares[:, :-1]
        left = causes[:, :, lag:].diagonal(dim1=1, dim2=2)
        return cls(
            response[:, lag : 2 * lag].sum(1),
            response[:, -1],
            response.sum(1),
            independent_share(causes.sum(2), left),
        )
