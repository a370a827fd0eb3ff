"""Systems with known answers: largest Lyapunov exponents, and pairs of series of known direction and strength.

Everything comes as N series of T points, ``(N, T)``; pairs come as ``effect, cause``. The exponents of the chaotic
systems, in nats a step, are in ``EXPONENTS``.

An orbit of a chaotic system amplifies the last bit of its arithmetic without bound. So these are many orbits from
random starts, for tests to judge means over them, and they are made of additions and multiplications alone, number by
number: no BLAS, no sine whose last bit depends on the processor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Array = NDArray[np.float64]
Rng = np.random.Generator
Shape = tuple[int, int]

EXPONENTS = {"logistic": np.log(2), "tent": np.log(2), "henon": 0.41922}
"""Logistic map and tent map: exact. Hénon: Sprott, Chaos and Time-Series Analysis (2003)."""

TRANSIENT = 200


def logistic_map(shape: Shape, rng: Rng) -> Array:
    r"""$x_{t+1}=4\,x_t(1-x_t)$. The invariant density is $1/(\pi\sqrt{x(1-x)})$, the exponent $\ln2$."""
    n, length = shape
    x = np.empty((TRANSIENT + length, n))
    x[0] = rng.uniform(size=n)
    for t in range(1, len(x)):
        x[t] = 4 * x[t - 1] * (1 - x[t - 1])
    return x[TRANSIENT:].T


def tent_map(shape: Shape, rng: Rng) -> Array:
    r"""$x_{t+1}=1-|1-2x_t|$, invariant density 1, exponent $\ln2$.

    In binary floating point every orbit reaches 0 within 55 steps, a bit a step. So the orbits are run in whole
    numbers, $x=k/p$ with the prime $p=10^{18}+9$: exact, and they never reach 0. (Not every prime will do:
    modulo $2^{61}-1$ the powers of two return to 1 after 61 steps.)
    """
    n, length = shape
    p, k = 10**18 + 9, rng.integers(1, 10**18 + 9, size=n)
    x = np.empty((TRANSIENT + length, n))
    for t in range(len(x)):
        x[t] = k / p
        k = np.minimum(2 * k, 2 * (p - k))
    return x[TRANSIENT:].T


def henon(shape: Shape, rng: Rng, a: float = 1.4, b: float = 0.3) -> Array:
    r"""$x_{t+1}=1-a\,x_t^2+y_t,\ y_{t+1}=b\,x_t$: x and y, ``(2, N, T)``. The two exponents add up to $\ln b$."""
    n, length = shape
    orbits = np.empty((TRANSIENT + length, 2, n))
    orbits[0] = rng.uniform(-0.1, 0.1, size=(2, n))
    for t in range(1, len(orbits)):
        x, y = orbits[t - 1]
        orbits[t] = 1 - a * x * x + y, b * x
    return orbits[TRANSIENT:].transpose(1, 2, 0)


def white_noise(shape: Shape, rng: Rng) -> Array:
    """Independent standard normal numbers: no memory, no exponent."""
    return rng.normal(size=shape)


def random_walk(shape: Shape, rng: Rng) -> Array:
    r"""$x_t=x_{t-1}+e_t$ with standard normal $e_t$: a unit root, variance t."""
    return rng.normal(size=shape).cumsum(axis=1)


def ar(phi: float, shape: Shape, rng: Rng) -> Array:
    r"""$x_t=\phi x_{t-1}+e_t$, stationary from the start: variance $1/(1-\phi^2)$, autocorrelation $\phi^k$."""
    shocks = rng.normal(size=shape)
    shocks[:, 0] /= np.sqrt(1 - phi**2)
    return lfilter([1.0], [1.0, -phi], shocks, axis=1)


def coupled_pairs(
    shape: Shape, rng: Rng, forward: float, backward: float = 0.0, phi: float = 0.5
) -> tuple[Array, Array]:
    r"""Autoregressive pairs of known strength: effect y and cause x.

    $y_t=\phi y_{t-1}+b\,x_{t-1}+e_t,\quad x_t=\phi x_{t-1}+c\,y_{t-1}+u_t$ with b ``forward``, c ``backward`` and
    independent standard normal e, u. Stationary where $|\phi\pm\sqrt{bc}|<1$. b = c = 0: no causation.
    """
    n, length = shape
    shocks = rng.normal(size=(TRANSIENT + length, 2, n))
    pair = np.zeros((TRANSIENT + length, 2, n))
    system = np.array([[phi, forward], [backward, phi]])
    for t in range(1, len(pair)):
        pair[t] = system @ pair[t - 1] + shocks[t]
    return pair[TRANSIENT:, 0].T, pair[TRANSIENT:, 1].T


def shared_trend_pairs(shape: Shape, rng: Rng, height: float = 5.0) -> tuple[Array, Array]:
    r"""Pairs with no causation that share a trend: $h\,e^{-3t/T}$ plus independent standard normal noise."""
    trend = height * np.exp(-3 * np.arange(shape[1]) / shape[1])
    return trend + rng.normal(size=shape), trend + rng.normal(size=shape)


def unit_root_pairs(shape: Shape, rng: Rng) -> tuple[Array, Array]:
    """Pairs of independent random walks: no causation, and regressions that pretend otherwise."""
    return random_walk(shape, rng), random_walk(shape, rng)
