r"""Surrogate series: what a test finds in them, it finds without a cause.

Each function keeps some properties of a series and destroys the others. All take ``(N, T)`` or ``(T,)``, N series
of T points, treat every series by itself with draws of its own, and return a new float64 array. A series that
holds NaN, infinity or a masked value gives a row of NaN, which no test takes for data; N = 0 gives an empty array.

=================================  ===================================================================
``shuffled``                       keeps the values
``circularly_shifted``             keeps the values and their order, up to one seam
``phase_randomized``               keeps mean, variance and the circular autocorrelation
``block_bootstrapped``             keeps stretches of a given length
``same_increments_walk``           keeps the start and the variance of the increments
``phase_randomized_increments``    keeps both ends and the autocorrelation of the increments
``trend_matched_pairs``            keeps trend, and variance and lag-1 autocorrelation around it
=================================  ===================================================================
"""

from __future__ import annotations

from math import ceil
from numbers import Integral

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from repro.learn.seeding import checked_seed
from repro.series._inputs import series_in_rows

__all__ = [
    "block_bootstrapped",
    "circularly_shifted",
    "phase_randomized",
    "phase_randomized_increments",
    "same_increments_walk",
    "shuffled",
    "trend_matched_pairs",
]

Array = NDArray[np.float64]
_Random = np.random.Generator | int
_FEWEST_POINTS = 4


def shuffled(series: ArrayLike, rng: _Random) -> Array:
    r"""Permute each series in time: $s_t=x_{\pi(t)}$, every permutation $\pi$ equally likely.

    Destroys the series' own memory too; where that matters, use one of the others.

    Args:
        series: ``(N, T)`` or ``(T,)``, T at least 4.
        rng: a generator, which advances, or a seed.

    Returns:
        The shape of ``series``.

    Raises:
        ValueError: too short a series, another number of dimensions, or a seed that is none.
        TypeError: values that are not real numbers, or a table with labels.
    """
    x, rng = _rows(series, "series"), _generator(rng)
    return rng.permuted(x, axis=1).reshape(np.shape(series))


def circularly_shifted(series: ArrayLike, rng: _Random, least: float = 0.2) -> Array:
    r"""Roll each series by a random shift: $s_t=x_{(t-k)\bmod T}$, k uniform on $[\ell T,(1-\ell)T]$.

    Keeps the dependence within the series but for one seam, where a series with a trend jumps.

    Args:
        series: ``(N, T)`` or ``(T,)``, T at least 4.
        rng: a generator, which advances, or a seed.
        least: $\ell$, the least shift either way as a share of T, from 0 up to 0.5; a shift is never 0.

    Returns:
        The shape of ``series``.

    Raises:
        ValueError: as in ``shuffled``, or a ``least`` that leaves no whole shift.
        TypeError: values that are not real numbers, or a table with labels.
    """
    x, rng = _rows(series, "series"), _generator(rng)
    length = x.shape[1]
    low = max(1, ceil(least * length - 1e-9)) if 0 <= least <= 0.5 else length
    if low > length - low:
        raise ValueError(f"least must leave a whole shift of {length} points, in [0, 0.5]; got {least}")
    shift = rng.integers(low, length - low, size=(len(x), 1), endpoint=True)
    return np.take_along_axis(x, (np.arange(length) - shift) % length, axis=1).reshape(np.shape(series))


def phase_randomized(series: ArrayLike, rng: _Random) -> Array:
    r"""Draw Fourier surrogates: the amplitudes of each series with random phases.

    $\hat s_k=|\hat x_k|\,e^{i\varphi_k}$, $\varphi_k$ uniform for $0<k<T/2$; $\hat s_0=\hat x_0$ (the mean), and
    $\hat s_{T/2}=\pm\hat x_{T/2}$ where T is even. Keeps the periodogram, hence the circular autocorrelation;
    the values become near Gaussian. The null of a stationary linear Gaussian process; a series with a trend
    becomes one of long waves. A cause and its effect have periodograms that fluctuate together, which random
    phases leave: a test of such pairs rejects somewhat above its level.

    Args:
        series: ``(N, T)`` or ``(T,)``, T at least 4.
        rng: a generator, which advances, or a seed.

    Returns:
        The shape of ``series``.

    Raises:
        ValueError: as in ``shuffled``.
        TypeError: values that are not real numbers, or a table with labels.

    Source: J. Theiler et al., Physica D 58 (1992) 77-94.
    """
    x, rng = _rows(series, "series"), _generator(rng)
    return _phase_randomized(x, rng).reshape(np.shape(series))


