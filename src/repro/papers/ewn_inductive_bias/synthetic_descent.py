r"""Gradient descent on the paper's synthetic sets: Lin-Sep (E4 to E6) and Simple-Traj (E7).

All in float64 with the authors' step rule: the step is $k\,\mathcal L^{1/f}\,\nabla\log\mathcal L$, $k$ grows
and shrinks by 1.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from repro.learn.ensembles import Ensemble
from repro.learn.networks import perceptron
from repro.papers.ewn_inductive_bias.descent import Descent, descend
from repro.papers.ewn_inductive_bias.log_losses import LogLoss
from repro.papers.ewn_inductive_bias.parametrizations import normalize_weights
from repro.papers.ewn_inductive_bias.relations import (
    active_nodes,
    node_quantities,
    relation_sign,
    spread,
)
from repro.papers.ewn_inductive_bias.synthetic import (
    LIN_SEP_SEED,
    SIMPLE_TRAJ_STARTS,
    default_weights,
    lin_sep_problem,
)
from repro.papers.ewn_inductive_bias.two_weights import exact_point

Array = NDArray[np.float64]

__all__ = [
    "bias_free_network",
    "lin_sep_descent",
    "lin_sep_relations",
    "run_table",
    "simple_trajectory_descent",
]


def bias_free_network(weights: Sequence[Array], activation: str) -> nn.Sequential:
    """Bias-free perceptron in float64 with given matrices ``(out, in)``."""
    sizes = [weights[0].shape[1], *(w.shape[0] for w in weights)]
    network = perceptron(sizes, activation, bias=False).double()
    with torch.no_grad():
        for parameter, weight in zip(network.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(weight))
    return network


def lin_sep_descent(
    seeds: Iterable[int] = (LIN_SEP_SEED,),
    methods: Iterable[str] = ("swn", "ewn"),
    *,
    levels: Sequence[float] = (200.0, 250.0, 300.0),
    n_hidden: int = 8,
    f: float = 30.0,
    k_max: float = 0.01,
    max_steps: int = 40_000,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Lin-Sep by gradient descent, as the authors ran it: logistic loss, $c = 1-1/f$, $k_0 = k_{max} =
    0.01$.

    Args:
        seeds: of the initial weights; the default is the authors' one.
        methods: ``"plain"``, ``"swn"``, ``"ewn"``.
        levels: values of z at which the nodes are looked at; the last ends the training.
        n_hidden: hidden neurons with squared ReLU.
        f: of the authors' step rule.
        k_max: largest step factor.
        max_steps: of attempts.

    Returns:
        Two tables. Runs: seed, method, status, z, steps, seconds, margin (smallest normalised margin
        $\min_i q_i/\|w\|^3$ at the last level; NaN if not reached). Nodes: seed, method, z, node, layer,
        length, gradient_norm, cosine, active (grows by 1.15 or more from z/2 to z), for the runs that reached
        the level.

    Explained in chapter ``ewn-inductive-bias``.
    """
    problem, seeds = lin_sep_problem("logistic"), list(seeds)
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)
    runs, nodes = [], []
    for method in methods:
        starts = [
            bias_free_network(default_weights((2, n_hidden, 1), seed), "squared_relu") for seed in seeds
        ]
        descent = descend(
            Ensemble([normalize_weights(network, method) for network in starts]),
            x,
            y,
            log_loss=LogLoss("logistic"),
            targets=sorted({*levels, *(z / 2 for z in levels)}),
            exponent=1 - 1 / f,
            k_max=k_max,
            grow=1.1,
            shrink=1.1,
            max_steps=max_steps,
            patience=5_000,
        )
        at = {z: [w.numpy() for w in descent.weights(z).values()] for z in descent.targets}
        margin = np.full(len(seeds), np.nan)
        if (ends := descent.reached(max(levels))).any():
            last = [w[ends] for w in at[max(levels)]]
            norm = np.sqrt(sum((w**2).sum(axis=(1, 2)) for w in last))
            margin[ends] = problem.margins(last).min(axis=-1) / norm**3
        runs.append(run_table(descent, seeds, method).assign(margin=margin))
        for z in levels:
            if (reached := descent.reached(z)).any():
                nodes.append(_nodes(at[z], at[z / 2], reached, seeds).assign(method=method, z=z))
    columns = ["seed", "method", "z", "node", "layer", "length", "gradient_norm", "cosine", "active"]
    found = pd.concat(nodes, ignore_index=True)[columns] if nodes else pd.DataFrame(columns=columns)
    return pd.concat(runs, ignore_index=True), found


