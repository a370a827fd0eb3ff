"""Power laws fitted to the spectra of a network's layers (claim C10)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repro.base import Interval

__all__ = ["PowerLaw", "alpha_interval", "layer_spectrum", "power_law_alpha"]


@dataclass(frozen=True)
class PowerLaw:
    r"""A density $p(\lambda)\propto\lambda^{-\alpha}$ fitted to the values at and above a threshold.

    Attributes:
        alpha: exponent, above 1.
        x_min: threshold, one of the values.
        n_tail: number of values at and above it.
        ks: Kolmogorov-Smirnov distance of these values from the law, in (0, 1).
    """

    alpha: float
    x_min: float
    n_tail: int
    ks: float


def layer_spectrum(weight: ArrayLike) -> NDArray[np.float64]:
    r"""Compute the eigenvalues of $W^\top W/N$ with N the larger side of the matrix.

    Args:
        weight: a layer's weights, ``(outputs, inputs)``; which side is which makes no difference.

    Returns:
        As many eigenvalues as the smaller side is long, ascending; exactly 0 below the numerical rank.

    Raises:
        ValueError: not a matrix, or a weight that is not finite.

    Source: C. H. Martin and M. W. Mahoney (2021), the empirical spectral density of WeightWatcher.
    """
    matrix = np.asarray(weight, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"a layer's weights are a matrix (outputs, inputs); got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"weights must be finite; got {matrix[~np.isfinite(matrix)][0]}")
    singular = np.linalg.svd(matrix, compute_uv=False)[::-1]
    longer = max(matrix.shape)
    negligible = singular[-1] * longer * np.finfo(np.float64).eps
    return np.where(singular > negligible, singular, 0) ** 2 / longer


def power_law_alpha(eigenvalues: ArrayLike) -> PowerLaw:
    r"""Fit a continuous power law to the upper tail of a spectrum by maximum likelihood.

    $$\hat\alpha=1+n\Big/\sum_{\lambda_i\ge x_{\min}}\ln\frac{\lambda_i}{x_{\min}},$$

    with $x_{\min}$ the value, of all but the largest, for which the tail's Kolmogorov-Smirnov distance from the
    fitted law is least. It always returns an exponent: that is no evidence for a power law. Few values give a
    broad distribution of exponents, see ``alpha_interval``.

    Args:
        eigenvalues: 0 and up; zeros (directions that the layer does not use) are left out.

    Raises:
        ValueError: a negative value or one that is not finite, or fewer than two different ones above 0.

    Source: A. Clauset, C. R. Shalizi, M. E. J. Newman (2009), eq. 3.1 and section 3.3.
    """
    return _fit(_positive(eigenvalues))


def alpha_interval(
    eigenvalues: ArrayLike, level: float = 0.95, n_resamples: int = 999, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the exponent; the threshold is chosen again in every resample.

    The bootstrap takes the eigenvalues as independent, which those of one matrix are not: the interval says how
    few values the fit rests on, no more. Resamples that hold one value only are drawn again.

    Args:
        eigenvalues: as for ``power_law_alpha``.
        level: of the interval, strictly between 0 and 1.
        n_resamples: 1 or more.
        seed: of the resamples.

    Raises:
        ValueError: as for ``power_law_alpha``; a level or number of resamples outside its range.
    """
    if not 0 < level < 1 or n_resamples < 1:
        raise ValueError(
            f"level must lie strictly between 0 and 1 and n_resamples be 1 or more; got {level}, {n_resamples}"
        )
    values = _positive(eigenvalues)
    rng = np.random.default_rng(seed)
    drawn: list[float] = []
    while len(drawn) < n_resamples:
        resample = np.sort(rng.choice(values, len(values)))
        if np.log(resample[0]) < np.log(resample[-1]):
            drawn.append(_fit(resample).alpha)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(_fit(values).alpha, float(low), float(high), "bootstrap exponent", level)


def _positive(eigenvalues: ArrayLike) -> NDArray[np.float64]:
    """Check a spectrum and return its values above 0, ascending."""
    values = np.asarray(eigenvalues, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"a spectrum is a list of eigenvalues; got shape {values.shape}")
    if not (np.isfinite(values) & (values >= 0)).all():
        wrong = values[~(np.isfinite(values) & (values >= 0))][0]
        raise ValueError(f"eigenvalues must be finite, 0 or more; got {wrong}")
    above = np.sort(values[values > 0])
    if len(above) < 2 or np.log(above[0]) == np.log(above[-1]):
        raise ValueError(f"a power law needs two different eigenvalues above 0; got {above.tolist()}")
    return above


def _fit(values: NDArray[np.float64]) -> PowerLaw:
    """Fit ascending values above 0, at least two of them different."""
    logs = np.log(values)
    left = np.searchsorted(logs, logs)
    right = np.searchsorted(logs, logs, side="right")
    best: PowerLaw | None = None
    for start in np.unique(left)[:-1]:
        above = logs[start:] - logs[start]
        n = len(above)
        slope = n / above.sum()
        law = -np.expm1(-slope * above)
        # the steps of the empirical distribution, just below and at each value
        below, at = (left[start:] - start) / n, (right[start:] - start) / n
        ks = float(max((at - law).max(), (law - below).max()))
        if best is None or ks < best.ks:
            best = PowerLaw(1 + float(slope), float(values[start]), n, ks)
    assert best is not None
    return best
