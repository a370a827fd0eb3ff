r"""Surrogate series: what a test finds in them, it finds without a cause.

Each function keeps some properties of a series and destroys the others. All take ``(N, T)`` or ``(T,)``, N series
of T points, treat every series by itself with draws of its own, and return a new float64 array. A series that
holds NaN, infinity or a masked value gives a row of NaN, which no test takes for data; N = 0 gives an empty array.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np
from numpy.typing import ArrayLike

from repro.base import whole
from repro.series._inputs import Array, series_rows

_Random = np.random.Generator | int
_FEWEST_POINTS = 4
#: The least shift of ``circularly_shifted`` either way, as a share of T.
_LEAST_SHIFT = 0.2
_MOST_ADJUSTMENTS = 100


def shuffled(series: ArrayLike, rng: _Random) -> Array:
    r"""Permute each series in time: $s_t=x_{\pi(t)}$, every permutation $\pi$ equally likely.

    Destroys the series' own memory too; where that matters, use one of the others.

    Args:
        series: ``(N, T)`` or ``(T,)``, T at least 4.
        rng: a generator, which advances, or a seed.

    Returns:
        A new float64 array in the shape of ``series``. A series that holds NaN, infinity or a masked value gives a
        row of NaN, which no test takes for data.

    Raises:
        ValueError: too short a series, another number of dimensions, or a seed that is none.
        TypeError: values that are not real numbers, or a table with labels.
    """
    x, rng = _rows(series), _generator(rng)
    return rng.permuted(x, axis=1).reshape(np.shape(series))


def circularly_shifted(series: ArrayLike, rng: _Random) -> Array:
    r"""Roll each series by a random shift: $s_t=x_{(t-k)\bmod T}$, k uniform on $[0.2\,T,\,0.8\,T]$.

    Keeps the dependence within the series but for one seam, where a series with a trend jumps.

    Args:
        series: ``(N, T)`` or ``(T,)``, T at least 4.
        rng: a generator, which advances, or a seed.

    Returns:
        The shape of ``series``.

    Raises:
        ValueError: as in ``shuffled``.
        TypeError: values that are not real numbers, or a table with labels.
    """
    x, rng = _rows(series), _generator(rng)
    length = x.shape[1]
    low = ceil(_LEAST_SHIFT * length - 1e-9)
    shift = rng.integers(low, length - low, size=(len(x), 1), endpoint=True)
    return np.take_along_axis(x, (np.arange(length) - shift) % length, axis=1).reshape(np.shape(series))


def iaaft(series: ArrayLike, rng: _Random) -> Array:
    r"""Draw surrogates with the values of each series, and nearly its periodogram, by iterated amplitude adjustment.

    From a random permutation s, in turn: the amplitudes of x with the phases of s,
    $\hat s_k\leftarrow|\hat x_k|\,\hat s_k/|\hat s_k|$; then the values of x in the order of s. Until the order stays,
    or 100 times. The values are those of x to the last bit, the periodogram what they allow. The null of a stationary
    linear Gaussian process seen through any monotone function: heavy tails stay. A cause and its effect have
    periodograms that fluctuate together, which new phases leave: a test of such pairs rejects somewhat above its level.

    Args:
        series: ``(N, T)`` or ``(T,)``, T at least 4.
        rng: a generator, which advances, or a seed.

    Returns:
        The shape of ``series``.

    Raises:
        ValueError: as in ``shuffled``.
        TypeError: values that are not real numbers, or a table with labels.

    Source: T. Schreiber and A. Schmitz, Physical Review Letters 77 (1996) 635-638.
    """
    x, rng = _rows(series), _generator(rng)
    found = rng.permuted(x, axis=1)
    amplitudes, values = np.abs(np.fft.rfft(x, axis=1)), np.sort(x, axis=1)
    order = np.argsort(found, axis=1, kind="stable")
    moving = np.arange(len(x))
    for _ in range(_MOST_ADJUSTMENTS):
        spectrum = np.fft.rfft(found[moving], axis=1)
        size = np.abs(spectrum)
        spectrum = np.divide(spectrum, size, out=np.ones_like(spectrum), where=size > 0) * amplitudes[moving]
        adjusted = np.argsort(np.fft.irfft(spectrum, x.shape[1], axis=1), axis=1, kind="stable")
        changed = (adjusted != order[moving]).any(axis=1)
        moving = moving[changed]
        order[moving] = adjusted[changed]
        np.put_along_axis(found, order, values, axis=1)
        if not len(moving):
            break
    return found.reshape(np.shape(series))


def of_increments(
    series: ArrayLike, rng: _Random, draw: Callable[[Array, np.random.Generator], Array]
) -> Array:
    r"""Sum surrogates of the increments: $s_1=x_1$, $\Delta s$ = ``draw`` of $\Delta x$.

    With ``shuffled``, a random walk of the same steps in another order; with ``iaaft``, one whose steps also keep
    their autocorrelation. Both ends stay where ``draw`` keeps the mean.

    Args:
        series: ``(N, T)`` or ``(T,)``, T at least 5.
        rng: a generator, which advances, or a seed.
        draw: any of the functions above.

    Returns:
        The shape of ``series``.

    Raises:
        ValueError: as in ``shuffled``.
        TypeError: values that are not real numbers, or a table with labels.
    """
    x, rng = _rows(series), _generator(rng)
    steps = draw(np.diff(x, axis=1), rng)
    return np.cumsum(np.concatenate([x[:, :1], steps], axis=1), axis=1).reshape(np.shape(series))


def _rows(series: ArrayLike) -> Array:
    """The series as new float64 rows ``(N, T)``, those that are not finite as NaN."""
    values = series_rows(series, "series")
    if values.shape[-1] < _FEWEST_POINTS:
        raise ValueError(f"series must have at least {_FEWEST_POINTS} points in time, got {values.shape[-1]}")
    # row-major whatever the input was, for sums to run in one order
    rows = np.array(np.atleast_2d(values), dtype=np.float64, order="C")
    rows[~np.isfinite(rows).all(axis=1)] = np.nan
    return rows


def _generator(rng: _Random) -> np.random.Generator:
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(whole("seed", rng, 0))
