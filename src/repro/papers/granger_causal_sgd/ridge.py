"""Ridge regression with many more columns than rows, through the rows' Gram matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from repro.papers.granger_causal_sgd._pairs import check_pair, positive_numbers, standardized

__all__ = ["ridge"]

_BLOCK = 2**22  # numbers of a block of standardized columns: 32 MiB


def ridge(
    x: Tensor,
    y: Tensor,
    penalty: float | Sequence[float],
    *,
    standardize: bool = False,
    gram: Tensor | None = None,
) -> Tensor:
    r"""Return $\hat\gamma = X^\top (XX^\top + \lambda I)^{-1} y$, with $\lambda$ relative to $XX^\top$.

    The minimum of $\lVert y - X\gamma\rVert^2 + \lambda\lVert\gamma\rVert^2$ at
    $\lambda = \text{penalty}\cdot\operatorname{tr}(XX^\top)/T$. Penalty 0 gives the limit: of all least-squares
    solutions the one of least norm. Nothing larger than x itself is made.

    Args:
        x: squared weight changes ``(..., T, p)``.
        y: loss changes ``(..., T)``.
        penalty: relative to the mean squared length of a row, so that it has no unit; at least 0. Or A of them.
        standardize: first subtract the means of columns and of y, and divide columns by their standard deviations
            (constant ones get 0). Coefficients are in the unit of x all the same, and predict
            $\bar y + (x - \bar x)^\top\gamma$; without it, as in the authors' regression, $x^\top\gamma$.
        gram: $XX^\top$ ``(..., T, T)`` if it is at hand; not together with ``standardize``.

    Returns:
        Coefficients ``(..., p)``, float64, or ``(A, ..., p)``.

    Raises:
        ValueError: a penalty below 0, values that are not finite, shapes that do not fit, a Gram matrix of another
            shape or together with ``standardize``.
        TypeError: not floating-point.
    """
    check_pair(x, y)
    penalties = positive_numbers("penalty", penalty, zero=True)
    n_rows = x.shape[-2]
    if gram is not None and standardize:
        raise ValueError("a Gram matrix of raw columns cannot serve standardized ones; give one or the other")
    if gram is not None and gram.shape != (*x.shape[:-1], n_rows):
        raise ValueError(f"gram must be {(*x.shape[:-1], n_rows)}, got {tuple(gram.shape)}")
    if gram is None:
        gram = sum(
            (b @ b.mT for _, b, _ in _blocks(x, standardize)), start=torch.zeros((), dtype=torch.float64)
        )
    values, vectors = torch.linalg.eigh(gram.double())
    target = (y - y.mean(dim=-1, keepdim=True) if standardize else y).double()
    rotated = (vectors.mT @ target.unsqueeze(-1)).squeeze(-1)
    mean = values.clamp(min=0).mean(dim=-1, keepdim=True)
    # directions without any length beyond rounding carry no information about y
    seen = values > n_rows * torch.finfo(torch.float64).eps * values.amax(dim=-1, keepdim=True)
    shares = torch.tensor(penalties, dtype=torch.float64).view(-1, *[1] * values.ndim)
    dual = torch.where(seen, rotated / torch.where(seen, values + shares * mean, 1), 0)
    weights = (vectors @ dual.unsqueeze(-1)).mT  # (A, ..., 1, T)
    coefficients = torch.empty(len(penalties), *x.shape[:-2], x.shape[-1], dtype=torch.float64)
    for columns, block, scale in _blocks(x, standardize):
        coefficients[..., columns] = ((weights @ block) / scale).squeeze(-2)
    return coefficients if isinstance(penalty, Sequence) else coefficients[0]


def _blocks(x: Tensor, standardize: bool) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield columns, standardized or not, in float64 with their scales ``(..., 1, width)``, by blocks."""
    width = max(1, _BLOCK // (x.numel() // x.shape[-1]))
    for start in range(0, x.shape[-1], width):
        columns = slice(start, start + width)
        block = x[..., columns].double()
        if standardize:
            yield columns, *standardized(block)
        else:
            yield columns, block, torch.ones((), dtype=torch.float64)
