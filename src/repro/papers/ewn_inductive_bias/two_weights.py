r"""Simple-Traj: one point, two weights, and flows that can be solved with pencil and paper (claim E7).

$\Phi = 2w_1 + w_2$ with exponential loss. EWN flow, $\dot w_j \propto w_j^2 x_j$, keeps
$K = \frac1{w_2} - \frac1{2w_1}$; plain flow moves along a line of slope 1/2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from repro.geometry.loss_clock import loss_clock
from repro.geometry.parametrizations import parametrization
from repro.papers.ewn_inductive_bias.synthetic import SIMPLE_TRAJ_STARTS, simple_traj_problem

__all__ = ["conserved", "exact_point", "loser_limit", "simple_trajectories"]

Array = NDArray[np.float64]


def conserved(w1: ArrayLike, w2: ArrayLike) -> Array:
    r"""$K = 1/w_2 - 1/(2w_1)$, constant along EWN flow; $w_1$ wins if it is positive, $w_2$ if negative."""
    return np.asarray(1 / np.asarray(w2, dtype=float) - 1 / (2 * np.asarray(w1, dtype=float)))


def exact_point(start: Sequence[float], z: ArrayLike, method: str) -> tuple[Array, Array]:
    r"""The exact flow at $z = -\log\mathcal L = 2w_1 + w_2$.

    Plain: $w = w(0) + s\,(2, 1)$ with $5s = z - z(0)$. EWN: with $a = 2w_1$ and $b = w_2$, $1/b - 1/a = K$
    and $a + b = z$ give $ab = (a - b)/K$, hence $b = \tfrac12(z - d)$ with $d = a - b = (\sqrt{4 + K^2z^2} -
    2)/K$.

    Args:
        start: $(w_1, w_2)$, both positive.
        z: one value or many, not below the start's.
        method: ``"ewn"`` or ``"plain"``.

    Returns:
        $w_1$ and $w_2$, of the shape of ``z``.

    Raises:
        ValueError: for other methods, or a start that is not positive.
    """
    w1, w2 = (float(value) for value in start)
    if not (w1 > 0 and w2 > 0):
        raise ValueError(f"the start must be two positive weights, got {tuple(start)}")
    target = np.asarray(z, dtype=np.float64)
    if method == "plain":
        travelled = (target - 2 * w1 - w2) / 5
        return w1 + 2 * travelled, w2 + travelled
    if method != "ewn":
        raise ValueError(f"the exact flow is known for 'ewn' and 'plain', got {method!r}")
    k = float(conserved(w1, w2))
    # (sqrt(4 + x²) - 2)/K written so that K = 0, the unstable balance, is no special case.
    difference = k * target**2 / (np.sqrt(4 + (k * target) ** 2) + 2)
    return (target + difference) / 4, (target - difference) / 2


def loser_limit(start: Sequence[float]) -> float:
    r"""Where the losing weight stops under EWN: $w_2$ at $1/K$ if $K > 0$, $w_1$ at $1/(2|K|)$ if $K < 0$."""
    k = float(conserved(*start))
    if k == 0:
        return float("inf")
    return 1 / k if k > 0 else 1 / (-2 * k)


def simple_trajectories(
    n_random: int = 200,
    seed: int = 0,
    z_end: float = 50.0,
    methods: Sequence[str] = ("ewn", "plain"),
    n_points: int = 26,
) -> pd.DataFrame:
    """Integrated flows from the paper's five starts and from random ones, against the exact solution (E7).

    Random starts have both weights uniform on [0.2, 5]; the integrator knows nothing of the exact solution.

    Args:
        n_random: number of random starts.
        seed: of these starts.
        z_end: where the flows stop.
        methods: ``"ewn"``, ``"plain"``.
        n_points: points along the path at which K and the distance from the exact curve are looked at.

    Returns:
        One row a start and method: start (index; the first five are the paper's), source, method, start_1,
        start_2, end_1, end_2 (integrated), exact_1, exact_2, path_error (largest distance from the exact
        curve over the distance travelled), conserved (K at the start), drift (largest relative change of K;
        NaN for plain flow), predicted (1 or 2, by the sign of K; 0 for plain flow, which has no winner),
        winner (the weight that grows by the larger factor up to z_end).

    Explained in: chapter ``ewn-inductive-bias``.
    """
    problem = simple_traj_problem()
    random = np.random.default_rng(seed).uniform(0.2, 5.0, (n_random, 2))
    starts = np.vstack([np.array(SIMPLE_TRAJ_STARTS), random])
    rows = []
    for index, start in enumerate(starts):
        z_start = 2 * start[0] + start[1]
        clock = np.linspace(z_start, z_end, n_points)[1:]
        k = float(conserved(*start))
        for method in methods:
            path = loss_clock(problem, parametrization(method), [start[:, None]], clock)
            w1, w2 = path.weights[0][:, 0, 0], path.weights[0][:, 1, 0]
            exact_1, exact_2 = exact_point(start, path.z, method)
            error = np.hypot(w1 - exact_1, w2 - exact_2).max()
            travelled = np.hypot(exact_1[-1] - start[0], exact_2[-1] - start[1])
            ewn = method == "ewn"
            # K can pass through zero: its own terms set the scale.
            drift = np.abs(conserved(w1, w2) - k).max() / (1 / start[1] + 1 / (2 * start[0]))
            rows.append(
                {
                    "start": index,
                    "source": "paper" if index < len(SIMPLE_TRAJ_STARTS) else "random",
                    "method": method,
                    "start_1": start[0],
                    "start_2": start[1],
                    "end_1": w1[-1],
                    "end_2": w2[-1],
                    "exact_1": exact_1[-1],
                    "exact_2": exact_2[-1],
                    "path_error": error / travelled,
                    "conserved": k,
                    "drift": drift if ewn else np.nan,
                    "predicted": (1 if k > 0 else 2) if ewn else 0,
                    "winner": 1 if w1[-1] / start[0] > w2[-1] / start[1] else 2,
                }
            )
    return pd.DataFrame(rows)
