"""Systems with known answers: largest Lyapunov exponents, and pairs of series of known direction and strength.

Chaotic systems return one orbit after a transient; their exponents, in nats a step (Lorenz: a unit of time), are in
``EXPONENTS``. Stochastic ones return N series of T points, ``(N, T)``; pairs come as ``effect, cause``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.signal import lfilter

Array = NDArray[np.float64]
Rng = np.random.Generator

EXPONENTS = {"logistic": np.log(2), "tent": np.log(2), "henon": 0.41922, "lorenz": 0.9056}
"""Logistic map (r = 4) and tent map: exact. Hénon, Lorenz: Sprott, Chaos and Time-Series Analysis (2003)."""

TRANSIENT = 200


def logistic_map(n: int, r: float = 4.0, x0: float = 0.3) -> Array:
    r"""$x_{t+1}=r\,x_t(1-x_t)$. At r = 4 the invariant density is $1/(\pi\sqrt{x(1-x)})$, the exponent $\ln2$."""
    x = np.empty(TRANSIENT + n)
    x[0] = x0
    for t in range(1, len(x)):
        x[t] = r * x[t - 1] * (1 - x[t - 1])
    return x[TRANSIENT:]


def tent_map(n: int, numerator: int = 314159265358979323) -> Array:
    r"""$x_{t+1}=1-|1-2x_t|$, invariant density 1, exponent $\ln2$.

    In binary floating point every orbit reaches 0 within 55 steps, a bit a step. So the orbit is run in whole
    numbers, $x=k/p$ with the prime $p=10^{18}+9$: exact, and it never reaches 0. (Not every prime will do:
    modulo $2^{61}-1$ the powers of two return to 1 after 61 steps.)
    """
    p, k = 10**18 + 9, numerator
    x = np.empty(TRANSIENT + n)
    for t in range(len(x)):
        x[t] = k / p
        k = min(2 * k, 2 * (p - k))
    return x[TRANSIENT:]


def henon(n: int, a: float = 1.4, b: float = 0.3) -> Array:
    r"""$x_{t+1}=1-a\,x_t^2+y_t,\ y_{t+1}=b\,x_t$: an orbit ``(n, 2)``. The two exponents add up to $\ln b$."""
    orbit = np.empty((TRANSIENT + n, 2))
    orbit[0] = 0.1, 0.1
    for t in range(1, len(orbit)):
        x, y = orbit[t - 1]
        orbit[t] = 1 - a * x * x + y, b * x
    return orbit[TRANSIENT:]


def lorenz(n: int, step: float = 0.05, sigma: float = 10.0, rho: float = 28.0, beta: float = 8 / 3) -> Array:
    r"""$\dot x=\sigma(y-x),\ \dot y=x(\rho-z)-y,\ \dot z=xy-\beta z$: ``(n, 3)``, a point every ``step``."""

    def velocity(_: float, at: Array) -> list[float]:
        x, y, z = at
        return [sigma * (y - x), x * (rho - z) - y, x * y - beta * z]

    times = 20 + step * np.arange(n)
    found = solve_ivp(velocity, (0, times[-1]), [1.0, 1.0, 20.0], t_eval=times, rtol=1e-9, atol=1e-9)
    return found.y.T


def white_noise(shape: tuple[int, int], rng: Rng) -> Array:
    """Independent standard normal numbers: no memory, no exponent."""
    return rng.normal(size=shape)


def random_walk(shape: tuple[int, int], rng: Rng) -> Array:
    r"""$x_t=x_{t-1}+e_t$ with standard normal $e_t$: a unit root, variance t."""
    return rng.normal(size=shape).cumsum(axis=1)


def ar(phi: float, shape: tuple[int, int], rng: Rng) -> Array:
    r"""$x_t=\phi x_{t-1}+e_t$, stationary from the start: variance $1/(1-\phi^2)$, autocorrelation $\phi^k$."""
    shocks = rng.normal(size=shape)
    shocks[:, 0] /= np.sqrt(1 - phi**2)
    return lfilter([1.0], [1.0, -phi], shocks, axis=1)


def coupled_pairs(
    shape: tuple[int, int], rng: Rng, forward: float, backward: float = 0.0, phi: float = 0.5
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


def shared_trend_pairs(shape: tuple[int, int], rng: Rng, height: float = 5.0) -> tuple[Array, Array]:
    r"""Pairs with no causation that share a trend: $h\,e^{-3t/T}$ plus independent standard normal noise."""
    trend = height * np.exp(-3 * np.arange(shape[1]) / shape[1])
    return trend + rng.normal(size=shape), trend + rng.normal(size=shape)


def unit_root_pairs(shape: tuple[int, int], rng: Rng) -> tuple[Array, Array]:
    """Pairs of independent random walks: no causation, and regressions that pretend otherwise."""
    return random_walk(shape, rng), random_walk(shape, rng)
