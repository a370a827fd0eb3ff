r"""How strong the penalty on the factors is in the course of time, and its integral, the dose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Constant", "Decaying", "Strength", "SwitchedOff"]

Array = NDArray[np.float64]


class Strength(ABC):
    r"""Strength $\alpha_t$ of the penalty $\alpha_t(\|m\|^2+\|w\|^2)$; PyTorch's ``weight_decay`` is $2\alpha$."""

    jumps: tuple[float, ...] = ()
    """Times where $\\alpha_t$ is not continuous."""

    @abstractmethod
    def at(self, t: ArrayLike) -> Array:
        r"""Strength $\alpha_t$ at the times t, of their shape."""

    @abstractmethod
    def dose(self, t: ArrayLike) -> Array:
        r"""Dose $A_t = \int_0^t\alpha_s\,ds$ at the times t, of their shape."""

    @property
    @abstractmethod
    def total(self) -> float:
        r"""Dose of all time, $A_\infty$; may be infinite."""


@dataclass(frozen=True)
class Constant(Strength):
    r"""$\alpha_t = \alpha$: the flow does not interpolate but tends to the LASSO with penalty $2\alpha$.

    Args:
        alpha: 0 or above; 0 is no weight decay.

    Raises:
        ValueError: a strength that is negative or not finite.
    """

    alpha: float

    def __post_init__(self) -> None:
        _check_strength(self.alpha)

    def at(self, t: ArrayLike) -> Array:
        return np.full_like(t, self.alpha, dtype=np.float64)

    def dose(self, t: ArrayLike) -> Array:
        return self.alpha * np.asarray(t, dtype=np.float64)

    @property
    def total(self) -> float:
        return np.inf if self.alpha else 0.0


@dataclass(frozen=True)
class Decaying(Strength):
    r"""$\alpha_t = \alpha e^{-rt}$, of total dose $\alpha/r$.

    Args:
        alpha: strength at time 0, 0 or above.
        rate: r, above 0, in one over the unit of time.

    Raises:
        ValueError: a value outside its range.
    """

    alpha: float
    rate: float

    def __post_init__(self) -> None:
        _check_strength(self.alpha)
        if not 0 < self.rate < np.inf:
            raise ValueError(f"rate must be positive and finite; got {self.rate}")

    def at(self, t: ArrayLike) -> Array:
        return self.alpha * np.exp(-self.rate * np.asarray(t, dtype=np.float64))

    def dose(self, t: ArrayLike) -> Array:
        return -self.alpha / self.rate * np.expm1(-self.rate * np.asarray(t, dtype=np.float64))

    @property
    def total(self) -> float:
        return self.alpha / self.rate


@dataclass(frozen=True)
class SwitchedOff(Strength):
    r"""$\alpha_t = \alpha$ up to a time T, then 0; of total dose $\alpha T$.

    Args:
        alpha: strength before T, 0 or above.
        time: T, above 0.

    Raises:
        ValueError: a value outside its range.
    """

    alpha: float
    time: float

    def __post_init__(self) -> None:
        _check_strength(self.alpha)
        if not 0 < self.time < np.inf:
            raise ValueError(f"time must be positive and finite; got {self.time}")
        object.__setattr__(self, "jumps", (float(self.time),))

    def at(self, t: ArrayLike) -> Array:
        return np.where(np.asarray(t) < self.time, self.alpha, 0.0)

    def dose(self, t: ArrayLike) -> Array:
        return self.alpha * np.minimum(np.asarray(t, dtype=np.float64), self.time)

    @property
    def total(self) -> float:
        return self.alpha * self.time


def _check_strength(alpha: float) -> None:
    if not 0 <= alpha < np.inf:
        raise ValueError(f"alpha must be 0 or above and finite; got {alpha}")
