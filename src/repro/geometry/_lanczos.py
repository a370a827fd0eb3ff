"""Lanczos' method with full reorthogonalization for S symmetric matrices at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["lanczos_largest"]

#: How small, relative to the largest eigenvalue in size, a new direction must be for the old ones to be invariant.
_NOTHING_NEW = 1e-12


class _Basis:
    """Orthonormal rows ``(S, k, n)``, with room to grow."""

    def __init__(self, first: Tensor) -> None:
        self._room = first.new_empty(len(first), 16, first.shape[1])
        self._room[:, 0] = first
        self._k = 1

    def orthogonalize(self, w: Tensor) -> Tensor:
        rows = self._room[:, : self._k]
        for _ in range(2):  # once leaves rounding errors that bring found eigenvalues back as copies
            along = torch.bmm(rows, w.unsqueeze(2))
            w = torch.baddbmm(w.unsqueeze(1), along.transpose(1, 2), rows, alpha=-1.0).squeeze(1)
        return w

    def append(self, row: Tensor) -> None:
        if self._k == self._room.shape[1]:
            self._room = torch.cat([self._room, torch.empty_like(self._room)], dim=1)
        self._room[:, self._k] = row
        self._k += 1

    @property
    def last(self) -> Tensor:
        return self._room[:, self._k - 1]


def lanczos_largest(
    product: Callable[[Tensor], Tensor],
    kept: Tensor,
    n: int,
    *,
    tolerance: float,
    max_products: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, int]:
    r"""Return the n algebraically largest eigenvalues of S matrices, their residuals, and the number of products.

    Each step adds a direction $q_{k+1}$ to an orthonormal basis Q of the Krylov space of a random vector;
    eigenvalues of the tridiagonal $T=Q^\top HQ$ are the estimates, and $\|Hv-\lambda v\|=\beta_k|s_k|$ with s the
    eigenvector of T.

    Args:
        product: from ``(S, N)`` to Hv, ``(S, N)``; zero where ``kept`` is False.
        kept: bool ``(S, N)``, the coordinates that count.
        n: how many, at most what every network keeps.
        tolerance: of the residuals, relative to each network's algebraically largest eigenvalue.
        max_products: n or above.
        generator: draws the first vectors.

    Source: Golub & Van Loan, Matrix Computations, section 10.3.
    """

    def draw() -> Tensor:
        v = torch.randn(kept.shape, generator=generator, dtype=torch.float64)
        return v.to(kept.device) * kept

    n_kept = kept.sum(dim=1)
    first = draw()
    basis = _Basis(first / first.norm(dim=1, keepdim=True))
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    bottom = first.new_zeros(len(first))
    for k in range(1, max_products + 1):
        w = product(basis.last)
        # a network without directions left goes on with empty ones, below all of its eigenvalues
        diagonal.append(torch.where(k > n_kept, bottom, (w * basis.last).sum(dim=1)))
        w = basis.orthogonalize(w)
        length = w.norm(dim=1)
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, beside))
        found = min(n, k)
        top = values[:, -found:].flip(1)
        residuals = (length[:, None] * vectors[:, -1].abs())[:, -found:].flip(1)
        size, bottom = values.abs().amax(dim=1), values[:, 0]
        # an eigenvalue of zero would ask for a residual of zero
        bound = tolerance * torch.maximum(top[:, 0].abs(), 1e-6 * size)
        if k >= n and bool((residuals <= bound[:, None]).all()):
            break
        lost = (length <= _NOTHING_NEW * size) | (k >= n_kept)
        if bool(lost.any()):  # the basis spans an invariant space: nothing couples to any other direction
            w = torch.where(lost[:, None], basis.orthogonalize(draw()), w)
            w = torch.where((k >= n_kept)[:, None], 0.0, w)
            length = torch.where(lost, 0.0, length)
        beside.append(length)
        basis.append(w / w.norm(dim=1, keepdim=True).clamp(min=1e-300))
    return top, residuals, k


def _tridiagonal(diagonal: list[Tensor], beside: list[Tensor]) -> Tensor:
    matrix = torch.diag_embed(torch.stack(diagonal, dim=1))
    if not beside:
        return matrix
    off = torch.stack(beside, dim=1)
    return matrix + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
