r"""Gradient flows of weights: in ordinary time, by Euler steps, and with $z = -\log\mathcal L$ as their clock.

The first two must agree: $\dot\theta = -\nabla_\theta\mathcal L$ on the parameters, and $\dot w = -M(w)\nabla_w\mathcal
L$ on the weights (``theory.precondition``). Both are integrated by an explicit eighth-order Runge-Kutta method, which
is right for moderate losses.

For a vanishing loss, time runs away exponentially; the path does not. With $z$ as the independent variable

$$\frac{dw}{dz} = -\frac{M(w)\nabla\log\mathcal L}{R(w)},\qquad
R = \langle\nabla\log\mathcal L, M(w)\nabla\log\mathcal L\rangle = \tfrac{d}{dt}\tfrac1{\mathcal L},$$

the path is the same, $-\log\mathcal L(w(z)) = z$ holds exactly (so that the error of the integration can be
read off at every point), and nothing over- or underflows.

What flows is a function from weights, matrices ``(..., n_out, n_in)``, to $\log\mathcal L$ ``(...)`` and its gradient,
such as ``theory.BinaryProblem.gradient``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
from scipy.integrate import LSODA, solve_ivp

from repro.papers.ewn_inductive_bias.theory import (
    Array,
    Weights,
    join_weights,
    precondition,
    pull_back,
    split_weights,
)

_Gradient = Callable[[Weights], tuple[Array, list[Array]]]

_STALLED = 1e-14
"""Rate $R$ below which the flow counts as stuck: no further point of the data can be fitted."""
_MAX_STEPS = 200_000
"""Of the solver, after which a flow is given up."""


@dataclass(frozen=True)
class _Packing:
    """Lists of arrays of these shapes as one vector and back; leading dimensions (time, seeds) are kept."""

    shapes: list[tuple[int, ...]]

    def pack(self, arrays: Weights) -> Array:
        lead = arrays[0].shape[: arrays[0].ndim - len(self.shapes[0])]
        return np.concatenate([a.reshape(*lead, -1) for a in arrays], axis=-1)

    def unpack(self, flat: Array) -> list[Array]:
        arrays, start = [], 0
        for shape in self.shapes:
            stop = start + prod(shape)
            arrays.append(flat[..., start:stop].reshape(*flat.shape[:-1], *shape))
            start = stop
        return arrays


def _integrate(velocity: Callable[[list[Array]], list[Array]], start: Weights, times: Array) -> list[Array]:
    packing = _Packing([a.shape for a in start])
    solution = solve_ivp(
        lambda _, flat: packing.pack(velocity(packing.unpack(flat))),
        (float(times[0]), float(times[-1])),
        packing.pack(start), "DOP853", t_eval=times, rtol=1e-11, atol=1e-13,
    )  # fmt: skip
    if not solution.success:
        raise RuntimeError(
            f"the flow could not be integrated beyond t = {solution.t[-1]}: {solution.message}"
        )
    return packing.unpack(np.asarray(solution.y.T))


def _descent_direction(gradient: _Gradient, weights: Weights) -> list[Array]:
    """Minus the gradient of the loss itself; only for losses that float64 can hold."""
    log_loss, slopes = gradient(weights)
    return [-np.exp(log_loss)[..., None, None] * g for g in slopes]


def parameter_flow(
    gradient: _Gradient, method: str, weights: Weights, times: Array, radius: float = 1.0
) -> list[Array]:
    r"""Gradient flow $\dot\theta = -\nabla_\theta\mathcal L$ on the parameters, from given weights.

    Args:
        gradient: what flows.
        method: how the parameters make the weights.
        weights: the start, one matrix ``(n_out, n_in)`` a layer.
        times: increasing, the first one is the start's.
        radius: $\|v_u(0)\|$ of every node.

    Returns:
        The parameters at ``times``, each ``(n_times, ...)``, as ``theory.split_weights`` orders them.

    Raises:
        RuntimeError: if the solver gives up.
    """

    def velocity(theta: list[Array]) -> list[Array]:
        return pull_back(theta, _descent_direction(gradient, join_weights(theta, method)), method)

    return _integrate(velocity, split_weights(weights, method, radius), times)


def weight_flow(
    gradient: _Gradient, method: str, weights: Weights, times: Array, radius: float = 1.0
) -> list[Array]:
    r"""The same flow predicted in weight space, $\dot w = -M(w)\nabla_w\mathcal L$: weights ``(n_times, n_out, n_in)``.

    ``radius`` is the constant $\|v_u\|$ in $M$: 1 gives the clean form, in which EWN is plain gradient flow
    with learning rate $\|w_u\|^2$ for node $u$. Other arguments and errors as for :func:`parameter_flow`.
    """
    return _integrate(
        lambda w: precondition(w, _descent_direction(gradient, w), method, radius), weights, times
    )


def euler_steps(
    gradient: _Gradient, method: str, parameters: Weights, step_size: float
) -> Iterator[tuple[list[Array], list[Array], Array]]:
    r"""Gradient descent with a constant step, $\theta \leftarrow \theta - h\nabla_\theta\mathcal L$.

    It never ends: the caller takes as many states as it wants; the first is the start. Leading dimensions
    (seeds) are allowed, every network then takes its own steps.

    Args:
        gradient: what descends.
        method: how the parameters make the weights.
        parameters: the start; not changed.
        step_size: $h$.

    Yields:
        Parameters, $\nabla_\theta\log\mathcal L$ and $\log\mathcal L$ at steps 0, 1, 2, ...
    """
    theta = list(parameters)
    while True:
        log_loss, slopes = gradient(join_weights(theta, method))
        pulled = pull_back(theta, slopes, method)
        yield theta, pulled, log_loss
        rate = step_size * np.exp(log_loss)
        theta = [
            p - rate.reshape(*rate.shape, *[1] * (p.ndim - rate.ndim)) * g
            for p, g in zip(theta, pulled, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class ClockedPath:
    r"""A gradient flow sampled at values of $z$.

    Attributes:
        z: $-\log\mathcal L$, shape ``(n_points,)``, the start included; it ends where a flow stalls.
        weights: one array ``(n_points, n_out, n_in)`` a layer.
        gradients: $\nabla_w\log\mathcal L$, of the same shapes.
        log_rate: $\log\frac{d}{dt}\mathcal L^{-1}$ at unit learning rate, ``(n_points,)``.
        reached: whether the last value of z that was asked for was reached.
        error: largest $|{-\log\mathcal L(w(z))} - z|$ over the points.
    """

    z: Array
    weights: list[Array]
    gradients: list[Array]
    log_rate: Array
    reached: bool
    error: float


def loss_clock(gradient: _Gradient, method: str, weights: Weights, z: Array) -> ClockedPath:
    r"""Integrate a gradient flow in weight space, $\|v_u\| = 1$, from its start through given values of $z$.

    SciPy's LSODA does the work (the system is stiff: the shares of the support vectors settle fast); its
    Jacobian is a one-sided difference of all columns in one batched gradient.

    Args:
        gradient: what flows.
        method: whose flow.
        weights: the start, one matrix ``(n_out, n_in)`` a layer, no leading dimensions.
        z: increasing values of $-\log\mathcal L$ to stop at; those not above the start's are left out.

    Returns:
        The path. It is not ``reached`` where the flow comes to rest before the last ``z``, for example because every
        neuron that could see a point is dead: nothing is raised, the caller counts such seeds.
    """
    packing = _Packing([w.shape for w in weights])
    rate = np.inf

    def velocity(_: float, flat: Array) -> Array:
        nonlocal rate
        w = packing.unpack(flat)
        slopes = gradient(w)[1]
        moved = packing.pack(precondition(w, slopes, method))
        rates = np.vecdot(packing.pack(slopes), moved)
        rate = float(rates.min())
        return -moved / np.maximum(rates, _STALLED)[..., None]

    def jacobian(clock: float, flat: Array) -> Array:
        step = 1e-7 * np.maximum(np.abs(flat), 1e-3)
        around = np.concatenate([flat[None], flat + np.diag(step)])
        values = velocity(clock, around)
        return ((values[1:] - values[0]) / step[:, None]).T

    start, z_start = packing.pack(weights), -float(gradient(weights)[0])
    points, states = [z_start], [start]
    targets = [float(target) for target in z if target > z_start]
    velocity(z_start, start)  # for its rate
    end = max(z_start, float(z[-1]))
    solver = LSODA(velocity, z_start, start, end, rtol=1e-10, atol=1e-12, jac=jacobian)
    for _ in range(_MAX_STEPS):
        if not (targets and rate > _STALLED and solver.status == "running"):
            break
        solver.step()
        while targets and targets[0] <= solver.t:
            points.append(targets.pop(0))
            states.append(solver.dense_output()(points[-1]))
    if targets and solver.t > points[-1]:
        points.append(float(solver.t))
        states.append(np.array(solver.y))

    path = packing.unpack(np.stack(states))
    log_loss, gradients = gradient(path)
    moved = packing.pack(precondition(path, gradients, method))
    with np.errstate(divide="ignore"):
        log_rate = np.log(np.vecdot(packing.pack(gradients), moved))
    error = float(np.abs(-log_loss - points).max())
    return ClockedPath(np.array(points), path, gradients, log_rate, not targets, error)
