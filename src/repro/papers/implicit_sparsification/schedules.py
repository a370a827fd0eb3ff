"""Strengths of the penalty by step (or by epoch): constant, and three that die out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repro.base import unknown

__all__ = ["SCHEDULES", "amplitude_for_dose", "dose", "followed_by_zeros", "schedule"]

Array = NDArray[np.float64]

_SHAPES: dict[str, Callable[[Array, float], Array]] = {
    "constant": lambda k, ratio: np.ones_like(k),
    "harmonic": lambda k, ratio: 1 / k,
    "quadratic": lambda k, ratio: 1 / k**2,
    "geometric": lambda k, ratio: ratio**k,
}

SCHEDULES = tuple(_SHAPES)
"""Names of the schedules; the paper's decaying ones are the last three (version 1, figure 1b)."""


def schedule(
    name: str, amplitude: float, n_steps: int, *, ratio: float = 0.95, hold: int = 0
) -> NDArray[np.float64]:
    r"""Strength of each step: $\alpha_0$, $\alpha_0/k$, $\alpha_0/k^2$ or $\alpha_0 q^k$ for $k=1,\dots,K$.

    With ``hold`` $=h$ the strength is $\alpha_0$ for the first $h$ steps and $k$ counts from there on. A step is a
    gradient step in the diagonal networks and an epoch in deep ones; the geometric schedule decays by that step and
    not by time, so the same name means different doses at different step sizes (see ``amplitude_for_dose``).

    Args:
        name: one of ``SCHEDULES``.
        amplitude: $\alpha_0\ge0$, in the unit of $\alpha$ (PyTorch's ``weight_decay`` is $2\alpha$).
        n_steps: $K$, at least 1.
        ratio: $q$ of the geometric schedule, in (0, 1).
        hold: steps at full strength first, at most ``n_steps``.

    Returns:
        Strengths ``(n_steps,)``.

    Raises:
        ValueError: an unknown name, a negative or infinite amplitude, a ratio that does not decay, or a schedule
            that holds longer than training lasts.

    Source: Jacobs and Burkholz, version 1, section 4 (diagonal linear networks).
    """
    if name not in _SHAPES:
        raise ValueError(unknown("schedule", name, SCHEDULES))
    if not (amplitude >= 0 and np.isfinite(amplitude)):
        raise ValueError(f"amplitude must be a number, 0 or above; got {amplitude!r}")
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps!r}")
    if not 0 < ratio < 1:
        raise ValueError(f"ratio must lie strictly between 0 and 1 for the strength to decay; got {ratio!r}")
    if not 0 <= hold <= n_steps:
        raise ValueError(f"hold must lie between 0 and the {n_steps} steps of training; got {hold!r}")
    decaying = _SHAPES[name](np.arange(1.0, n_steps - hold + 1), ratio)
    return amplitude * np.concatenate([np.ones(hold), decaying])


def dose(strengths: ArrayLike, step_size: float) -> NDArray[np.float64]:
    r"""Dose after each step, $A_k=\eta\sum_{j\le k}\alpha_j$, the discrete $\int\alpha$.

    Under gradient flow the scale shrinks by $e^{-4A}$; a gradient step multiplies it by $(1-2\eta\alpha_k)^2$,
    which is far less than $e^{-4\eta\alpha_k}$ once $\eta\alpha_k$ comes near one half.

    Args:
        strengths: $\alpha_k$, ``(..., K)``.
        step_size: $\eta$.

    Returns:
        ``(..., K)``.
    """
    return step_size * np.cumsum(np.asarray(strengths, dtype=np.float64), axis=-1)


def amplitude_for_dose(
    name: str, total: float, n_steps: int, step_size: float, *, ratio: float = 0.95, hold: int = 0
) -> float:
    r"""Amplitude $\alpha_0$ with which a schedule spends this dose: $A/(\eta\sum_k s_k)$ for the shape $s$.

    Args:
        name, n_steps, ratio, hold: as for ``schedule``.
        total: $A\ge0$.
        step_size: $\eta>0$.

    Raises:
        ValueError: a step size that is not above 0, and as for ``schedule``.
    """
    if not step_size > 0:
        raise ValueError(f"step_size must be above 0, got {step_size!r}")
    unit = schedule(name, 1.0, n_steps, ratio=ratio, hold=hold)
    return float(total / (step_size * unit.sum()))


def followed_by_zeros(strengths: ArrayLike, n_steps: int) -> NDArray[np.float64]:
    """Return a schedule of one's own for ``n_steps`` steps: checked, and switched off after its end.

    Args:
        strengths: ``(..., k)`` with k at most ``n_steps``, none negative.
        n_steps: steps of training.

    Returns:
        ``(..., n_steps)``.

    Raises:
        ValueError: a negative or infinite strength, or a schedule longer than training.
    """
    values = np.asarray(strengths, dtype=np.float64)
    if values.ndim == 0 or values.size == 0:
        raise ValueError(f"a schedule is a list of strengths, one a step; got shape {values.shape}")
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        at = int(np.argwhere(wrong)[0][-1])
        raise ValueError(f"strengths must be numbers, 0 or above; got {values[wrong][0]} at step {at + 1}")
    if values.shape[-1] > n_steps:
        raise ValueError(f"the schedule has {values.shape[-1]} steps, but training has {n_steps}")
    missing = n_steps - values.shape[-1]
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
