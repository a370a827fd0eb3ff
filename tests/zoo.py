"""Systems with known answers: largest Lyapunov exponents, and pairs of series of known direction and strength.

Everything comes as N series of T points, ``(N, T)``; pairs come as ``effect, cause``.

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

TRANSIENT = 200


def logistic_map(shape: Shape, rng: Rng) -> Array:
    r"""$x_{t+1}=4\,x_t(1-x_t)$. The invariant density is $1/(\pi\sqrt{x(1-x)})$, the exponent $\ln2$."""
    n, length = shape
    x = np.empty((TRANSIENT + length, n))
    x[0] = rng.uniform(size=n)
    for t in range(1, len(x)):
        x[t] = 4 * x[t - 1] * (1 - x[t - 1])
    return x[TRANSIENT:].T


def henon(shape: Shape, rng: Rng, a: float = 1.4, b: float = 0.3) -> Array:
    r"""$x_{t+1}=1-a\,x_t^2+y_t,\ y_{t+1}=b\,x_t$, of which x; exponent 0.41922 (Sprott 2003)."""
    n, length = shape
    orbits = np.empty((TRANSIENT + length, 2, n))
    orbits[0] = rng.uniform(-0.1, 0.1, size=(2, n))
    for t in range(1, len(orbits)):
        x, y = orbits[t - 1]
        orbits[t] = 1 - a * x * x + y, b * x
    return orbits[TRANSIENT:, 0].T


def ar(phi: float, shape: Shape, rng: Rng) -> Array:
    r"""$x_t=\phi x_{t-1}+e_t$, stationary from the start: variance $1/(1-\phi^2)$, autocorrelation $\phi^k$."""
    shocks = rng.normal(size=shape)
    shocks[:, 0] /= np.sqrt(1 - phi**2)
    return lfilter([1.0], [1.0, -phi], shocks, axis=1)


def coupled_pairs(shape: Shape, rng: Rng, strength: float, phi: float = 0.5) -> tuple[Array, Array]:
    r"""Autoregressive pairs of known strength: effect y and cause x.

    $y_t=\phi y_{t-1}+b\,x_{t-1}+e_t,\quad x_t=\phi x_{t-1}+u_t$ with independent standard normal e, u.
    """
    n, length = shape
    shocks = rng.normal(size=(TRANSIENT + length, 2, n))
    pair = np.zeros((TRANSIENT + length, 2, n))
    system = np.array([[phi, strength], [0.0, phi]])
    for t in range(1, len(pair)):
        pair[t] = system @ pair[t - 1] + shocks[t]
    return pair[TRANSIENT:, 0].T, pair[TRANSIENT:, 1].T