def _nodes(
    weights: Sequence[Array],
    weights_at_half: Sequence[Array],
    reached: NDArray[np.bool_],
    seeds: Sequence[int],
) -> pd.DataFrame:
    """Nodes of the members that reached a level; weights ``(S, out, in)``, layer by layer."""
    chosen = [w[reached] for w in weights]
    now = node_quantities(chosen, lin_sep_problem("logistic").gradient(chosen)[1])
    half = np.concatenate([np.linalg.norm(w[reached], axis=-1) for w in weights_at_half], axis=-1)
    n_runs, n_nodes = now.weight_norm.shape
    return pd.DataFrame(
        {
            "seed": np.repeat(np.asarray(seeds)[reached], n_nodes),
            "node": np.tile(np.arange(n_nodes), n_runs),
            "layer": np.tile(now.layer, n_runs),
            "length": now.weight_norm.ravel(),
            "gradient_norm": now.gradient_norm.ravel(),
            "cosine": now.cosine.ravel(),
            "active": active_nodes(now.weight_norm, half).ravel(),
        }
    )


def run_table(descent: Descent, seeds: Sequence[int], method: str) -> pd.DataFrame:
    """Seed, method, status, z, steps, seconds (of the ensemble, until this member's last target)."""
    frame = {"seed": seeds, "method": method, "status": descent.status, "z": descent.z}
    return pd.DataFrame(frame | {"steps": descent.n_attempts, "seconds": descent.seconds_to[:, -1]})


def lin_sep_relations(nodes: pd.DataFrame) -> pd.DataFrame:
    r"""How well $\log\|g_u\| + s\log\|w_u\|$ agrees over the active nodes of each run and level (E4 to E6,
    descent).

    Args:
        nodes: the second table of ``lin_sep_descent``.

    Returns:
        One row a seed, method and z: n_active_hidden, worst_cosine, within and within_wrong (spread over the
        active hidden nodes with the law's sign and with the other), across and across_wrong (output node
        included).
    """
    rows = []
    for (seed, method, z), own in nodes.groupby(["seed", "method", "z"], sort=False):
        w, g = own["length"].to_numpy(), own["gradient_norm"].to_numpy()
        active = own["active"].to_numpy()
        hidden, s = active & (own["layer"].to_numpy() == 0), relation_sign(str(method))
        rows.append(
            {
                "seed": seed,
                "method": method,
                "z": z,
                "n_active_hidden": int(hidden.sum()),
                "worst_cosine": own["cosine"][own["active"]].max(),
                "within": spread(w, g, s, hidden),
                "within_wrong": spread(w, g, -s, hidden),
                "across": spread(w, g, s, active),
                "across_wrong": spread(w, g, -s, active),
            }
        )
    return pd.DataFrame(rows)


def simple_trajectory_descent(
    starts: Sequence[tuple[float, float]] = SIMPLE_TRAJ_STARTS,
    methods: Iterable[str] = ("ewn", "plain"),
    *,
    z_end: float = 50.0,
    f: float = 10.0,
    k_max: float = 0.1,
) -> pd.DataFrame:
    r"""Simple-Traj by gradient descent: $\Phi = 2w_1+w_2$, exponential loss, each weight a node (E7).

    Args:
        starts: $(w_1, w_2)$, positive; the defaults are the authors'.
        methods: ``"ewn"``, ``"plain"``.
        z_end: where training ends.
        f, k_max: of the authors' step rule.

    Returns:
        One row a start and method: start (index), method, start_1, start_2, steps, z (at the end, a step
        beyond z_end), end_1, end_2, exact_1, exact_2 (of the flow at z_end), relative_error (distance of the
        end point from the exact one, over the exact one's length; a step's overshoot is part of it).

    Explained in chapter ``ewn-inductive-bias``.
    """
    rows = []
    output = np.array([[2.0, 1.0]])
    for method in methods:
        networks = [bias_free_network([np.array(start)[:, None], output], "identity") for start in starts]
        ensemble = Ensemble([normalize_weights(network, method, ["1"]) for network in networks])
        descent = descend(
            ensemble,
            torch.ones(1, 1, dtype=torch.float64),
            torch.ones(1, dtype=torch.float64),
            log_loss=LogLoss("exponential"),
            targets=(z_end,),
            exponent=1 - 1 / f,
            k_max=k_max,
            grow=1.1,
            shrink=1.1,
            frozen=("2.weight",),
        )
        ends = descent.weights(z_end)["1"].squeeze(-1).numpy()
        for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
            exact = np.array([float(w) for w in exact_point(start, z_end, method)])
            row = {"start": index, "method": method, "start_1": start[0], "start_2": start[1]}
            row |= {"steps": descent.n_attempts[index], "z": descent.z[index]}
            row |= {"end_1": end[0], "end_2": end[1]}
            error = np.linalg.norm(end - exact) / np.linalg.norm(exact)
            rows.append(row | {"exact_1": exact[0], "exact_2": exact[1], "relative_error": error})
    return pd.DataFrame(rows)
