"""The chapter's experiments, one a group of claims: seeds in, a tidy table out.

Every seed keeps its rows, those that never fit the data too, so that a chapter can count them.

For the points of the small sets the authors use NumPy's legacy generator, for the weights ``torch.manual_seed`` with
default ``nn.Linear`` layers; both give the same numbers today, so that their logged runs can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import islice, pairwise, product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from repro.learn.ensembles import Ensemble
from repro.learn.networks import perceptron
from repro.learn.seeding import streams
from repro.learn.training import resolve_device
from repro.papers.ewn_inductive_bias import settings, theory, training
from repro.papers.ewn_inductive_bias.measures import _gini, _with_best_of_scores
from repro.papers.ewn_inductive_bias.method import _METHODS, normalize_weights
from repro.papers.ewn_inductive_bias.training import _Array, _descend, _Descent
from repro.prune import select_units, unit_mask

_NORMALIZED = ("ewn", "swn")
_LIN_SEP_SEED, _DEPTH_SEED, _XOR_SEED = 2137, 6782, 9156
"""The authors'."""
_HORIZON = 5.0
"""Time to which flows are compared, at unit learning rate; the weights then have moved by more than half."""
_STEP_SIZES = (1e-2, 5e-3, 2.5e-3)
_DEPTHS = (1, 2, 3, 4)
_TO_30_000 = (50.0, 300.0, 1000.0, 3000.0, 30_000.0)
_RATE_EDGES = {"ewn": _TO_30_000, "plain": _TO_30_000, "swn": _TO_30_000[:3]}
"""Ends of the ranges of z over which exponents are fitted; SWN's flow becomes too stiff beyond the second range."""
_LIN_SEP_LEVELS = (0.0, 1.0, 2.0, *np.arange(5.0, 301.0, 5.0))
_XOR_LEVELS = (0.0, 0.5, *np.arange(1.0, 51.0))
_XOR_RULES = {"plain": (15, 0.1), "swn": (15, 1.0), "ewn": (5, 0.1)}
"""The authors' f (the step is $k\\,\\mathcal L^{1/f}\\,\\nabla\\log\\mathcal L$) and largest k, by method."""


# --- points and weights -----------------------------------------------------------------------------------------


def _two_squares(
    generator: np.random.RandomState, low: float, high: float, n_per_class: int, n_train: int
) -> tuple[_Array, _Array]:
    """(1, 1) and points of a square for class -1, (-1, 1) and points of the opposite square for class +1.

    The authors draw ``n_per_class`` points and train on the first ``n_train`` of each class.
    """
    negative = np.vstack([[1.0, 1.0], generator.uniform(low, high, (n_per_class, 2))])
    positive = np.vstack([[-1.0, 1.0], generator.uniform(-low, -high, (n_per_class, 2))])
    return np.vstack([negative[:n_train], positive[:n_train]]), np.repeat([-1.0, 1.0], n_train)


def _lin_sep_problem(loss: str = "logistic") -> theory.BinaryProblem:
    """Lin-Sep: the authors' four separable points, one hidden layer of squared ReLU, of any width."""
    generator = np.random.RandomState(_LIN_SEP_SEED)
    low, high = generator.uniform(1.0, 1.5), generator.uniform(1.5, 2.0)
    return theory.BinaryProblem("squared_relu", *_two_squares(generator, low, high, 51, 2), loss)


def _depth_problem(loss: str) -> tuple[theory.BinaryProblem, _Array]:
    """The convergence-rate experiment: 20 points for linear networks, and $w_{init}$ ``(2,)``, where all start."""
    generator = np.random.RandomState(_DEPTH_SEED)
    points = _two_squares(generator, 1.5, 2.0, 59, 10)
    return theory.BinaryProblem("linear", *points, loss), generator.normal(size=2)


