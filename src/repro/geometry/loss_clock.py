r"""Gradient flow with $z = -\log\mathcal L$ as its clock.

Time runs away exponentially as the loss falls; the path does not. With $z$ as the independent variable

$$\frac{dw}{dz} = -\frac{M(w)\nabla\log\mathcal L}{R(w)},\qquad
R = \langle\nabla\log\mathcal L, M(w)\nabla\log\mathcal L\rangle,
\qquad \frac{dt}{dz} = \frac{e^z}{R},$$

the path is the same, $-\log\mathcal L(w(z)) = z$ holds exactly (so that the error of the integration can be
read off at every point), nothing over- or underflows, and $R = \frac{d}{dt}\frac1{\mathcal L}$ comes for
free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import LSODA

from repro.geometry.homogeneous import BinaryProblem
from repro.geometry.packing import Packing
from repro.geometry.parametrizations import Parametrization, row_dot

__all__ = ["ClockedPath", "log_times", "loss_clock"]

Array = NDArray[np.float64]

_STALLED = 1e-14
"""Rate $R$ below which the flow counts as stuck: no further point of the data can be fitted."""


@dataclass(frozen=True, eq=False)
class ClockedPath:
    r"""A gradient flow sampled at values of $z$.

    Attributes:
        z: $-\log\mathcal L$, shape ``(n_points,)``, the start included; it ends where a flow stalls.
        weights: one array ``(n_points, n_out, n_in)`` a layer.
        gradients: $\nabla_w\log\mathcal L$, of the same shapes.
        log_rate: $\log\frac{d}{dt}\mathcal L^{-1}$ at unit learning rate, ``(n_points,)``.
        log_time: $\log t$ since the start, ``(n_points,)``; the first entry is $-\infty$.
        status: ``"reached"`` if the last $z$ that was asked for was reached; ``"stalled"`` if the flow comes
            to rest before it; ``"gave up"`` if the solver failed or used all its steps.
        error: largest $|{-\log\mathcal L(w(z))} - z|$ over the points.
        n_evaluations: gradients computed, Jacobians counted as one each.
    """

    z: Array
    weights: list[Array]
    gradients: list[Array]
    log_rate: Array
    log_time: Array
    status: str
    error: float
    n_evaluations: int

    @property
    def reached(self) -> bool:
        """Whether the last value of z that was asked for was reached."""
        return self.status == "reached"


def log_times(z: Array, log_rate: Array) -> Array:
    r"""$\log t$ from $dt/dz = e^{z - \log R}$: a trapezoid rule on the exponent, summed in the log domain.

    Between two points the exponent is taken as linear, so the rule is exact for a pure exponential; the
    common trapezoid rule on $e^z$ would be 8 % off at steps of 1.

    Args:
        z: increasing, ``(n_points,)``.
        log_rate: $\log R$ at these points.

    Returns:
        ``(n_points,)``, starting with $-\infty$.
    """
    exponent = z - log_rate
    rise = np.diff(exponent)
    # log of (e^d - 1)/d, even in the sense f(d) = d + f(-d); its value at 0 is 0.
    size = np.maximum(np.abs(rise), 1e-12)
    log_mean = exponent[:-1] + np.minimum(rise, 0.0) + size + np.log(-np.expm1(-size)) - np.log(size)
    pieces = np.log(np.diff(z)) + log_mean
    return np.concatenate([[-np.inf], np.logaddexp.accumulate(pieces)])


def loss_clock(
    problem: BinaryProblem,
    parametrization: Parametrization,
    weights: Sequence[Array],
    z: Array,
    rtol: float = 1e-10,
    atol: float = 1e-12,
    max_steps: int = 200_000,
) -> ClockedPath:
    r"""Integrate a gradient flow in weight space, $\|v_u\| = 1$, from its start through given values of $z$.

    SciPy's LSODA does the work (the system is stiff: the shares of the support vectors settle fast); its
    Jacobian is a one-sided difference of all columns in one batched gradient.

    Args:
        problem: network, data and loss.
        parametrization: whose flow.
        weights: the start, one matrix ``(n_out, n_in)`` a layer, no leading dimensions.
        z: increasing values of $-\log\mathcal L$ to stop at; those not above the start's are left out.
        rtol: relative tolerance of the solver.
        atol: absolute tolerance of the solver.
        max_steps: solver steps after which the flow is given up.

    Returns:
        The path. Its ``status`` is ``"stalled"`` where the flow stalls before the last ``z``, for example
        because every neuron that could see a point is dead: nothing is raised, the caller counts such seeds.

    Raises:
        ValueError: if ``z`` does not increase, or the weights have leading dimensions.
    """
    if np.any(np.diff(z) <= 0):
        raise ValueError("the values of z must increase")
    if any(w.ndim != 2 for w in weights):
        raise ValueError(f"one network at a time, got weights of shapes {[w.shape for w in weights]}")
    packing = Packing.of(weights)
    calls, rate = 0, np.inf

    def velocity(_: float, flat: Array) -> Array:
        nonlocal calls, rate
        calls += 1
        w = packing.unpack(flat)
        gradient = problem.gradient(w)[1]
        moved = packing.pack(parametrization.precondition(w, gradient))
        rates = row_dot(packing.pack(gradient), moved)
        rate = float(rates.min())
        return -moved / np.maximum(rates, _STALLED)[..., None]

    def jacobian(clock: float, flat: Array) -> Array:
        step = 1e-7 * np.maximum(np.abs(flat), 1e-3)
        around = np.concatenate([flat[None], flat + np.diag(step)])
        values = velocity(clock, around)
        return ((values[1:] - values[0]) / step[:, None]).T

    start = packing.pack(weights)
    z_start = -float(problem.log_loss(list(weights)))
    targets = z[z > z_start]
    points, states, status = [z_start], [start], "reached"
    velocity(z_start, start)
    if targets.size and not rate > _STALLED:
        status = "stalled"
    elif targets.size:
        solver = LSODA(velocity, z_start, start, float(targets[-1]), rtol=rtol, atol=atol, jac=jacobian)
        status, position, steps = "gave up", 0, 0
        while solver.status == "running" and steps < max_steps:
            solver.step()
            steps += 1
            if targets[position] <= solver.t:
                dense = solver.dense_output()
                while position < targets.size and targets[position] <= solver.t:
                    points.append(float(targets[position]))
                    states.append(dense(targets[position]))
                    position += 1
            if position == targets.size:
                status = "reached"
                break
            if not rate > _STALLED:
                status = "stalled"
                break
        if status != "reached" and solver.t > points[-1]:
            points.append(float(solver.t))
            states.append(np.array(solver.y))

    z_points, flats = np.array(points), np.stack(states)
    path = packing.unpack(flats)
    log_loss, gradients = problem.gradient(path)
    moved = packing.pack(parametrization.precondition(path, gradients))
    with np.errstate(divide="ignore"):
        log_rate = np.log(row_dot(packing.pack(gradients), moved))
    return ClockedPath(
        z=z_points,
        weights=path,
        gradients=gradients,
        log_rate=log_rate,
        log_time=log_times(z_points, log_rate),
        status=status,
        error=float(np.abs(-log_loss - z_points).max()),
        n_evaluations=calls,
    )
