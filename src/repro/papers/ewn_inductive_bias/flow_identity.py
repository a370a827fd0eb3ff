r"""Does a flow on the parameters move the weights as the chapter derives, and does descent follow it?

Claims E1 to E3. Lin-Sep's points, one hidden layer of squared ReLU, ordinary time, moderate losses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice, pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from repro.geometry.flows import euler_steps, parameter_flow, weight_flow
from repro.geometry.packing import Packing
from repro.geometry.parametrizations import PLAIN, parametrization, row_dot, row_norm
from repro.papers.ewn_inductive_bias.synthetic import default_weights, lin_sep_problem

__all__ = ["euler_convergence", "flow_identity"]

Array = NDArray[np.float64]


def _flat(weights: Sequence[Array]) -> Array:
    """Weights ``(n_times, n_out, n_in)`` of all layers as ``(n_times, n_weights)``."""
    return np.concatenate([w.reshape(len(w), -1) for w in weights], axis=1)


def _largest_distance(a: Sequence[Array], b: Sequence[Array]) -> float:
    """Largest Euclidean distance between two paths in weight space, over all times."""
    return float(np.linalg.norm(_flat(a) - _flat(b), axis=1).max())


def flow_identity(
    seeds: Iterable[int],
    methods: Iterable[str] = ("ewn", "swn"),
    radii: Iterable[float] = (1.0, 2.0),
    n_hidden: int = 4,
    horizon: float = 5.0,
    n_times: int = 101,
) -> pd.DataFrame:
    r"""Parameter flow against the weight-space flow that is predicted for it, from the same start (E1, E2).

    Args:
        seeds: of the initial weights.
        methods: ``"ewn"``, ``"swn"``.
        radii: initial lengths $\|v_u\|$.
        n_hidden: hidden neurons.
        horizon: time, at unit learning rate.
        n_times: points in time at which the two are compared.

    Returns:
        One row a seed, method and radius. ``deviation``: largest distance from the general form of equations
        3 and 4; ``short_form_deviation``: from the form that holds for $\|v_u\| = 1$ only;
        ``plain_distance``: from the plain flow at the same times (control); ``norm_drift``: largest change of
        $\|v_u\|$; ``relative_change``: distance travelled over the initial length of all weights.

    Explained in: chapter ``ewn-inductive-bias``.
    """
    problem = lin_sep_problem()
    times = np.linspace(0.0, horizon, n_times)
    radii = tuple(radii)
    rows = []
    for seed in seeds:
        start = default_weights((2, n_hidden, 1), seed)
        plain = weight_flow(problem, PLAIN, start, times).weights
        for method in methods:
            kind = parametrization(method)
            short = weight_flow(problem, kind, start, times).weights
            for radius in radii:
                path = parameter_flow(problem, kind, start, times, radius)
                general = short if radius == 1.0 else weight_flow(problem, kind, start, times, radius).weights
                flat = _flat(path.weights)
                rows.append(
                    {
                        "seed": seed,
                        "method": method,
                        "radius": radius,
                        "deviation": _largest_distance(path.weights, general),
                        "short_form_deviation": _largest_distance(path.weights, short),
                        "plain_distance": _largest_distance(path.weights, plain),
                        "norm_drift": max(
                            float(np.abs(row_norm(v) - radius).max()) for v in path.parameters[1::2]
                        ),
                        "relative_change": float(
                            np.linalg.norm(flat[-1] - flat[0]) / np.linalg.norm(flat[0])
                        ),
                    }
                )
    return pd.DataFrame(rows)


def euler_convergence(
    seeds: Iterable[int],
    methods: Iterable[str] = ("ewn", "swn"),
    step_sizes: Sequence[float] = (1e-2, 5e-3, 2.5e-3),
    n_hidden: int = 4,
    horizon: float = 5.0,
) -> pd.DataFrame:
    r"""Gradient descent at constant step h against the flow, and the growth of $\|v_u\|$ (E3).

    Args:
        seeds: of the initial weights.
        methods: ``"ewn"``, ``"swn"``.
        step_sizes: h, each half of the one before; the horizon must be a multiple of each.
        n_hidden: hidden neurons.
        horizon: time at which descent and flow are compared, $h$ times the number of steps.

    Returns:
        One row a seed, method and step size. ``deviation``: distance in weight space at the horizon;
        ``ratio``: the deviation at the step size before over this one (NaN for the first; 2 for a method of
        first order); ``recursion_error``: largest relative error of $\|v^{t+1}\|^2 = \|v^t\|^2 +
        h^2\|\nabla_v\mathcal L\|^2$; ``smallest_growth``: smallest change of any $\|v_u\|^2$ in a step (never
        negative beyond round-off).

    Raises:
        ValueError: for step sizes that are not halved each time or do not divide the horizon.
    """
    for before, after in pairwise(step_sizes):
        if not np.isclose(before, 2 * after):
            raise ValueError(f"each step size must be half of the one before, got {tuple(step_sizes)}")
    counts = [round(horizon / h) for h in step_sizes]
    if not np.allclose(np.multiply(counts, step_sizes), horizon):
        raise ValueError(f"the horizon {horizon} must be a multiple of every step size {tuple(step_sizes)}")
    problem, seeds = lin_sep_problem(), list(seeds)
    starts = [default_weights((2, n_hidden, 1), seed) for seed in seeds]
    packing = Packing.of(starts[0])
    stacked = packing.unpack(np.stack([packing.pack(start) for start in starts]))
    rows = []
    for method in methods:
        kind = parametrization(method)
        ends = [weight_flow(problem, kind, start, np.array([0.0, horizon])).weights for start in starts]
        flow_end = np.stack([packing.pack(end)[-1] for end in ends])
        previous = np.full(len(seeds), np.nan)
        for h, n_steps in zip(step_sizes, counts, strict=True):
            error, growth = np.zeros(len(seeds)), np.full(len(seeds), np.inf)
            expected: list[Array] = []
            old_squares: list[Array] = []
            for step in islice(euler_steps(problem, kind, kind.parameters(stacked), h), n_steps + 1):
                squares = [row_dot(v, v) for v in step.parameters[1::2]]
                if expected:
                    for now, old, target in zip(squares, old_squares, expected, strict=True):
                        error = np.maximum(error, (np.abs(now - target) / target).max(axis=-1))
                        growth = np.minimum(growth, (now - old).min(axis=-1))
                old_squares = squares
                rates = h * np.exp(step.log_loss)[:, None]
                expected = [
                    s + rates**2 * row_dot(g, g) for s, g in zip(squares, step.gradient[1::2], strict=True)
                ]
            deviation = np.linalg.norm(packing.pack(kind.weights(step.parameters)) - flow_end, axis=1)
            for i, seed in enumerate(seeds):
                rows.append(
                    {
                        "seed": seed,
                        "method": method,
                        "step_size": h,
                        "deviation": deviation[i],
                        "ratio": previous[i] / deviation[i],
                        "recursion_error": error[i],
                        "smallest_growth": growth[i],
                    }
                )
            previous = deviation
    return pd.DataFrame(rows)