def _default_weights(widths: Sequence[int], seed: int) -> list[_Array]:
    """Weights of bias-free ``nn.Linear`` layers, built in order after ``torch.manual_seed(seed)`` on the CPU.

    Drawn in float32 and converted to float64. The global torch generator is left as it was.

    Args:
        widths: from the inputs to the output, at least two numbers.
        seed: of torch's generator.

    Returns:
        One matrix ``(n_out, n_in)`` a layer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Linear(a, b, bias=False, dtype=torch.float32, device="cpu") for a, b in pairwise(widths)]
    return [layer.weight.detach().numpy().astype(np.float64) for layer in layers]


def _depth_weights(depth: int, width: int, seed: int, first_map: _Array) -> list[_Array]:
    r"""Weights of a deep linear network that computes a given map at the start.

    All layers are torch's default but the last, which is set to $w_{init}^\top (W_{D-1}\cdots W_1)^+$; depth
    1 is the map itself and does not depend on the seed.
    """
    if depth == 1:
        return [first_map[None, :].copy()]
    weights = _default_weights([first_map.size, *[width] * (depth - 1), 1], seed)
    product = reduce(lambda before, w: w @ before, weights[:-1])
    weights[-1] = first_map[None, :] @ np.linalg.pinv(product)
    return weights


def _stacked(starts: Iterable[Sequence[_Array]]) -> list[_Array]:
    return [np.stack(layer) for layer in zip(*starts, strict=True)]


def _trained(
    weights: Sequence[Sequence[_Array]],
    activation: str,
    method: str,
    layers: Sequence[str] | None,
    *problem: Any,
    f: float,
    **rule: Any,
) -> _Descent:
    r"""Train bias-free perceptrons from given matrices ``(out, in)`` in float64; layers not named are not trained.

    By the authors' rule, whose step is $k\,\mathcal L^{1/f}\,\nabla\log\mathcal L$ with the loss before the last step.
    """
    networks = []
    for own in weights:
        network = perceptron([own[0].shape[1], *(w.shape[0] for w in own)], activation, bias=False).double()
        for (name, parameter), weight in zip(network.named_parameters(), own, strict=True):
            parameter.data = torch.from_numpy(weight.copy())
            parameter.requires_grad_(layers is None or name.removesuffix(".weight") in layers)
        networks.append(normalize_weights(network, method, layers))
    return _descend(Ensemble(networks), *problem, exponent=1 - 1 / f, lag=True, **rule)


def _way(descent: _Descent, seeds: Sequence[int]) -> tuple[list[_Array], dict[str, Any]]:
    """Weights of all networks at every level and at the end, ``(n, out, in)`` a layer, and what is known of them."""
    n = len(descent.states)
    weights = [np.concatenate([state[name].numpy() for state in descent.states]) for name in descent.start]
    about = {"seed": np.tile(seeds, n), "status": np.tile(descent.status, n)}
    end = np.repeat(np.arange(n) == n - 1, len(seeds))
    return weights, about | {"steps": descent.steps.T.ravel(), "end": end}


# --- the equation itself ----------------------------------------------------------------------------------------


def flow_identity(seeds: Iterable[int]) -> pd.DataFrame:
    r"""Parameter flow against the weight-space flow that is predicted for it, from the same start (E1, E2).

    Lin-Sep's points, four hidden neurons with squared ReLU, $\|v_u\|$ = 1 and 2 at the start.

    Returns:
        One row a seed, method and radius $\|v_u\|$. ``deviation``: largest distance from the general form of the
        flow; ``short_form_deviation``: from the form that holds for $\|v_u\| = 1$ only; ``plain_distance``: from the
        plain flow at the same times (control).
    """
    gradient, times = _lin_sep_problem().gradient, np.linspace(0.0, _HORIZON, 101)
    rows = []
    for seed in seeds:
        start = _default_weights((2, 4, 1), seed)
        plain = theory._pack(theory.weight_flow(gradient, "plain", start, times))
        for method in _NORMALIZED:
            short = theory._pack(theory.weight_flow(gradient, method, start, times))
            for radius in (1.0, 2.0):
                path = theory._pack(theory.parameter_flow(gradient, method, start, times, radius))
                general = theory._pack(theory.weight_flow(gradient, method, start, times, radius))
                others = {"deviation": general, "short_form_deviation": short, "plain_distance": plain}
                row = {"seed": seed, "method": method, "radius": radius}
                off = {name: np.linalg.norm(path - flow, axis=1).max() for name, flow in others.items()}
                rows.append(row | off)
    return pd.DataFrame(rows)


def euler_convergence(seeds: Iterable[int]) -> pd.DataFrame:
    r"""Gradient descent at constant step h against the flow, and the growth of $\|v_u\|$ (E3).

    Returns:
        One row a method, step size (each half of the one before) and seed. ``deviation``: distance in weight space at
        the horizon; ``ratio``: the deviation at the step size before over this one (NaN for the first; 2 for a method
        of first order); ``recursion_error``: largest relative error of $\|v^{t+1}\|^2 = \|v^t\|^2 +
        h^2\|\nabla_v\mathcal L\|^2$, by which no $\|v_u\|$ ever shrinks.
    """
    gradient, seeds = _lin_sep_problem().gradient, list(seeds)
    starts = [_default_weights((2, 4, 1), seed) for seed in seeds]
    together, frames = _stacked(starts), []
    for method in _NORMALIZED:
        ends = [theory.weight_flow(gradient, method, start, np.array([0.0, _HORIZON])) for start in starts]
        flow_end = np.stack([theory._pack(end)[-1] for end in ends])
        coarser = np.full(len(seeds), np.nan)
        for h in _STEP_SIZES:
            error = np.zeros(len(seeds))
            steps = islice(theory._euler_steps(gradient, method, together, h), round(_HORIZON / h) + 1)
            for (_, now, slopes, log_loss), after in pairwise(steps):
                rate = h * np.exp(log_loss)[:, None]
                for v, g, moved in zip(now[1::2], slopes[1::2], after[1][1::2], strict=True):
                    expected = np.vecdot(v, v) + rate**2 * np.vecdot(g, g)
                    off = np.abs(np.vecdot(moved, moved) - expected) / expected
                    error = np.maximum(error, off.max(axis=-1))
            deviation = np.linalg.norm(theory._pack(after[0]) - flow_end, axis=1)
            table = {"seed": seeds, "method": method, "step_size": h, "deviation": deviation}
            frames.append(pd.DataFrame(table | {"ratio": coarser / deviation, "recursion_error": error}))
            coarser = deviation
    return pd.concat(frames, ignore_index=True)


# --- Lin-Sep: four points in the plane --------------------------------------------------------------------------


def _nodes(
    weights: Sequence[_Array], gradients: Sequence[_Array] | None = None, **columns: object
) -> pd.DataFrame:
    r"""$\|w_u\|$, $\|g_u\|$ and the cosine between them, one row a point (or network) and node, layer after layer.

    Weights and gradients are ``(n, n_out, n_in)``, further columns have one value a point.
    """
    length = np.concatenate([np.linalg.norm(w, axis=-1) for w in weights], axis=-1)
    (n, n_nodes), sizes = length.shape, [w.shape[-2] for w in weights]
    layer = np.tile(np.repeat(np.arange(len(weights)), sizes), n)
    table = pd.DataFrame(columns, index=range(n)).loc[np.repeat(range(n), n_nodes)].reset_index(drop=True)
    table = table.assign(node=np.tile(np.arange(n_nodes), n), layer=layer, length=length.ravel())
    if gradients is None:
        return table
    slope = np.concatenate([np.linalg.norm(g, axis=-1) for g in gradients], axis=-1)
    inner = np.concatenate([np.vecdot(w, g) for w, g in zip(weights, gradients, strict=True)], axis=-1)
    # A dead unit's gradient is zero, or too small for its square: no direction, hence NaN, not infinity.
    product = length * slope
    cosine = np.divide(inner, product, out=np.full_like(product, np.nan), where=product > 0)
    return table.assign(gradient_norm=slope.ravel(), cosine=cosine.ravel())


def lin_sep_flows(seeds: Iterable[int]) -> pd.DataFrame:
    r"""Flows of eight squared ReLUs from torch's default weights to $z = 1000$ (E4 to E6, E8, E12).

    With exponential loss, which the bound of E12 needs.

    Returns:
        All nodes at z = 0, 2, 4, ... on the path of each method: seed, method, fits (whether the flow reaches the
        last z and does not come to rest at a loss it cannot lower), z, log_rate ($\log\frac{d}{dt}\mathcal L^{-1}$),
        node, layer, length, gradient_norm, cosine.
    """
    gradient, clock = _lin_sep_problem("exponential").gradient, np.arange(0.0, 1001.0, 2.0)
    frames = []
    for seed in seeds:
        start = _default_weights((2, 8, 1), seed)
        for method in _METHODS:
            path = theory.loss_clock(gradient, method, start, clock)
            about = {"seed": seed, "method": method, "fits": path.reached}
            frames.append(_nodes(path.weights, path.gradients, **about, z=path.z, log_rate=path.log_rate))
    return pd.concat(frames, ignore_index=True)


def lin_sep_descent() -> pd.DataFrame:
    r"""Lin-Sep by gradient descent as the authors ran it: their seed, their rule, to z = 300 (E4 to E6).

    Logistic loss, $c = 1 - 1/30$, $k_{max} = 0.01$.

    Returns:
        All nodes on the way, and a step beyond z = 300, where the authors end: seed, method, status, z, steps, end,
        node, layer, length, gradient_norm, cosine.
    """
    problem, start, frames = _lin_sep_problem(), _default_weights((2, 8, 1), _LIN_SEP_SEED), []
    data = torch.from_numpy(problem.x), torch.from_numpy(problem.y), "logistic", _LIN_SEP_LEVELS
    for method in _NORMALIZED:
        rule = {"f": 30, "k_max": 0.01, "max_steps": 40_000}
        descent = _trained([start], "squared_relu", method, None, *data, **rule)
        weights, about = _way(descent, [_LIN_SEP_SEED])
        about |= {"method": method, "z": [*descent.targets, *descent.z]}
        frames.append(_nodes(weights, problem.gradient(weights)[1], **about))
    return pd.concat(frames, ignore_index=True)


# --- two weights ------------------------------------------------------------------------------------------------


def _two_weights(weights: Sequence[_Array]) -> tuple[_Array, list[_Array]]:
    r"""$\log\mathcal L = -(2w_1 + w_2)$ and its gradient: one point, exponential loss, each weight a node of its own.

    As ``BinaryProblem.gradient``; weights are ``[w]`` with w of shape ``(..., 2, 1)``.
    """
    (w,) = weights
    pull = np.array([[-2.0], [-1.0]])
    return (w * pull).sum(axis=(-2, -1)), [np.broadcast_to(pull, w.shape)]


def simple_trajectories(n_random: int, seed: int = 0) -> pd.DataFrame:
    """Integrated flows of two weights from random starts, both uniform on [0.2, 5], to z = 50 (E7).

    The integrator knows nothing of the exact solution.

    Returns:
        One row a start and method: method, path_error (largest distance from the exact curve over the distance
        travelled), drift (largest relative change of K, which EWN keeps and plain flow does not), predicted (1 or 2, by
        the sign of K), winner (the weight that grows by the larger factor).
    """
    rows = []
    for start in np.random.default_rng(seed).uniform(0.2, 5.0, (n_random, 2)):
        clock = np.linspace(2 * start[0] + start[1], 50.0, 26)[1:]
        k = float(theory._conserved(*start))
        for method in ("ewn", "plain"):
            path = theory.loss_clock(_two_weights, method, [start[:, None]], clock)
            found, exact = path.weights[0][:, :, 0].T, np.stack(theory.exact_point(start, path.z, method))
            error = np.hypot(*(found - exact)).max() / np.hypot(*(exact[:, -1] - start))
            # K can pass through zero: its own terms set the scale.
            drift = np.abs(theory._conserved(*found) - k).max() / (1 / start[1] + 1 / (2 * start[0]))
            winner = 1 + int(np.argmax(found[:, -1] / start))
            rows.append((method, error, drift, 1 if k > 0 else 2, winner))
    return pd.DataFrame(rows, columns=["method", "path_error", "drift", "predicted", "winner"])


def simple_trajectory_descent() -> pd.DataFrame:
    r"""Two weights by gradient descent, from the authors' starts and with their rule, to z = 50 (E7).

    $c = 1 - 1/10$, $k_{max} = 0.1$.

    Returns:
        One row a method and start: method, start_1, start_2, steps, end_1, end_2 (a step beyond z = 50, as in the
        authors' logs), exact_1, exact_2 (of the flow at z = 50), relative_error (distance of the end point from the
        exact one, over the exact one's length; the overshoot is part of it).
    """
    starts, one = np.array(settings._SIMPLE_TRAJ_STARTS), torch.ones(1, 1, dtype=torch.float64)
    frames, names = {}, [f"{name}_{i}" for name in ("start", "end", "exact") for i in (1, 2)]
    for method in ("ewn", "plain"):
        descent = _trained(
            [[start[:, None], np.array([[2.0, 1.0]])] for start in starts], "identity", method, ["1"],
            one, one[0], "exponential", (50.0,), f=10, k_max=0.1,
        )  # fmt: skip
        ends = descent.states[-1]["1.weight"].squeeze(-1).numpy()
        exact = np.array([theory.exact_point(start, 50.0, method) for start in starts])
        off = np.linalg.norm(ends - exact, axis=1) / np.linalg.norm(exact, axis=1)
        table = np.column_stack([descent.steps[:, -1], starts, ends, exact, off])
        frames[method] = pd.DataFrame(table, columns=["steps", *names, "relative_error"])
    return pd.concat(frames, names=["method"]).reset_index("method").reset_index(drop=True)


# --- XOR --------------------------------------------------------------------------------------------------------


def xor_sparsity(seeds: Iterable[int]) -> pd.DataFrame:
    r"""XOR to z = 50 with 20 ReLU neurons, half of the fixed output weights +1, half -1: how many stay long (E9).

    Initial weights and step rules are the authors'. Their rule leaves many SWN networks caught at a kink before z = 50.

    Returns:
        Lengths on the way and at the end of each run, whether or not it got to z = 50: method, source ("random", or
        "paper" for the authors' own seed, which runs beside the others), seed, status, steps, end (whether it is the
        end), node, length.
    """
    seeds, output = [_XOR_SEED, *seeds], np.repeat([1.0, -1.0], 10)[None, :]
    start = [[*_default_weights((2, 20), seed), output] for seed in seeds]
    points = torch.tensor([[1, 1], [-1, -1], [1, -1], [-1, 1]], dtype=torch.float64)
    data, frames = (points, -points.prod(dim=1), "logistic", _XOR_LEVELS), []
    for method, (f, k_max) in _XOR_RULES.items():
        descent = _trained(start, "relu", method, ["1"], *data, f=f, k_max=k_max, max_steps=6_000)
        (hidden, _), about = _way(descent, seeds)
        first = np.arange(len(hidden)) % len(seeds) == 0
        about |= {"method": method, "source": np.where(first, "paper", "random")}
        frames.append(_nodes([hidden], **about).dropna())
    return pd.concat(frames, ignore_index=True)


# --- how fast the loss falls ------------------------------------------------------------------------------------


def _local_exponent(z: _Array, log_rate: _Array, low: float, high: float) -> float:
    r"""Exponent $p = d\log(\frac{d}{dt}\mathcal L^{-1})/d\log z$, fitted over a range of $z$.

    Least squares of ``log_rate`` on $\log z$ over the points with ``low`` $\le z \le$ ``high``. Not to be
    confused with a fit of $\log\mathcal L$ on $\log t$, whose slope is near -1 for every method: a factor
    $\log^2 t$ is invisible over a few decades of $t$.

    Args:
        z: $-\log\mathcal L$, ``(n_points,)``.
        log_rate: $\log\frac{d}{dt}\mathcal L^{-1}$ at unit learning rate.
        low, high: smallest and largest z of the fit.

    Returns:
        The slope; NaN if the path does not reach ``high``.

    Source: derived here (claim E10).
    """
    inside = (z >= low) & (z <= high)
    if z.max() < high:
        return float("nan")
    return float(np.polyfit(np.log(z[inside]), log_rate[inside], 1)[0])


def rate_exponents(seeds: Iterable[int]) -> pd.DataFrame:
    r"""Exponent p in $\frac{d}{dt}\mathcal L^{-1} \asymp z^p$ over ranges of z, deep linear networks (E10, E19, E20).

    The points and the common first map of the paper's convergence-rate experiment, hidden width 10, exponential loss.
    At depth 1 there is one run, without a seed's share; SWN's flow of a single node is too stiff to integrate.

    Returns:
        One row a depth L, method, seed and range: depth, seed, method, low, high, exponent (NaN if the flow stalls),
        expected (2 for EWN at every depth, else $2 - 2/L$; hence $\mathcal L \asymp 1/(t\log^p t)$), clock_error
        (largest distance of $-\log\mathcal L$ from its clock).
    """
    (problem, first_map), seeds = _depth_problem("exponential"), list(seeds)
    rows = []
    for method, edges in _RATE_EDGES.items():
        clock = np.geomspace(edges[0], edges[-1], 120)
        for depth in _DEPTHS[method == "swn" :]:
            for seed in seeds if depth > 1 else seeds[:1]:
                start = _depth_weights(depth, 10, seed, first_map)
                path = theory.loss_clock(problem.gradient, method, start, clock)
                expected = 2.0 if method == "ewn" else 2.0 - 2.0 / depth
                for low, high in pairwise(edges):
                    exponent = _local_exponent(path.z, path.log_rate, low, high)
                    rows.append((depth, seed, method, low, high, exponent, expected, path.error))
    columns = ["depth", "seed", "method", "low", "high", "exponent", "expected", "clock_error"]
    return pd.DataFrame(rows, columns=columns)


def depth_curves(seeds: Iterable[int], n_steps: int = 5000) -> pd.DataFrame:
    r"""Training loss of deep linear networks under gradient descent with a constant step (E11).

    The authors' setting: 20 points, logistic loss (sum), width 100, step 0.001; every network starts as the same
    linear map, so depth 1 does not depend on the seed. They leave the last layer's direction at its own length.

    Args:
        seeds: of the initial weights, all of them at once.
        n_steps: gradient steps; the authors take 5,000.

    Returns:
        One row a depth, method, kept step (every 50th, and the last) and seed: depth, method, seed, step (0 is the
        start), log_loss, ratio (largest over smallest loss among the depths at this step). The n-th entry of the
        authors' logs is the loss before the n-th step: step n - 1 here.
    """
    (problem, first_map), seeds = _depth_problem("logistic"), list(seeds)
    frames = []
    for depth in _DEPTHS:
        different = seeds if depth > 1 else seeds[:1]
        start = _stacked(_depth_weights(depth, 100, seed, first_map) for seed in different)
        own_length = np.linalg.norm(start[-1], axis=-1, keepdims=True)
        for method in _METHODS:
            states = theory._euler_steps(problem.gradient, method, start, 1e-3, own_length)
            for step, (*_, log_loss) in enumerate(islice(states, n_steps + 1)):
                if step % 50 == 0 or step == n_steps:
                    about = {"depth": depth, "method": method, "seed": seeds, "step": step}
                    frames.append(pd.DataFrame(about | {"log_loss": np.broadcast_to(log_loss, len(seeds))}))
    table = pd.concat(frames, ignore_index=True)
    depths = np.exp(table["log_loss"]).groupby([table[name] for name in ("method", "seed", "step")])
    return table.assign(ratio=depths.transform("max") / depths.transform("min"))


# --- images -----------------------------------------------------------------------------------------------------


def image_pruning(
    name: str, seeds: Iterable[int], methods: Iterable[str], targets: Sequence[float], device: str = "auto"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Train with each method to given losses $e^{-z}$, then remove the shortest neurons (E13 to E18).

    All methods start from the same network for a seed. Mean cross-entropy, step $k/\mathcal L$, kept only if
    the loss did not rise; hidden layers are normalized and pruned, the output layer never. Two things break the
    theory's assumptions, as they do in the authors' networks: a bias in the hidden layer, an output layer that is not
    normalized.

    Args:
        name: in ``settings._IMAGES``.
        seeds: of splits, initial weights and batch orders.
        methods: ``"plain"``, ``"swn"``, ``"ewn"``, and ``"control"``: plain training in which the gradient of
            each hidden neuron's incoming weights is multiplied by $\|w_u\|^2$ (E18).
        targets: loss levels z, rising.
        device: ``"auto"`` (CUDA where there is one), ``"cpu"`` or ``"cuda"``.

    Returns:
        Runs, one row a method, seed and target: method, seed, z, reached, steps (or epochs), accuracy (unpruned, test,
        per cent) and gini (of the lengths, averaged over layers), NaN where the target was not reached.
        Accuracies (test, per cent) of those that reached it: method, seed, z, score, pruned_percent, accuracy. The
        score "best of scores" is the authors' rule: for each network and level, the best of their scores on the *test*
        set.
    """
    setting, seeds = settings._IMAGES[name], list(seeds)
    device = str(resolve_device(device))
    (x, y, x_test, y_test), n_classes = setting.load(seeds)
    runs, accuracies = [], []
    for method in methods:
        plain = setting.networks(seeds, x, n_classes)
        layers = [n for n, part in plain.member(0).named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
        hidden, control = layers[:-1], method == "control"
        form = "plain" if control else method
        descent = _descend(
            Ensemble([normalize_weights(network, form, hidden) for network in plain]),
            x, y, "cross-entropy", targets,
            grow=setting.grow, shrink=setting.shrink, batch_size=setting.batch_size, seeds=seeds,
            by_length=[f"{layer}.weight" for layer in hidden] if control else (),
            max_steps=setting.max_steps, device=device,
        )  # fmt: skip
        for number, z in enumerate(descent.targets):
            scores = {
                layer: _unit_scores(descent, number, layer, seeds, setting.every_score) for layer in hidden
            }
            state, there = descent.states[number], np.isfinite(descent.steps[:, number])
            accuracy = _pruned_accuracy(plain, state, scores, x_test, y_test, setting.levels, device)
            accuracy.index = pd.Index(seeds, name="seed")
            accuracy[~there] = np.nan
            tall = accuracy.melt(value_name="accuracy", ignore_index=False).dropna().reset_index()
            accuracies.append(tall.assign(method=method, z=z))
            by_layer = [[_gini(own) for own in score["length"].double().numpy()] for score in scores.values()]
            run = {"seed": seeds, "reached": there, "steps": descent.steps[:, number]}
            run |= {"accuracy": accuracy["length", 0].to_numpy(), "gini": np.mean(by_layer, axis=0)}
            runs.append(pd.DataFrame(run).assign(method=method, z=z))
    return pd.concat(runs, ignore_index=True), _with_best_of_scores(pd.concat(accuracies))


def _unit_scores(
    descent: _Descent, number: int, layer: str, seeds: Sequence[int], growth: bool
) -> dict[str, Tensor]:
    r"""Scores of one layer's units (neurons or filters) at a target, name -> ``(S, units)``; the lowest go first.

    ``length``: $\|w_u\|$. ``random``: a floor. With ``growth`` also ``since start``, ``since z = ...``: the length
    minus its value at the start, and at each earlier target.
    """
    states = descent.start, *descent.states[: number + 1]
    start, *until = (state[f"{layer}.weight"].flatten(2).norm(dim=2) for state in states)
    scores = {"length": until[number]}
    if growth:
        earlier = zip(descent.targets, until[:number], strict=False)
        scores["since start"] = until[number] - start
        scores |= {f"since z = {z:g}": until[number] - length for z, length in earlier}
    # the stream of batch orders: independent of the initial weights and of the split
    units = start.shape[1]
    random = [torch.rand(units, generator=streams(seed).shuffle) for seed in seeds]
    return scores | {"random": torch.stack(random)}


def _pruned_accuracy(
    plain: Ensemble,
    parameters: Mapping[str, Tensor],
    scores: Mapping[str, Mapping[str, Tensor]],
    x: Tensor,
    y: Tensor,
    levels: Sequence[float],
    device: str,
) -> pd.DataFrame:
    r"""Per cent of right answers when the lowest $\lfloor p\,n/100\rfloor$ units of each layer go, not fine-tuned.

    A removed unit loses its incoming weights and its bias. Scores are compared as numbers, ties go by index.

    Args:
        plain: networks whose architecture is used.
        parameters: name -> ``(S, ...)``.
        scores: layer -> score -> ``(S, units)``.
        x, y: test data ``(n, ...)`` and classes ``(n,)``, or each with a leading dimension S.
        levels: percentages to remove.
        device: where to evaluate.

    Returns:
        One row a member, one column a score and level.
    """
    network, plain = plain.member(0), plain.to(device).eval()
    parameters, x, y = {n: p.to(device) for n, p in parameters.items()}, x.to(device), y.to(device)
    found = {}
    for score, percent in product(next(iter(scores.values())), levels):
        pruned = dict(parameters)
        for layer, own in scores.items():
            keep = select_units(own[score].nan_to_num(), percent / 100)
            for name, kept in unit_mask(network, layer, keep).items():
                pruned[name] = pruned[name] * kept.to(device)
        answers = training._scores(plain, pruned, x, per_member=y.ndim == 2).argmax(-1)
        right = (answers == y).sum(dim=1).double()
        found[score, percent] = (100 * right / y.shape[-1]).cpu()
    return pd.DataFrame(found).rename_axis(columns=["score", "pruned_percent"])
