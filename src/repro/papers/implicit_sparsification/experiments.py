r"""The chapter's experiments, one function a group of claims: seeds and what the profile changes in, a tidy table out.

Flows (M1 to M7, M17) are those of $f(m\odot w)+\alpha_t(\|m\|^2+\|w\|^2)$ in continuous time, on a
sparse regression and from $m_0^2-w_0^2=\beta$; diagonal networks (M8 to M11) are trained on it in steps; digits
networks (M12 to M16, M18, M20 to M23) are pruned.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import linregress
from sklearn.linear_model import Lasso
from torch import Tensor
from torch.autograd.functional import hessian, jacobian

from repro.learn import TrainingDivergedError
from repro.papers._pictures import where
from repro.papers.implicit_sparsification.measures import _RUN, best_schedules, chosen_by_validation
from repro.papers.implicit_sparsification.method import METHODS, Choice, _Method, pilot_factors
from repro.papers.implicit_sparsification.settings import _SETTINGS, _Array, _SparseRegression, tuned
from repro.papers.implicit_sparsification.theory import Flow, Potential, _least_l1
from repro.papers.implicit_sparsification.training import _cycles, _descend, _fit

_STEADY = 0.05
"""Constant decay under which a flow turns from $L_2$ to $L_1$ within 50 units of time."""

# --- flows --------------------------------------------------------------------------------------------------------

_Rows = Iterator[dict[str, Any]]


def _every_seed(rows: Callable[[int], _Rows]) -> Callable[[Sequence[int]], pd.DataFrame]:
    """From the rows of one seed to the table of many; a row begins with its seed."""

    @wraps(rows)
    def table(seeds: Sequence[int]) -> pd.DataFrame:
        return pd.DataFrame([{"seed": seed} | row for seed in seeds for row in rows(seed)])

    table.__signature__ = inspect.signature(table, follow_wrapped=False)  # type: ignore[attr-defined]
    return table


@_every_seed
def flow_agreement(seed: int) -> _Rows:
    r"""Solve the flow of the factors and the mirror flow separately and compare (M1, K1).

    Returns:
        One row a (seed, beta). Largest differences over times up to 20 and coordinates: ``difference`` of the two
        flows' x; ``invariant_error`` of $m^2-w^2$ and $\beta e^{-4A_t}$, relative to beta; ``printed_difference`` of
        the factors' x and $a_t\sinh(-2L_t+c)$ with the scale $2u_0v_0e^{-2A}=\beta e^{-2A}$ that the paper's first
        version prints; ``printed_at_start`` the same at t = 0.
    """
    times, problem = np.linspace(0.0, 20.0, 41), _SparseRegression.draw(seed)
    for beta in (1.0, 100.0):
        flow, (m0, w0) = Flow(problem.x0, 0.1, rate=0.1, beta=beta), pilot_factors(problem.x0, beta)
        dose = flow.dose(times)[:, None]
        m, w = flow.factors(problem.gradient, times)
        # (m + w) decays by e^{-L-2A}, whatever the potential is
        integral = -np.log((m + w) / (m0 + w0)) - 2 * dose
        printed = beta * np.exp(-2 * dose) * np.sinh(-2 * integral + np.log((m0 + w0) / (m0 - w0)))
        yield {
            "beta": beta,
            "difference": _largest(m * w - flow.mirror(problem.gradient, times)),
            "invariant_error": _largest((m**2 - w**2) / beta - np.exp(-4 * dose)),
            "printed_difference": _largest(m * w - printed),
            "printed_at_start": _largest((m * w - printed)[0]),
        }


@_every_seed
def factor_gaps(seed: int) -> _Rows:
    r"""How far $m_T^2-w_T^2$ of two flows are apart that differ in the loss alone (M2).

    The losses are $\frac1{2d}\|Zx\mp y\|^2$; $\beta=1$, T = 10. With $\alpha(\|m\|^2+\|w\|^2)$ the gap is
    $\beta e^{-4\alpha T}$, whatever the loss is; with $\alpha\|m\|^2$ it depends on the path, and no potential can be
    written down in x and time.

    Returns:
        One row a (seed, which): ``which`` is ``"both"`` or ``"mask"``, the factors penalised; ``spread``, the largest
        difference over coordinates.

    Source: section 3 of the paper's first version.
    """
    problem = _SparseRegression.draw(seed)
    flow, losses = Flow(problem.x0, _STEADY), (problem, replace(problem, y=-problem.y))
    for which in ("both", "mask"):
        ends = [flow.factors(f.gradient, np.array([10.0]), mask_only=which == "mask") for f in losses]
        gaps = [m**2 - w**2 for m, w in ends]
        yield {"which": which, "spread": _largest(gaps[0] - gaps[1])}


@_every_seed
def commuting(seed: int) -> _Rows:
    r"""Elementwise masks, $x=m\odot w$, and neuronwise ones, $x=mw$ with one number m: do their entries commute (M17)?

    A parametrization $x=g(\theta)$ can be a mirror flow only if all Lie brackets of its entries,
    $[\nabla g_i,\nabla g_j]=\nabla^2g_j\nabla g_i-\nabla^2g_i\nabla g_j$, stay in the kernel of $\partial g$ (Li, Wang,
    Lee & Arora 2022, definition 4.1 and theorem 4.10, as the paper cites them). For a mirror flow $\nabla R(x_t)$ is
    $\nabla R(x_0)$ minus the integral of the gradients, hence their order cannot matter: two random gradients of time
    integral 1 are followed one after the other, in both orders. Both masks are quadratic in their parameters,
    $\dot\theta=-\sum_iv_i\nabla^2g_i\,\theta$ is linear, and matrix exponentials solve it to round-off.

    Args:
        seeds: of the points and gradients, drawn from a standard normal; three weights.

    Returns:
        One row a (seed, mask): ``bracket``, the largest Euclidean length of $\partial g$ times a bracket;
        ``difference``, the distance of the two ends; ``moved``, how far x moved.
    """
    masks: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
        "elementwise": (6, lambda theta: theta[:3] * theta[3:]),
        "neuronwise": (4, lambda theta: theta[0] * theta[1:]),
    }
    v = torch.as_tensor(np.random.default_rng(seed).standard_normal((2, 3)))
    v = v / v.norm(dim=1, keepdim=True)
    for mask, (size, g) in masks.items():
        theta = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        entries = [lambda theta, i=i, g=g: g(theta)[i] for i in range(3)]
        slopes, hessians = jacobian(g, theta), torch.stack([hessian(entry, theta) for entry in entries])
        # the Hessian of entry j times the slope of i
        turned = torch.einsum("jpq,iq->ijp", hessians, slopes)
        brackets = turned - turned.swapaxes(0, 1)
        one, two = torch.linalg.matrix_exp(-torch.einsum("vi,ipq->vpq", v, hessians))
        ends = [g(two @ one @ theta), g(one @ two @ theta)]
        yield {
            "mask": mask,
            "bracket": float((brackets @ slopes.T).norm(dim=-1).max()),
            "difference": float((ends[0] - ends[1]).norm()),
            "moved": float((ends[0] - g(theta)).norm()),
        }


@_every_seed
def optimality(seed: int) -> _Rows:
    r"""Compare flows with the point of least potential among those with the same predictions (M3).

    Limits of flows whose decay dies out are compared with $\arg\min\{R_{a_\infty}(x):Zx=y\}$. On the way, long before
    convergence and under constant decay, $x_t$ is compared with $\arg\min\{R_{a_t}(x):Zx=Zx_t\}$; the flow there is
    that of the factors, which knows nothing of potentials. $\beta=1$.

    Returns:
        One row a (seed, ``where``, dose): ``where`` is ``"limit"`` or ``"on the way"``; ``difference``, the largest
        over coordinates; ``range_residual``, the part of $\nabla R_{a_t}(x_t)$ outside the range of $Z^\top$ relative
        to the whole; ``misfit``, $\|Zx-y\|/\|y\|$.
    """
    times, problem = np.array([1.0, 4.0, 16.0]), _SparseRegression.draw(seed)
    for dose in (0.0, 0.5, 1.0, 2.0, 3.0, 4.0):
        (limit,) = Flow(problem.x0, dose, rate=1.0).dual(problem.Z, problem.y)
        yield {"where": "limit", "dose": dose} | _stationarity(problem, limit, dose, problem.y)
    flow = Flow(problem.x0, _STEADY)
    m, w = flow.factors(problem.gradient, times)
    for x, dose in zip(m * w, flow.dose(times), strict=True):
        yield {"where": "on the way", "dose": dose} | _stationarity(problem, x, dose, problem.Z @ x)


def _stationarity(problem: _SparseRegression, x: _Array, dose: float, predicted: _Array) -> dict[str, float]:
    """How far x is from the least potential among points with these predictions, by value and by gradient."""
    potential = Potential.after(dose, problem.x0)
    gradient = potential.gradient(x)
    in_range = problem.Z.T @ np.linalg.lstsq(problem.Z.T, gradient)[0]
    return {
        "difference": _largest(x - potential.least(problem.Z, predicted)),
        "range_residual": float(np.linalg.norm(gradient - in_range)) / float(np.linalg.norm(gradient)),
        "misfit": problem.misfit(x),
    }


@_every_seed
def transition(seed: int) -> _Rows:
    r"""Follow a flow ($\beta=1$) and compare it, at every time, with two points of the same predictions (M4).

    $x_t$ minimizes $R_{a_t}$ among all x with $Zx=Zx_t$, so that the comparison needs no convergence. The two points
    are those of least $\|x-e^{-4A_t}x_0\|_2$ and of least $\|x\|_1$.

    Returns:
        One row a (seed, time): ``dose``, ``l2_distance`` and ``l1_distance``, relative to $\|x_t\|_2$, ``l2_cosine``
        and ``l1_cosine``.
    """
    times, problem = np.geomspace(0.5, 50.0, 21), _SparseRegression.draw(seed)
    Z, flow = problem.Z, Flow(problem.x0, _STEADY)
    for time, x, dose in zip(times, flow.dual(Z, problem.y, times), flow.dose(times), strict=True):
        row, size = {"time": time, "dose": dose}, np.linalg.norm(x)
        shrunken = np.exp(-4 * dose) * problem.x0
        nearest = shrunken + np.linalg.pinv(Z) @ (Z @ (x - shrunken))
        for name, point in {"l2": nearest, "l1": _least_l1(Z, Z @ x)}.items():
            row[f"{name}_distance"] = float(np.linalg.norm(x - point) / size)
            row[f"{name}_cosine"] = float(x @ point / (size * np.linalg.norm(point)))
        yield row


@_every_seed
def recovery(seed: int) -> _Rows:
    r"""The error of the limits of flows by dose, and the rate at which it falls (M5).

    Limits are $\arg\min\{R_{a_\infty}(x):Zx=y\}$, which ``optimality`` shows to be where flows end. The rate is that of
    $\log\|x-x^*\|=\text{const}-\text{rate}\cdot A$, without doses that leave a larger scale than dose 3 from $\beta=1$:
    the fall is not exponential while a is not small.

    Returns:
        One row a (seed, beta, dose): ``matched``, the dose that leaves the same $a_\infty$ from $\beta=1$, which is
        $A-\frac14\log\beta$; ``error``, $\|x-x^*\|_2$; of the seed and beta the ``rate``, and ``r2``, the share of
        variance of the log error that the line explains.
    """
    problem = _SparseRegression.draw(seed)
    matched = np.array([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0])
    for beta in (1.0, 100.0):
        doses = matched + np.log(beta) / 4
        ends = [Potential.after(dose, problem.x0, beta).least(problem.Z, problem.y) for dose in doses]
        errors = np.array([np.linalg.norm(x - problem.x_star) for x in ends])
        line = linregress(doses[matched >= 3], np.log(errors[matched >= 3]))
        fall = {"rate": -line.slope, "r2": line.rvalue**2}
        for row in zip(doses, matched, errors, strict=True):
            yield {"beta": beta} | dict(zip(("dose", "matched", "error"), row, strict=True)) | fall


@_every_seed
def interpolation(seed: int) -> _Rows:
    r"""Let weight decay die out or stay: what is left of the residual, and the Lasso as the fixed point (M6).

    Constant decay drives $a_t$ to 0 and ends where $\nabla f=-2\alpha\,\mathrm{sign}(x)$, the Lasso with penalty
    $2\alpha\|x\|_1$. It is followed until $A_t=150$, $a_t=10^{-261}$. $\beta=1$.

    Returns:
        One row a (seed, ``decay``, alpha): ``decay`` is ``"dying out"`` or ``"constant"``; ``alpha`` is the strength
        at t = 0; ``misfit``, $\|Zx-y\|/\|y\|$ in the end; ``lasso_difference``, the largest difference from the
        Lasso's solution over coordinates, not a number where decay dies out.
    """
    problem = _SparseRegression.draw(seed)
    Z, y, x0 = problem.Z, problem.y, problem.x0
    (end,) = Flow(x0, 1.0, rate=1.0).dual(Z, y)
    yield {"decay": "dying out", "alpha": 1.0, "misfit": problem.misfit(end), "lasso_difference": np.nan}
    for alpha in (0.005, 0.02):
        (end,) = Flow(x0, alpha).dual(Z, y, [150 / alpha])
        lasso = Lasso(2 * alpha, fit_intercept=False, tol=1e-14, max_iter=1_000_000).fit(Z, y)
        note = {"misfit": problem.misfit(end), "lasso_difference": _largest(end - lasso.coef_)}
        yield {"decay": "constant", "alpha": alpha} | note


@_every_seed
def late_rate(seed: int) -> _Rows:
    r"""Fit the late slope of $\log f$ and set it beside the bound $2a_\infty\lambda$ (M7); $\beta=1$.

    $\lambda=2\sigma_{\min}(ZZ^\top/d)$ is the Polyak-Łojasiewicz constant of f. Decay is switched off at time 1, or
    it dies out so slowly that it outlives the loss, $\alpha_t\propto e^{-a_\infty\lambda t/4}$. Then f follows
    $\alpha_t^2$, at a quarter of the bound and half of the rate $a_\infty\lambda$ that the paper prints for any
    integrable decay: weight decay pushes f by as much as the square root of f, not by as much as f.

    Returns:
        One row a (seed, ``decay``, dose): ``decay`` is ``"switched off"`` or ``"slow"`` (doses above 0); ``slope``,
        fitted to $-\log f$ per unit of time; ``bound``, $2a_\infty\lambda$; ``linearized``, the exact late rate after
        a switch, $2\lambda_{\min}(ZDZ^\top/d)$ with $D=2\sqrt{x_\infty^2+a_\infty^2}$.
    """
    problem = _SparseRegression.draw(seed)
    Z, d = problem.Z, len(problem.y)
    for dose in (0.0, 1.0, 2.0, 3.0):
        potential = Potential.after(dose, problem.x0)
        bound = 4 * float(potential.a) * float(np.linalg.eigvalsh(Z @ Z.T / d)[0])
        speeds = 2 * np.hypot(potential.least(Z, problem.y), potential.a)
        exact = 2 * float(np.linalg.eigvalsh((Z * speeds) @ Z.T / d)[0])
        decays = {"switched off": (Flow(problem.x0, dose, until=1.0), exact)}
        if dose:
            decays["slow"] = (Flow(problem.x0, dose * bound / 8, rate=bound / 8), bound / 4)
        for name, (flow, expected) in decays.items():
            slope = _late_slope(problem, flow, expected)
            yield {"decay": name, "dose": dose, "slope": slope, "bound": bound, "linearized": exact}


def _late_slope(problem: _SparseRegression, flow: Flow, expected: float) -> float:
    """Slope of minus the logarithm of f over the later half of the times at which f is above round-off."""
    times = np.linspace(0.0, 37 / expected, 400)
    loss = problem.loss(flow.dual(problem.Z, problem.y, times)) / problem.loss(problem.x0)
    above = int((loss > 1e-16).argmin()) or len(times)  # below, the solver's tolerance shows; it is e^-37
    late = slice(above // 2, above)
    return -float(np.polyfit(times[late], np.log(loss[late]), 1)[0])


def _largest(values: _Array) -> float:
    return float(np.abs(values).max())


# --- diagonal networks --------------------------------------------------------------------------------------------


def _runs(strongest: float) -> pd.DataFrame:
    dying = [(name, strongest / 2.0**k) for name in ("harmonic", "geometric") for k in range(8)]
    constant = [("constant", 0.002 * 2.0**k) for k in range(8)]
    return pd.DataFrame(constant + dying, columns=["schedule", "amplitude"])


_RUNS = {"pilot": _runs(40.0), "spred": _runs(40.0), "l1_m": _runs(320.0), "l1_x": _runs(320.0)}
r"""Of each family and schedule, as many for each; the paper gives the schedules and no amplitudes.

