r"""Gradient flow on $x = m\odot w$ with weight decay of a strength that changes in time, in three equivalent forms.

:func:`factor_flow` integrates the factors themselves, for any loss; :func:`mirror_flow` the weights, with the
potential of :mod:`repro.geometry.potentials`; :func:`dual_flow` the d dual variables of a linear regression, which is
stiff but cheap and reaches the limit. The three are integrated separately: that they agree is a theorem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import solve_ivp

from repro.geometry._checks import checked_problem
from repro.geometry.potentials import Factors, factors
from repro.geometry.strengths import Constant as Constant
from repro.geometry.strengths import Decaying as Decaying
from repro.geometry.strengths import Strength
from repro.geometry.strengths import SwitchedOff as SwitchedOff

__all__ = ["MirrorPath", "dual_flow", "factor_flow", "mirror_flow"]

Array = NDArray[np.float64]
Gradient = Callable[[Array], Array]
Velocity = Callable[[float, Array], Array]

_LAST = 1e9
"""Latest time of a dual flow: the residual's round-off over longer times exceeds the solver's tolerance."""


@dataclass(frozen=True, eq=False)
class MirrorPath:
    r"""A flow of $x = m\odot w$ sampled in time.

    Attributes:
        times: shape ``(n_times,)``.
        x: weights, ``(n_times, n)``.
        scale: of the potential, $a_t$, ``(n_times, n)``: $\frac\beta2e^{-4A_t}$, or, of a factor flow,
            $\frac12(m_t^2-w_t^2)$ as integrated.
        dose: $A_t$, ``(n_times,)``.
        factors: m and w, ``(n_times, n)``, of a factor flow; otherwise None.
    """

    times: Array
    x: Array
    scale: Array
    dose: Array
    factors: Factors | None = None


def factor_flow(
    gradient: Gradient,
    start: Factors,
    times: ArrayLike,
    strength: Strength,
    rtol: float = 1e-11,
    atol: float = 1e-13,
) -> MirrorPath:
    r"""Flow of the factors, $\dot m = -\nabla f(x)\odot w-2\alpha_tm$, $\dot w = -\nabla f(x)\odot m-2\alpha_tw$.

    The definition of the flow; any start, balanced ones included. Integrated by an explicit method of eighth order:
    for horizons of some tens, since leaving zero takes a time in proportion to $1/a$.

    Args:
        gradient: $\nabla f$ from weights ``(n,)`` to ``(n,)``.
        start: factors at time 0, ``(n,)`` each.
        times: increasing, 0 or above, ``(n_times,)``.
        strength: of the penalty.
        rtol, atol: tolerances of the solver.

    Returns:
        ``MirrorPath`` with factors.

    Raises:
        ValueError: a start that is not a vector, times that do not increase, a gradient of another shape.
        RuntimeError: the solver gives up.
    """
    times = _checked_times(times)
    n = _length(start.m)
    _check_gradient(gradient, start.x)

    def velocity(t: float, state: Array) -> Array:
        m, w = state[:n], state[n:]
        g, alpha = gradient(m * w), strength.at(t)
        return np.concatenate([-g * w - 2 * alpha * m, -g * m - 2 * alpha * w])

    state = _integrate(
        velocity, np.concatenate([start.m, start.w]), times, strength.jumps, "DOP853", rtol=rtol, atol=atol
    )[1]
    m, w = state[:, :n], state[:, n:]
    return MirrorPath(times, m * w, 0.5 * (m - w) * (m + w), strength.dose(times), Factors(m, w))


def mirror_flow(
    gradient: Gradient,
    x0: ArrayLike,
    beta: float,
    times: ArrayLike,
    strength: Strength,
    rtol: float = 1e-11,
    atol: float = 1e-13,
) -> MirrorPath:
    r"""Mirror flow of the weights, $\dot x = -2\sqrt{x^2+a_t^2}\odot\nabla f(x)-4\alpha_tx$.

    It is $d\,\nabla R_{a_t}(x_t) = -\nabla f\,dt$, $a_t = \frac\beta2e^{-4A_t}$, written for x, without factors.

    Args:
        gradient: $\nabla f$ from weights ``(n,)`` to ``(n,)``.
        x0: weights at time 0, ``(n,)``.
        beta: $m_0^2-w_0^2>0$. A balanced start (0) has no potential; it needs :func:`factor_flow`.
        times, strength, rtol, atol: as in :func:`factor_flow`.

    Raises:
        ValueError: a beta that is not positive; otherwise as :func:`factor_flow`.
        RuntimeError: the solver gives up.
    """
    times = _checked_times(times)
    x0 = _checked_start(x0, beta)
    _check_gradient(gradient, x0)

    def velocity(t: float, x: Array) -> Array:
        a = beta / 2 * np.exp(-4 * strength.dose(t))
        return -2 * np.hypot(x, a) * gradient(x) - 4 * strength.at(t) * x

    x = _integrate(velocity, x0, times, strength.jumps, "DOP853", rtol=rtol, atol=atol)[1]
    return _path(times, x, beta, strength)


def dual_flow(
    Z: ArrayLike,
    y: ArrayLike,
    x0: ArrayLike,
    beta: float,
    strength: Strength,
    times: ArrayLike | None = None,
    horizon: float = 1e7,
) -> MirrorPath:
    r"""The same flow for $f(x) = \frac1{2d}\|Zx-y\|^2$, in d dual variables.

    $\dot\nu = -(Zx-y)/d$ with $x = a_t\sinh(2Z^\top\nu+c)$: exact because $\nabla R_{a_t}(x_t) = -\int\nabla f$ never
    leaves the range of $Z^\top$. Integrated by an implicit method with the exact Jacobian, so that horizons at which
    every loss has vanished cost a fraction of a second. The slowest speed is about $a_\infty$: a dose of 6 from
    $\beta=1$ needs a horizon of 1e9, one of 4 that of 1e7. Under constant strength 1e5 is right: later the dual
    variables, which grow without end, hold fewer digits of the weights.

    Args:
        Z: inputs, ``(d, n)``.
        y: targets, ``(d,)``.
        x0: weights at time 0, ``(n,)``.
        beta: $m_0^2-w_0^2>0$.
        strength: of the penalty.
        times: increasing, 0 to 1e9; None for the solver's own steps from 0 to ``horizon``.
        horizon: last time, up to 1e9; only without ``times``.

    Returns:
        ``MirrorPath`` without factors.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, a beta or a horizon that is not positive.
        RuntimeError: the solver gives up.
    """
    Z, y = checked_problem(Z, y)
    x0 = _checked_start(x0, beta)
    d, n = Z.shape
    if len(x0) != n:
        raise ValueError(f"x0 must hold one weight for each of the {n} columns of Z; got {len(x0)}")
    if times is None and not horizon > 0:
        raise ValueError(f"horizon must be positive; got {horizon}")
    span = np.array([0.0, horizon]) if times is None else _checked_times(times)
    if span[-1] > _LAST:
        raise ValueError(
            f"a dual flow is followed up to time {_LAST:.0e}, beyond it in round-off; got {span[-1]}"
        )
    centre = np.arcsinh(x0 / (beta / 2))

    def log_scale(t: ArrayLike) -> Array:
        return np.log(beta / 2) - 4 * strength.dose(t)

    def velocity(t: float, nu: Array) -> Array:
        return -(Z @ _sinh(2 * nu @ Z + centre, log_scale(t)) - y) / d

    def jacobian(t: float, nu: Array) -> Array:
        x = _sinh(2 * nu @ Z + centre, log_scale(t))
        return -(Z * (2 * np.hypot(x, np.exp(log_scale(t))))) @ Z.T / d

    found, nu = _integrate(
        velocity,
        np.zeros(d),
        span,
        strength.jumps,
        "LSODA",
        dense=times is None,
        jac=jacobian,
        rtol=1e-10,
        atol=1e-12,
    )
    return _path(found, _sinh(2 * nu @ Z + centre, log_scale(found)[:, None]), beta, strength)


def _sinh(z: Array, log_a: Array) -> Array:
    """a sinh z from log a: under constant decay a underflows while a sinh z does not."""
    far = np.abs(z) > 300
    distant = np.sign(z) * np.exp(np.abs(z) + log_a - np.log(2))
    return np.where(far, distant, np.exp(log_a) * np.sinh(np.where(far, 0.0, z)))


def _integrate(
    velocity: Velocity,
    start: Array,
    times: Array,
    jumps: tuple[float, ...],
    method: Literal["DOP853", "LSODA"],
    dense: bool = False,
    **options: Any,
) -> tuple[Array, Array]:
    """Times and states ``(n_times, size)`` from time 0 on, restarted where the velocity jumps.

    With ``dense`` at every step of the solver, otherwise at ``times``.
    """
    last = float(times[-1])
    edges = {0.0, *(t for t in jumps if t < last), last}
    if (
        method == "DOP853"
    ):  # its steps end at the times: its interpolation between steps is a thousand times coarser
        edges |= {float(t) for t in times}
    found = [(np.zeros(1), start[None])] if dense or times[0] == 0 else []
    for left, right in pairwise(sorted(edges)):
        wanted = times[(times > left) & (times <= right)]
        asked = None if dense else np.union1d(wanted, [right])
        solution = solve_ivp(
            _within(velocity, left, right), (left, right), start, method, t_eval=asked, **options
        )
        if not solution.success:
            raise RuntimeError(f"the flow could not be integrated beyond {left}: {solution.message}")
        kept = solution.t > left if dense else np.isin(solution.t, wanted)
        found.append((solution.t[kept], solution.y.T[kept]))
        start = solution.y[:, -1]
    return np.concatenate([t for t, _ in found]), np.concatenate([state for _, state in found])


def _within(velocity: Velocity, left: float, right: float) -> Velocity:
    """The velocity between two jumps, at its ends too the one from inside."""
    first, last = float(np.nextafter(left, right)), float(np.nextafter(right, left))

    def clipped(t: float, state: Array) -> Array:
        return velocity(min(max(t, first), last), state)

    return clipped


def _path(times: Array, x: Array, beta: float, strength: Strength) -> MirrorPath:
    dose = strength.dose(times)
    scale = np.broadcast_to((beta / 2 * np.exp(-4 * dose))[:, None], x.shape)
    return MirrorPath(times, x, scale, dose)


def _checked_times(times: ArrayLike) -> Array:
    times = np.asarray(times, dtype=np.float64)
    if times.ndim != 1 or not len(times) or not np.isfinite(times).all():
        raise ValueError(f"times must be a list of at least one finite number; got {times}")
    if times[0] < 0 or (np.diff(times) <= 0).any():
        raise ValueError(f"times must be 0 or above and increase; got {times}")
    return times


def _length(x: Array) -> int:
    if x.ndim != 1 or not len(x):
        raise ValueError(f"a flow starts from vectors (n,) with n at least 1; got shape {x.shape}")
    return len(x)


def _checked_start(x0: ArrayLike, beta: float) -> Array:
    if not 0 < beta < np.inf:
        raise ValueError(f"a mirror flow needs beta = m^2 - w^2 above 0 and finite; got {beta}")
    x0 = factors(x0, beta).x
    _length(x0)
    return x0


def _check_gradient(gradient: Gradient, x: Array) -> None:
    if (shape := np.shape(gradient(x))) != x.shape:
        raise ValueError(f"the gradient must have the shape of the weights, {x.shape}; got {shape}")