def block_bootstrapped(series: ArrayLike, rng: _Random, block: int) -> Array:
    r"""Draw circular block bootstraps: each series from blocks of its own points, laid end to end.

    $s_{jb+i}=x_{(u_j+i)\bmod T}$ for $0\le i<b$ with starts $u_j$ uniform on all T points; the last block is cut.

    Args:
        series: ``(N, T)`` or ``(T,)``, T at least 4.
        rng: a generator, which advances, or a seed.
        block: b, points in a block, from 1 (the ordinary bootstrap: no permutation) to T (a random roll).

    Returns:
        The shape of ``series``.

    Raises:
        ValueError: as in ``shuffled``, or a block length out of range.
        TypeError: values that are not real numbers, a block length that is not a whole number.

    Source: D. N. Politis, J. P. Romano, in: Exploring the Limits of Bootstrap (Wiley 1992) 263-270.
    """
    x, rng = _rows(series, "series"), _generator(rng)
    n, length = x.shape
    if isinstance(block, bool) or not isinstance(block, Integral):
        raise TypeError(f"block must be a whole number, got {block!r}")
    if not 1 <= block <= length:
        raise ValueError(f"block must lie between 1 and the {length} points of a series, got {block}")
    n_blocks = ceil(length / block)
    starts = rng.integers(length, size=(n, n_blocks, 1))
    at = (starts + np.arange(block)).reshape(n, n_blocks * int(block))[:, :length] % length
    return np.take_along_axis(x, at, axis=1).reshape(np.shape(series))


def same_increments_walk(series: ArrayLike, rng: _Random) -> Array:
    r"""Draw Gaussian random walks from each series' start with its variance of increments.

    $s_1=x_1$, $s_{t+1}=s_t+\sigma\,\eta_t$, $\eta_t\sim N(0,1)$, with $\sigma^2$ the variance of the T - 1
    increments about their mean (divisor T - 1). No drift, and nothing of the increments' order: see
    ``phase_randomized_increments``.

    Args:
        series: ``(N, T)`` or ``(T,)``, T at least 4.
        rng: a generator, which advances, or a seed.

    Returns:
        The shape of ``series``.

    Raises:
        ValueError: as in ``shuffled``.
        TypeError: values that are not real numbers, or a table with labels.
    """
    x, rng = _rows(series, "series"), _generator(rng)
    steps = np.diff(x, axis=1)
    return _walk(x, rng.normal(size=steps.shape) * steps.std(axis=1, keepdims=True)).reshape(np.shape(series))


def phase_randomized_increments(series: ArrayLike, rng: _Random) -> Array:
    r"""Sum phase-randomized increments: $s_1=x_1$, $\Delta s$ = ``phase_randomized`` of $\Delta x$.

    The null for a path whose increments are a stationary linear process. Keeps both ends, for the mean
    increment is kept.

    Args:
        series: ``(N, T)`` or ``(T,)``, T at least 4.
        rng: a generator, which advances, or a seed.

    Returns:
        The shape of ``series``.

    Raises:
        ValueError: as in ``shuffled``.
        TypeError: values that are not real numbers, or a table with labels.
    """
    x, rng = _rows(series, "series"), _generator(rng)
    return _walk(x, _phase_randomized(np.diff(x, axis=1), rng)).reshape(np.shape(series))


