"""Inputs and targets of a linear regression, checked in one place."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["checked_problem"]

Array = NDArray[np.float64]


def checked_problem(Z: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Inputs (d, n) and targets (d,) of a regression as float64; refuses other shapes and values not finite."""
    Z, y = np.asarray(Z, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if Z.ndim != 2 or 0 in Z.shape or y.shape != Z.shape[:1]:
        raise ValueError(f"Z must be (d, n) and y (d,) with d and n at least 1; got {Z.shape} and {y.shape}")
    for name, values in (("Z", Z), ("y", y)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite; got {values[~np.isfinite(values)][0]}")
    return Z, y
