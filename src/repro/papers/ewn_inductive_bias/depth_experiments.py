"""Deep linear networks: the exponent of the rate (E10) and the loss curves (E11), depth by depth."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np
import pandas as pd

from repro.geometry.flows import euler_steps
from repro.geometry.homogeneous import BinaryProblem, Perceptron
from repro.geometry.loss_clock import loss_clock
from repro.geometry.packing import Packing
from repro.geometry.parametrizations import SWN, Parametrization, parametrization, row_norm
from repro.papers.ewn_inductive_bias.rates import expected_exponent, local_exponent
from repro.papers.ewn_inductive_bias.synthetic import depth_set, depth_weights

__all__ = ["depth_curves", "depth_ratios", "rate_exponents"]


def rate_exponents(
    depths: Iterable[int] = (1, 2, 3, 4),
    seeds: Iterable[int] = (0, 1, 2),
    methods: Iterable[str] = ("ewn", "plain"),
    z_range: tuple[float, float] = (50.0, 300.0),
    width: int = 10,
) -> pd.DataFrame:
    r"""Exponent p in $\frac{d}{dt}\mathcal L^{-1} \asymp z^p$ along flows of deep linear networks (E10).

    The 20 points and the common first map of the paper's convergence-rate experiment, exponential loss.
    SWN with a single node (depth 1) is left out: its direction settles at a speed that grows without bound,
    which makes the flow extremely stiff.

    Args:
        depths: numbers of weight layers.
        seeds: of the initial weights; depth 1 does not depend on them.
        methods: ``"ewn"``, ``"plain"``, ``"swn"``.
        z_range: range of $z = -\log\mathcal L$ in which the exponent is fitted.
        width: hidden width.

    Returns:
        One row a depth, seed and method: depth, seed, method, exponent (NaN if the flow stalls), expected,
        clock_error (largest distance of $-\log\mathcal L$ from its clock).

    Explained in: chapter ``ewn-inductive-bias``.
    """
    points, first_map = depth_set()
    problem = BinaryProblem(Perceptron("linear"), points.x_train, points.y_train, "exponential")
    low, high = z_range
    clock = np.geomspace(low, high, 40)
    kinds, seeds = [parametrization(method) for method in methods], list(seeds)
    rows = []
    for depth in depths:
        for kind in kinds:
            if kind is SWN and depth == 1:
                continue
            path = None
            for seed in seeds:
                if path is None or depth > 1:
                    path = loss_clock(problem, kind, depth_weights(depth, width, seed, first_map), clock)
                exponent = local_exponent(path.z, path.log_rate, low, high) if path.reached else float("nan")
                rows.append(
                    {
                        "depth": depth,
                        "seed": seed,
                        "method": kind.name,
                        "exponent": exponent,
                        "expected": expected_exponent(kind.name, depth),
                        "clock_error": path.error,
                    }
                )
    return pd.DataFrame(rows)


def _authors_parameters(
    kind: Parametrization, weights: list[np.ndarray], unit_last: bool
) -> list[np.ndarray]:
    """Parameters with unit directions; the authors leave the last layer's direction at its own length."""
    parameters = kind.parameters(weights)
    if kind.name != "plain" and not unit_last:
        parameters[-1] = parameters[-1] * row_norm(weights[-1])[..., None]
    return parameters


def depth_curves(
    seeds: Iterable[int] = (0,),
    methods: Iterable[str] = ("plain", "swn", "ewn"),
    depths: Iterable[int] = (1, 2, 3, 4),
    n_steps: int = 5000,
    step_size: float = 1e-3,
    width: int = 100,
    every: int = 50,
    unit_last: bool = False,
) -> pd.DataFrame:
    r"""Training loss of deep linear networks under gradient descent with a constant step (E11).

    The authors' setting: 20 points, logistic loss (sum), width 100, step 0.001, 5,000 steps; every network
    starts as the same linear map, so depth 1 does not depend on the seed.

    Args:
        seeds: of the initial weights, all of them at once.
        methods: ``"plain"``, ``"swn"``, ``"ewn"``.
        depths: numbers of weight layers.
        n_steps: gradient steps.
        step_size: constant learning rate.
        width: hidden width.
        every: keep every so many steps, besides the last.
        unit_last: give the last layer's $v$ unit length too; the authors do not.

    Returns:
        One row a depth, method, seed and kept step: depth, method, seed, step (0 is the start), log_loss,
            loss. The n-th entry of the authors' logs is the loss before the n-th step: step n - 1 here.

    Explained in: chapter ``ewn-inductive-bias``.
    """
    points, first_map = depth_set()
    problem = BinaryProblem(Perceptron("linear"), points.x_train, points.y_train, "logistic")
    kinds, seeds = [parametrization(method) for method in methods], list(seeds)
    frames = []
    for depth in depths:
        # Depth 1 is the same for all seeds: run it once.
        different = seeds if depth > 1 else seeds[:1]
        starts = [depth_weights(depth, width, seed, first_map) for seed in different]
        packing = Packing.of(starts[0])
        stacked = packing.unpack(np.stack([packing.pack(start) for start in starts]))
        for kind in kinds:
            parameters = _authors_parameters(kind, stacked, unit_last)
            states = islice(euler_steps(problem, kind, parameters, step_size), n_steps + 1)
            kept = [
                (step, np.broadcast_to(state.log_loss, len(seeds)))
                for step, state in enumerate(states)
                if step % every == 0 or step == n_steps
            ]
            frames.append(
                pd.DataFrame(
                    {
                        "depth": depth,
                        "method": kind.name,
                        "seed": np.tile(seeds, len(kept)),
                        "step": np.repeat([step for step, _ in kept], len(seeds)),
                        "log_loss": np.concatenate([log_loss for _, log_loss in kept]),
                    }
                )
            )
    table = pd.concat(frames, ignore_index=True)
    table["loss"] = np.exp(table["log_loss"])
    return table


def depth_ratios(curves: pd.DataFrame) -> pd.DataFrame:
    """Largest over smallest loss among depths at the last step: one ``ratio`` a method and seed."""
    last = curves[curves["step"] == curves["step"].max()]
    losses = last.groupby(["method", "seed"])["loss"]
    return (losses.max() / losses.min()).rename("ratio").reset_index()
