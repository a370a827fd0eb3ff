r"""Gradient flows on Lin-Sep to a vanishing loss, and what their nodes look like there (claims E4 to E6, E8,
E12).

The data are the authors' four points; seeds change the initial weights. Every seed is kept: one that never
fits the points has ``fits`` false and NaN in its diagnostics, so that a chapter can count it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from repro.geometry.loss_clock import ClockedPath, loss_clock
from repro.geometry.parametrizations import parametrization
from repro.papers.ewn_inductive_bias.rates import bound_ratio
from repro.papers.ewn_inductive_bias.relations import (
    Nodes,
    active_nodes,
    node_quantities,
    pair_predictions,
    relation_sign,
    spread,
)
from repro.papers.ewn_inductive_bias.synthetic import default_weights, lin_sep_problem

__all__ = [
    "LinSepRun",
    "alignment_table",
    "bound_table",
    "lin_sep_flows",
    "node_table",
    "pair_table",
    "relation_table",
    "trajectory_table",
]

Array = NDArray[np.float64]
ORDER = 3
"""Order of homogeneity of one hidden layer of squared ReLU."""


@dataclass(frozen=True, eq=False)
class LinSepRun:
    """One flow: its seed, its method, its path, and the nodes at every point of the path."""

    seed: int
    method: str
    path: ClockedPath
    nodes: Nodes

    @property
    def fits(self) -> bool:
        """Whether the flow reaches its last z, that is, does not come to rest at a loss it cannot lower."""
        return self.path.reached

    def at(self, z: float) -> Nodes:
        """Nodes at a value of z that was asked for."""
        index = int(np.argmin(np.abs(self.path.z - z)))
        if not np.isclose(self.path.z[index], z):
            raise ValueError(f"z = {z} is no point of this flow, which runs to {self.path.z[-1]}")
        n = self.nodes
        return Nodes(n.layer, n.weight_norm[index], n.gradient_norm[index], n.cosine[index])


def lin_sep_flows(
    seeds: Iterable[int],
    methods: Iterable[str] = ("plain", "swn", "ewn"),
    z_max: float = 1000.0,
    loss: str = "exponential",
    n_hidden: int = 8,
) -> list[LinSepRun]:
    r"""Flows from torch's default weights to $z = -\log\mathcal L$ = ``z_max``, sampled at z = 0, 2, 4, ... .

    Args:
        seeds: of the initial weights; the same for all methods.
        methods: ``"plain"``, ``"swn"``, ``"ewn"``.
        z_max: where to stop; 300 for E4 to E6, 1000 for E8 and E12.
        loss: ``"exponential"`` (the bound of E12 needs it) or ``"logistic"`` (as the authors train).
        n_hidden: hidden neurons, 8 in the paper's experiment.

    Returns:
        One run a seed and method. Hand them to the table functions of this module.

    Explained in: chapter ``ewn-inductive-bias``.
    """
    problem = lin_sep_problem(loss)
    clock = np.append(np.arange(0.0, z_max, 2.0), z_max)
    runs = []
    kinds = [parametrization(method) for method in methods]
    for seed in seeds:
        start = default_weights((2, n_hidden, 1), seed)
        for kind in kinds:
            path = loss_clock(problem, kind, start, clock)
            runs.append(LinSepRun(seed, kind.name, path, node_quantities(path.weights, path.gradients)))
    return runs


def trajectory_table(runs: Iterable[LinSepRun]) -> pd.DataFrame:
    """All nodes on all paths: seed, method, z, log_time, node, layer, length, gradient_norm, cosine."""
    frames = []
    for run in runs:
        n_points, n_nodes = run.nodes.weight_norm.shape
        frames.append(
            pd.DataFrame(
                {
                    "seed": run.seed,
                    "method": run.method,
                    "z": np.repeat(run.path.z, n_nodes),
                    "log_time": np.repeat(run.path.log_time, n_nodes),
                    "node": np.tile(np.arange(n_nodes), n_points),
                    "layer": np.tile(run.nodes.layer, n_points),
                    "length": run.nodes.weight_norm.ravel(),
                    "gradient_norm": run.nodes.gradient_norm.ravel(),
                    "cosine": run.nodes.cosine.ravel(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def node_table(runs: Iterable[LinSepRun], z: float = 300.0) -> pd.DataFrame:
    """Nodes at one z, of seeds that fit: seed, method, node, layer, length, gradient_norm, cosine, active."""
    frames = []
    for run in runs:
        if run.fits:
            now = run.at(z)
            active = active_nodes(now.weight_norm, run.at(z / 2).weight_norm)
            frames.append(
                pd.DataFrame(
                    {
                        "seed": run.seed,
                        "method": run.method,
                        "node": np.arange(active.size),
                        "layer": now.layer,
                        "length": now.weight_norm,
                        "gradient_norm": now.gradient_norm,
                        "cosine": now.cosine,
                        "active": active,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _per_run(
    runs: Iterable[LinSepRun], columns: list[str], measure: Callable[[LinSepRun], tuple[Any, ...]]
) -> pd.DataFrame:
    """One row a run; runs that do not fit keep their row, with NaN behind ``fits`` and ``z_last``."""
    rows = []
    for run in runs:
        values = measure(run) if run.fits else (np.nan,) * len(columns)
        rows.append(
            {
                "seed": run.seed,
                "method": run.method,
                "fits": run.fits,
                "z_last": run.path.z[-1],
                **dict(zip(columns, values, strict=True)),
            }
        )
    return pd.DataFrame(rows, columns=["seed", "method", "fits", "z_last", *columns])


def alignment_table(runs: Iterable[LinSepRun], z: float = 300.0, z_early: float = 50.0) -> pd.DataFrame:
    r"""How close to anti-parallel $w_u$ and $g_u$ are, over the active nodes (E4).

    Returns:
        One row a seed and method: seed, method, fits, z_last, n_active, worst_cosine, median_cosine, and
        ``median_cosine_early``, that of the same nodes at ``z_early``.
    """

    def measure(run: LinSepRun) -> tuple[Any, ...]:
        now = run.at(z)
        active = active_nodes(now.weight_norm, run.at(z / 2).weight_norm)
        cosines = now.cosine[active]
        return active.sum(), cosines.max(), np.median(cosines), np.median(run.at(z_early).cosine[active])

    return _per_run(runs, ["n_active", "worst_cosine", "median_cosine", "median_cosine_early"], measure)


def relation_table(runs: Iterable[LinSepRun], z: float = 300.0) -> pd.DataFrame:
    r"""Does $\log\|g_u\| + s\log\|w_u\|$ agree over active nodes (E5, E6)?

    $s$ is +1 for EWN and -1 for plain and SWN. Across layers the EWN law can hold for exactly two active
    hidden nodes; with $n$ of them the output node's value lies $\log(n/2)$ above theirs (derived
    in the chapter).

    Returns:
        One row a seed and method: seed, method, fits, z_last, n_active_hidden, within (spread over the hidden
        nodes; NaN for fewer than two), within_wrong (with the other sign), across, across_wrong (output node
        included), gap (output minus mean of the hidden), predicted_gap (EWN: log(n/2), else 0).
    """

    def measure(run: LinSepRun) -> tuple[Any, ...]:
        now = run.at(z)
        active = active_nodes(now.weight_norm, run.at(z / 2).weight_norm)
        hidden = active & (now.layer == 0)
        s, n = relation_sign(run.method), int(hidden.sum())
        w, g = now.weight_norm, now.gradient_norm
        gap = np.nan
        if n:
            level = np.log(g[active]) + s * np.log(w[active])
            layer = now.layer[active]
            gap = level[layer == 1].mean() - level[layer == 0].mean() if (layer == 1).any() else np.nan
        predicted = (np.log(n / 2) if n else np.nan) if run.method == "ewn" else 0.0
        return (
            n,
            spread(w, g, s, hidden),
            spread(w, g, -s, hidden),
            spread(w, g, s, active),
            spread(w, g, -s, active),
            gap,
            predicted,
        )

    columns = ["n_active_hidden", "within", "within_wrong", "across", "across_wrong", "gap", "predicted_gap"]
    return _per_run(runs, columns, measure)


def pair_table(runs: Iterable[LinSepRun], z_early: float = 100.0, z_late: float = 1000.0) -> pd.DataFrame:
    """Sign test of relative sparsity over pairs of aligned hidden neurons (E8).

    Returns one row a seed and method: seed, method, fits, z_last, n_correct, n_pairs, share (NaN: no pair).
    """

    def measure(run: LinSepRun) -> tuple[Any, ...]:
        early = run.at(z_early)
        correct, pairs = pair_predictions(early, run.at(z_late).weight_norm, run.method, early.layer == 0)
        return correct, pairs, correct / pairs if pairs else np.nan

    return _per_run(runs, ["n_correct", "n_pairs", "share"], measure)


def bound_table(runs: Iterable[LinSepRun]) -> pd.DataFrame:
    """Smallest ratio of the two sides of the finite-time bound along each EWN flow with z > 0 (E12).

    Returns one row a seed: seed, method, fits, z_last, smallest_ratio, last_ratio; EWN runs only.
    """

    def measure(run: LinSepRun) -> tuple[Any, ...]:
        ratio = bound_ratio(run.path.z, run.path.log_rate, ORDER, run.nodes.layer.size)
        return np.nanmin(ratio), ratio[-1]

    return _per_run([r for r in runs if r.method == "ewn"], ["smallest_ratio", "last_ratio"], measure)