def trend_matched_pairs(
    effect: ArrayLike, cause: ArrayLike, rng: _Random, degree: int = 3
) -> tuple[Array, Array]:
    r"""Draw independent pairs with the trends of the given ones: whatever links a pair, its trends do.

    Of each series, effect and cause alike, $s_t=g(t)+e_t$. The trend g is the polynomial of least squares, and
    the noise a stationary Gaussian AR(1) process, $e_{t+1}=r\,e_t+\sigma\sqrt{1-r^2}\,\eta_t$, with the residuals'
    $\sigma^2=\frac{1}{T-d-1}\sum_t(x_t-g(t))^2$ and lag-1 autocorrelation r. All noises are independent.

    Args:
        effect: ``(N, T)``, or ``(T,)`` for one that all causes share.
        cause: ``(N, T)`` or ``(T,)``.
        rng: a generator, which advances, or a seed.
        degree: d, of the polynomial, from 0 (no trend) to T - 2.

    Returns:
        Two arrays in the shapes of ``effect`` and ``cause``.

    Raises:
        ValueError: as in ``shuffled``, series that do not fit each other, or a degree out of range.
        TypeError: values that are not real numbers, a degree that is not a whole number.
    """
    y, x = _rows(effect, "effect"), _rows(cause, "cause")
    length = x.shape[1]
    if y.shape[1] != length or (np.ndim(effect) == 2 and len(y) != len(x)):
        raise ValueError(
            f"effect {np.shape(effect)} and cause {np.shape(cause)} must agree in T, and in N where both have it"
        )
    if isinstance(degree, bool) or not isinstance(degree, Integral):
        raise TypeError(f"degree must be a whole number, got {degree!r}")
    if not 0 <= degree <= length - 2:
        raise ValueError(f"degree must lie between 0 and {length - 2} for {length} points, got {degree}")
    rng = _generator(rng)
    y, x = _same_trend(y, rng, int(degree)), _same_trend(x, rng, int(degree))
    return y.reshape(np.shape(effect)), x.reshape(np.shape(cause))


def _rows(series: ArrayLike, name: str) -> Array:
    """The series as new float64 rows ``(N, T)``, those that are not finite as NaN."""
    values = series_in_rows(series, name)
    if values.shape[-1] < _FEWEST_POINTS:
        raise ValueError(f"{name} must have at least {_FEWEST_POINTS} points in time, got {values.shape[-1]}")
    if isinstance(values, Tensor):
        values = values.to("cpu", torch.float64).numpy()
    # row-major whatever the input was, for sums to run in one order
    rows = np.array(values.reshape(-1, values.shape[-1]), dtype=np.float64, order="C")
    rows[~np.isfinite(rows).all(axis=1)] = np.nan
    return rows


def _generator(rng: _Random) -> np.random.Generator:
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(checked_seed(rng))


def _phase_randomized(x: Array, rng: np.random.Generator) -> Array:
    length = x.shape[1]
    spectrum = np.fft.rfft(x, axis=1)
    free = (length - 1) // 2
    spectrum[:, 1 : free + 1] *= np.exp(2j * np.pi * rng.random((len(x), free)))
    if length % 2 == 0:
        spectrum[:, -1] *= rng.choice((-1.0, 1.0), size=len(x))
    return np.fft.irfft(spectrum, length, axis=1)


def _walk(x: Array, steps: Array) -> Array:
    return np.concatenate([x[:, :1], x[:, :1] + np.cumsum(steps, axis=1)], axis=1)


def _same_trend(x: Array, rng: np.random.Generator, degree: int) -> Array:
    n, length = x.shape
    # Chebyshev polynomials, orthonormalized: powers of t are nearly dependent
    basis = np.linalg.qr(np.polynomial.chebyshev.chebvander(np.linspace(-1, 1, length), degree))[0]
    trend = (x @ basis) @ basis.T
    rest = x - trend
    energy = (rest**2).sum(axis=1)
    sigma = np.sqrt(energy / (length - degree - 1))
    memory = np.divide((rest[:, 1:] * rest[:, :-1]).sum(axis=1), energy, out=np.zeros(n), where=energy > 0)
    noise = rng.normal(size=(n, length))
    kick = np.sqrt(1 - memory**2)
    for t in range(1, length):
        noise[:, t] = memory * noise[:, t - 1] + kick * noise[:, t]
    return trend + sigma[:, None] * noise
