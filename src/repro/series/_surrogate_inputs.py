"""What every surrogate is made from: checked rows and a generator."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repro.learn.seeding import checked_seed

Random = np.random.Generator | int
FEWEST_POINTS = 4


def checked_rows(series: ArrayLike, name: str) -> NDArray[np.float64]:
    """The series as float64 rows ``(N, T)``, those that are not finite as NaN; the input stays as it is."""
    values = np.asarray(series)
    if values.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got {values.dtype}")
    if values.ndim not in (1, 2):
        raise ValueError(f"{name} must have the shape (N, T) or (T,), got {values.shape}")
    if values.shape[-1] < FEWEST_POINTS:
        raise ValueError(f"{name} must have at least {FEWEST_POINTS} points in time, got {values.shape[-1]}")
    # row-major whatever the input was, for sums to run in one order
    rows = np.array(values.reshape(-1, values.shape[-1]), dtype=np.float64, order="C")
    rows[~np.isfinite(rows).all(axis=1)] = np.nan
    return rows


def generator(rng: Random) -> np.random.Generator:
    """A generator as it is, or a fresh one from a seed."""
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(checked_seed(rng))
