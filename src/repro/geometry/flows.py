r"""Gradient flow in ordinary time, watched in parameters and in weights, and its Euler steps.

The two flows must agree: $\dot\theta = -\nabla_\theta\mathcal L$ on the parameters of a parametrisation, and
$\dot w = -M(w)\nabla_w\mathcal L$ on the weights (derived in the chapter). Both are integrated here by an explicit
eighth-order Runge-Kutta method, which is right for moderate losses. For a vanishing loss use
:func:`repro.geometry.loss_clock.loss_clock`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

from repro.geometry.homogeneous import BinaryProblem
from repro.geometry.packing import Packing
from repro.geometry.parametrizations import Parametrization, row_dot, row_norm

__all__ = ["EulerStep", "FlowPath", "euler_steps", "layer_balances", "parameter_flow", "weight_flow"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FlowPath:
    """A flow sampled at given times.

    Attributes:
        times: shape ``(n_times,)``.
        parameters: one array ``(n_times, ...)`` for every array of parameters; for a weight flow the weights.
        weights: one array ``(n_times, n_out, n_in)`` a layer.
    """

    times: Array
    parameters: list[Array]
    weights: list[Array]


def _loss_gradient(problem: BinaryProblem, weights: Sequence[Array]) -> list[Array]:
    """Gradient of the loss itself; only for losses that float64 can hold."""
    log_loss, gradient = problem.gradient(weights)
    return [np.exp(log_loss)[..., None, None] * g for g in gradient]


def _integrate(
    velocity: Callable[[float, Array], Array], start: Array, times: Array, rtol: float, atol: float
) -> Array:
    solution = solve_ivp(
        velocity, (float(times[0]), float(times[-1])), start, "DOP853", t_eval=times, rtol=rtol, atol=atol
    )
    if not solution.success:
        raise RuntimeError(
            f"the flow could not be integrated beyond t = {solution.t[-1]}: {solution.message}"
        )
    return np.asarray(solution.y.T, dtype=np.float64)


def parameter_flow(
    problem: BinaryProblem,
    parametrization: Parametrization,
    weights: Sequence[Array],
    times: Array,
    radius: float = 1.0,
    rtol: float = 1e-11,
    atol: float = 1e-13,
) -> FlowPath:
    r"""Gradient flow $\dot\theta = -\nabla_\theta\mathcal L$ on the parameters, from given weights.

    Args:
        problem: network, data and loss.
        parametrization: how the parameters make the weights.
        weights: the start, one matrix ``(n_out, n_in)`` a layer.
        times: increasing, the first one is the start's.
        radius: $\|v_u(0)\|$ of every node.
        rtol: relative tolerance of the solver (DOP853).
        atol: absolute tolerance of the solver.

    Returns:
        Parameters and the weights they give, at ``times``.

    Raises:
        RuntimeError: if the solver gives up.

    Explained in: chapter ``ewn-inductive-bias``.
    """
    parameters = parametrization.parameters(weights, radius)
    packing = Packing.of(parameters)

    def velocity(_: float, flat: Array) -> Array:
        theta = packing.unpack(flat)
        gradient = _loss_gradient(problem, parametrization.weights(theta))
        return -packing.pack(parametrization.pull_back(theta, gradient))

    path = packing.unpack(_integrate(velocity, packing.pack(parameters), times, rtol, atol))
    return FlowPath(times, path, parametrization.weights(path))


def weight_flow(
    problem: BinaryProblem,
    parametrization: Parametrization,
    weights: Sequence[Array],
    times: Array,
    radius: float = 1.0,
    rtol: float = 1e-11,
    atol: float = 1e-13,
) -> FlowPath:
    r"""The same flow predicted in weight space, $\dot w = -M(w)\nabla_w\mathcal L$ (derived in the chapter).

    ``radius`` is the constant $\|v_u\|$ in $M$: 1 gives the clean form, in which EWN is plain gradient flow
    with learning rate $\|w_u\|^2$ for node $u$. Other arguments and errors as for :func:`parameter_flow`.
    """
    packing = Packing.of(weights)

    def velocity(_: float, flat: Array) -> Array:
        w = packing.unpack(flat)
        return -packing.pack(parametrization.precondition(w, _loss_gradient(problem, w), radius))

    path = packing.unpack(_integrate(velocity, packing.pack(weights), times, rtol, atol))
    return FlowPath(times, path, path)


def layer_balances(
    weights: Sequence[Array], degrees: Sequence[int], parametrization: Parametrization
) -> Array:
    r"""The sums over layers whose differences a flow keeps.

    $\frac1{d_l}\sum_{u\in l}\|w_u\|^2$ for plain and SWN flow, $\frac1{d_l}\sum_{u\in l}\log\|w_u\|$ for EWN
    flow. Any two layers' values differ by a constant along the flow, because every layer sees the same
    $\sum_i|\ell_i'|q_i$ (Euler's identity layer by layer).

    Args:
        weights: matrices ``(..., n_out, n_in)``.
        degrees: degree of homogeneity in each layer, see ``Perceptron.degrees``.
        parametrization: whose flow.

    Returns:
        Shape ``(..., n_layers)``.
    """
    sums = [
        (np.log(row_norm(w)) if parametrization.name == "ewn" else row_dot(w, w)).sum(axis=-1) / degree
        for w, degree in zip(weights, degrees, strict=True)
    ]
    return np.stack(sums, axis=-1)


@dataclass(frozen=True, eq=False)
class EulerStep:
    r"""State before one step of gradient descent.

    Attributes:
        parameters: of the parametrisation, each with leading dimensions ``(...)`` of the networks.
        gradient: $\nabla_\theta\log\mathcal L$, of the same shapes; times $\mathcal L$ it is the gradient of
            the loss.
        log_loss: $\log\mathcal L$, shape ``(...)``.
    """

    parameters: list[Array]
    gradient: list[Array]
    log_loss: Array


def euler_steps(
    problem: BinaryProblem, parametrization: Parametrization, parameters: Sequence[Array], step_size: float
) -> Iterator[EulerStep]:
    r"""Gradient descent with a constant step, $\theta \leftarrow \theta - h\nabla_\theta\mathcal L$.

    It never ends: the caller takes as many states as it wants; the first is the start. Leading dimensions
    (seeds) are allowed, every network then takes its own steps.

    Args:
        problem: network, data and loss.
        parametrization: how the parameters make the weights.
        parameters: the start; not changed.
        step_size: $h$.

    Yields:
        The state at steps 0, 1, 2, ...
    """
    theta = list(parameters)
    while True:
        log_loss, gradient = problem.gradient(parametrization.weights(theta))
        pulled = parametrization.pull_back(theta, gradient)
        yield EulerStep(theta, pulled, log_loss)
        rate = step_size * np.exp(log_loss)
        theta = [
            p - rate.reshape(*rate.shape, *[1] * (p.ndim - rate.ndim)) * g
            for p, g in zip(theta, pulled, strict=True)
        ]
