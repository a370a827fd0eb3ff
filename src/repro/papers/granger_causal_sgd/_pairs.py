"""Checks of regressors and target that all regressions of this package share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

__all__ = ["check_pair", "check_x", "positive_numbers", "standardized"]


def check_x(x: Tensor) -> None:
    """Refuse regressors that are not finite floating-point numbers ``(..., T, p)`` with T and p at least 1."""
    if not x.is_floating_point():
        raise TypeError(f"x must hold floating-point numbers, got {x.dtype}; float64 is meant")
    if x.ndim < 2 or x.shape[-2] < 1 or x.shape[-1] < 1:
        raise ValueError(f"x must be (..., T, p) with at least one row and one column, got {tuple(x.shape)}")
    _check_finite("x", x)


def check_pair(x: Tensor, y: Tensor) -> None:
    """Refuse regressors ``(..., T, p)`` as ``check_x`` does, and a target that is not finite ``(..., T)``."""
    check_x(x)
    if not y.is_floating_point():
        raise TypeError(f"y must hold floating-point numbers, got {y.dtype}; float64 is meant")
    if y.shape != x.shape[:-1]:
        raise ValueError(f"x {tuple(x.shape)} needs y of shape {tuple(x.shape[:-1])}, got {tuple(y.shape)}")
    _check_finite("y", y)


def positive_numbers(name: str, values: float | Sequence[float], *, zero: bool = False) -> list[float]:
    """Return one number or several as a list; refuse those that are not positive and finite.

    Args:
        name: what they are called.
        values: one or at least one.
        zero: whether 0 is allowed.
    """
    several = [float(v) for v in values] if isinstance(values, Sequence) else [float(values)]
    if not several:
        raise ValueError(f"at least one {name} is needed, got none")
    for value in several:
        if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
            raise ValueError(f"{name} must be finite and {'at least' if zero else 'above'} 0, got {value}")
    return several


def standardized(block: Tensor) -> tuple[Tensor, Tensor]:
    """Return columns of mean 0 and mean square 1, and what they were divided by; constant ones become 0.

    Args:
        block: ``(..., T, width)``.

    Returns:
        Columns of the same shape, and scales ``(..., 1, width)``, 1 for constant columns.
    """
    centered = block - block.mean(dim=-2, keepdim=True)
    scale = centered.square().mean(dim=-2, keepdim=True).sqrt_()
    # what is left of a constant column is rounding, not variation
    constant = scale <= 1e-13 * block.abs().amax(dim=-2, keepdim=True)
    scale = scale.masked_fill(constant, 1)
    return (centered / scale).masked_fill_(constant, 0), scale


def _check_finite(name: str, values: Tensor) -> None:
    # a sum that is finite has finite terms only; where it overflows, look again
    if not bool(values.sum().isfinite()) and not bool((finite := values.isfinite()).all()):
        where = tuple(int(i) for i in (~finite).nonzero()[0])
        raise ValueError(f"{name} must be finite, got {values[where].item()} at {where}")
