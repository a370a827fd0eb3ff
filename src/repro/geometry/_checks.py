"""Arrays that fit together and hold numbers of use, checked in one place for potentials, flows and interpolators."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["broadcast", "check_finite", "check_positive", "checked_arrays", "checked_problem"]

Array = NDArray[np.float64]


def checked_problem(Z: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Inputs (d, n) and targets (d,) of a regression as float64; refuses other shapes and values not finite."""
    Z, y = np.asarray(Z, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if Z.ndim != 2 or 0 in Z.shape or y.shape != Z.shape[:1]:
        raise ValueError(f"Z must be (d, n) and y (d,) with d and n at least 1; got {Z.shape} and {y.shape}")
    check_finite(Z=Z, y=y)
    return Z, y


def broadcast(**values: ArrayLike) -> list[Array]:
    """The arguments as float64 of one shape."""
    found = [np.asarray(value, dtype=np.float64) for value in values.values()]
    try:
        return list(np.broadcast_arrays(*found))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(values, found, strict=True))
        raise ValueError(f"shapes must fit together by broadcasting; got {shapes}") from None


def check_finite(**values: Array) -> None:
    """Refuse a NaN or an infinity."""
    for name, array in values.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite; got {array[~np.isfinite(array)].flat[0]}")


def check_positive(**values: Array) -> None:
    """Refuse what is not above 0 and finite."""
    for name, array in values.items():
        if not ((array > 0) & np.isfinite(array)).all():
            bad = array[~((array > 0) & np.isfinite(array))].flat[0]
            raise ValueError(f"{name} must be positive and finite; got {bad}")


def checked_arrays(**values: ArrayLike) -> list[Array]:
    """The arguments broadcast, with finite values and a positive scale ``a``."""
    arrays = dict(zip(values, broadcast(**values), strict=True))
    check_positive(a=arrays["a"])
    check_finite(**arrays)
    return list(arrays.values())