Decayed factors are multiplied by $1-2\eta\alpha_k$ in a step. With amplitudes below 50 every such number is above 0,
as in the flow; L1 penalties subtract, and have no such limit.
"""


def diagonal_grid(seeds: Sequence[int], n_steps: int, horizons: Sequence[int]) -> pd.DataFrame:
    r"""Train every family with every schedule at every amplitude, from the same starts (M8 to M10).

    Args:
        seeds: of the problems and their starts; a problem's 40 held-out samples $z\sim N(0,I)$ with $y=z^\top x^*$, on
            which strengths are chosen, follow from its seed.
        n_steps: steps of full gradient descent.
        horizons: steps to record besides 0 and eight a decade, evenly spaced on a logarithmic scale.

    Returns:
        One row a (family, schedule, amplitude, seed, step): distance $\|x-x^*\|_2$, validation_error
        $\frac1{2|V|}\|Z_Vx-y_V\|^2$, flips (signs of the truth's non-zeros that changed since the start); NaN from
        the step at which a run has diverged.
    """
    spaced = np.geomspace(1, n_steps, int(np.ceil(8 * np.log10(n_steps))) + 1).round().astype(int)
    return _outcomes(seeds, _RUNS, sorted({0, *spaced.tolist(), *horizons}))


def stochastic(grid: pd.DataFrame, n_steps: int) -> pd.DataFrame:
    """The settings chosen at the last step again, in batches of 5, beside full gradient descent (M11).

    All families of a problem see the same batches.

    Args:
        grid: of ``diagonal_grid``; every family runs the setting chosen there.
        n_steps: as there.

    Returns:
        One row a (family, seed): schedule, amplitude, full and stochastic (distances; missing if it diverged).
    """
    chosen = best_schedules(grid, [n_steps]).query("best").rename(columns={"distance": "full"})
    settings = chosen[_RUN].drop_duplicates().groupby("family", sort=False)
    runs = {str(family): rows.reset_index(drop=True) for family, rows in settings}
    seeds = chosen["seed"].unique().tolist()
    again = _outcomes(seeds, runs, [n_steps], in_batches=True).rename(columns={"distance": "stochastic"})
    return chosen[[*_RUN, "seed", "full"]].merge(again[[*_RUN, "seed", "stochastic"]], on=[*_RUN, "seed"])


def _outcomes(
    seeds: Sequence[int], runs: Mapping[str, pd.DataFrame], steps: Sequence[int], in_batches: bool = False
) -> pd.DataFrame:
    """One row a run and recorded step of diagonal networks, by full descent or in batches, whose order has the seed."""
    problems, tables = [_SparseRegression.draw(seed) for seed in seeds], []
    paths = _descend(problems, runs, steps, seeds if in_batches else None)
    for p, (problem, seed) in enumerate(zip(problems, seeds, strict=True)):
        held_out = np.random.default_rng([seed, 7]).standard_normal((40, len(problem.x_star)))
        support = problem.x_star != 0
        for family, of_family in paths.items():
            x = of_family[:, p]  # (T, R, n)
            miss = (x - problem.x_star) @ held_out.T
            flips = (x[..., support] * problem.x0[support] < 0).sum(axis=-1)
            columns = {
                "distance": np.linalg.norm(x - problem.x_star, axis=-1),
                "validation_error": np.vecdot(miss, miss) / (2 * len(held_out)),
                "flips": np.where(np.isnan(x[..., 0]), np.nan, flips),
            }
            step, run = np.indices(flips.shape).reshape(2, -1)
            table = runs[family].iloc[run].reset_index(drop=True)
            table = table.assign(family=family, seed=seed, step=np.array(steps)[step])
            tables.append(table.assign(**{name: column.ravel() for name, column in columns.items()}))
    return pd.concat(tables, ignore_index=True)


# --- pruned networks ----------------------------------------------------------------------------------------------

_HIGH = (0.95, 0.98, 0.99, 0.995, 0.997)
"""The high sparsities, for each of which every method's choice is tuned."""
_LOWER = (0.0, 0.5, 0.8, 0.9)

_ARM = ["arm", "method", "sparsity", *Choice._fields]
"""Columns that say how an arm is trained for a sparsity."""

_PARTS: dict[str, tuple[str, Callable[[pd.DataFrame], pd.Series]]] = {
    "pilot_constant": ("pilot", lambda t: t["schedule"] == "constant"),
    "pilot_half": ("pilot", lambda t: t["schedule"] == "half"),
    # what the threshold leaves is as sparse as asked, without the help of pruning, and not nothing
    "str_native": ("str", lambda t: t["zeros"].between(t["sparsity"], 0.999)),
}
"""Arms that have a part of a method's choices, compared with others that have as many."""

_CYCLED = [(name, "rates") for name in ("x", "mw", "pilot", "l1_x")]
_CYCLED += [(name, "weights") for name in ("x", "pilot", "l1_x")]
"""Who is pruned iteratively, and what is rewound."""

_AS_THE_PAPER = {
    "x_plain": ("x", Choice(5e-5, rate=0.1)),
    "x_doubled": ("x", Choice(5e-5, rate=0.2)),
    "mw_doubled": ("mw", Choice(0.0, rate=0.2)),
}
"""Arms at settings that the paper gives, not tuned: plain weights, and factors at twice their rate."""


def _tuning(
    seeds: Sequence[int], cycle_seeds: Sequence[int], n_epochs: int, cycle_epochs: int
) -> pd.DataFrame:
    """Train every method with all its choices, and choose: what ``settings.tuned`` reads was made by this once.

    The choice of an arm at a sparsity has the highest validation accuracy, on average over seeds; in iterative pruning,
    over the last four of nine cycles as well. Choices at which a seed diverged are never taken.

    Returns:
        One row a task (``"one-shot"``, or a rewind), arm and sparsity (of cycles, missing): method, the fields of the
        choice, validation_accuracy.
    """

    def once(*told: Any) -> pd.DataFrame:
        return _fit(*told, seeds=seeds, n_epochs=n_epochs).pruned_accuracy(_HIGH)

    tables = []
    for name, how in METHODS.items():
        table = _by_rate(how, once).assign(method=name)
        for arm, (method, part) in {name: (name, None), **_PARTS}.items():
            if method == name:
                tables.append(chosen_by_validation(table, part).assign(task="one-shot", arm=arm))
    for name, rewind in _CYCLED:
        table = _by_rate(
            METHODS[name], _cycles, rewind=rewind, seeds=cycle_seeds, n_cycles=9, n_epochs=cycle_epochs
        )
        late = table[table["cycle"] > 5].assign(sparsity=np.nan, method=name)
        tables.append(chosen_by_validation(late).assign(task=rewind, arm=name))
    return pd.concat(tables, ignore_index=True)[["task", *_ARM, "validation_accuracy"]]


def _by_rate(how: _Method, table_of: Callable[..., pd.DataFrame], **options: Any) -> pd.DataFrame:
    """Tables of choices that can be trained together, without those that all diverge: they are not to be chosen."""
    tables = []
    for rate in dict.fromkeys(choice.rate for choice in how.choices):
        together = [choice for choice in how.choices if choice.rate == rate]
        with suppress(TrainingDivergedError):
            tables.append(table_of(_SETTINGS["digits"], how, together, **options))
    return pd.concat(tables, ignore_index=True)


def _choices(arms: pd.DataFrame) -> list[Choice]:
    return [Choice(*row) for row in arms[list(Choice._fields)].to_numpy()]


def one_shot(seeds: Sequence[int], n_epochs: int) -> pd.DataFrame:
    """Train digits networks with each arm's tuned choices; prune and train no more (M12, M13, M15, M18, M20 to M23).

    Args:
        seeds: of splits, initial weights and orders of batches; not those of the tuning.
        n_epochs: of training.

    Returns:
        One row an arm, seed and sparsity, as ``pruned_accuracy`` of ``training._fit`` has them, of the choice tuned for
        that sparsity (for lower ones, of that for 95 %).
    """
    fixed = [(arm, method, p, *choice) for arm, (method, choice) in _AS_THE_PAPER.items() for p in _HIGH]
    arms = pd.concat([where(tuned(), task="one-shot")[_ARM], pd.DataFrame(fixed, columns=_ARM)])
    arms = pd.concat([*(where(arms, sparsity=_HIGH[0]).assign(sparsity=p) for p in _LOWER), arms])
    return _pruned(arms, seeds, n_epochs)


def _pruned(arms: pd.DataFrame, seeds: Sequence[int], n_epochs: int) -> pd.DataFrame:
    """What pruning leaves of arms, rows of ``_ARM``, for every seed."""
    tables = []
    for (name, _), some in arms.groupby(["method", "rate"], sort=False):
        together, how = _choices(some.drop_duplicates(list(Choice._fields))), METHODS[str(name)]
        done = _fit(_SETTINGS["digits"], how, together, seeds=seeds, n_epochs=n_epochs)
        tables.append(done.pruned_accuracy(sorted(some["sparsity"].unique())).assign(method=str(name)))
    return arms.merge(pd.concat(tables), on=["method", *Choice._fields, "sparsity"])


def iterative(seeds: Sequence[int], n_cycles: int, n_epochs: int) -> pd.DataFrame:
    """Digits networks in ``training._cycles``, with the choices tuned for both rewinds (M16, K3).

    Args:
        seeds: of splits, initial weights and orders of batches; not those of the tuning.
        n_cycles: how many times to prune.
        n_epochs: of every cycle.

    Returns:
        One row an arm, rewind, cycle and seed: sparsity, validation_accuracy, test_accuracy.
    """
    arms, tables = tuned().query("task != 'one-shot'"), []
    sizes: dict[str, Any] = {"seeds": seeds, "n_cycles": n_cycles, "n_epochs": n_epochs}
    for arm, rewind, choice in zip(arms["arm"], arms["task"], _choices(arms), strict=True):
        table = _cycles(_SETTINGS["digits"], METHODS[arm], [choice], rewind=rewind, **sizes)
        tables.append(table.assign(arm=arm, rewind=rewind))
    return pd.concat(tables)


def strengths_that_serve(seeds: Sequence[int], n_epochs: int) -> pd.DataFrame:
    """Accuracy with 99 % of the weights removed on one grid of strengths, rates and schedules as in the paper (M14).

    PILoT follows algorithm 1 (second version) or is constant (first version); L1 penalties are constant.

    Returns:
        One row an arm, strength and seed, as in ``one_shot``.
    """
    as_given = {
        "pilot_algorithm": ("pilot_algorithm", "algorithm 1", 0.2, 15.0),
        "pilot_constant": ("pilot", "constant", 0.2, 0.0),
        "l1_x": ("l1_x", "constant", 0.1, 0.0),
        "l1_m": ("l1_m", "constant", 0.2, 0.0),
    }
    strengths = sorted({choice.strength for choice in METHODS["l1_x"].choices})
    rows = [(arm, how, 0.99, a, *rest) for arm, (how, *rest) in as_given.items() for a in strengths]
    return _pruned(pd.DataFrame(rows, columns=_ARM), seeds, n_epochs)
