"""Series of processes whose Lyapunov exponents are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["PROCESSES", "autoregression", "logistic"]


def logistic(n: int, length: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw ``(n, length)`` orbits of x -> 4x(1 - x), whose Lyapunov exponent is ln 2 a step."""
    x = np.empty((n, length))
    x[:, 0] = rng.uniform(0.1, 0.9, n)
    for k in range(1, length):
        x[:, k] = 4 * x[:, k - 1] * (1 - x[:, k - 1])
    return x


def autoregression(n: int, length: int, rng: np.random.Generator, phi: float = 0.9) -> NDArray[np.float64]:
    r"""Draw ``(n, length)`` stationary series $x_k=\phi x_{k-1}+\varepsilon_k$ with standard normal $\varepsilon$."""
    x = rng.standard_normal((n, length))
    x[:, 0] /= np.sqrt(1 - phi**2)  # start in the stationary law
    for k in range(1, length):
        x[:, k] += phi * x[:, k - 1]
    return x


Process = Callable[[int, int, np.random.Generator], NDArray[np.float64]]

PROCESSES: Mapping[str, Process] = {
    "white noise": lambda n, length, rng: rng.standard_normal((n, length)),
    "autoregression, 0.9": autoregression,
    "random walk": lambda n, length, rng: rng.standard_normal((n, length)).cumsum(1),
    "chaos: logistic map": logistic,
    "noisy ramp": lambda n, length, rng: np.linspace(0, 1, length) + 1e-3 * rng.standard_normal((n, length)),
    "sine": lambda n, length, rng: np.sin(2 * np.pi * (np.arange(length) / 37.3 + rng.random((n, 1)))),
    "exponential decay": lambda n, length, rng: np.exp(-np.arange(length) / rng.uniform(20, 100, (n, 1))),
}
"""Series ``(n, length)`` of processes; only the logistic map is chaotic."""
