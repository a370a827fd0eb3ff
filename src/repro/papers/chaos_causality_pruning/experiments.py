"""The chapter's experiments: seeds in, a tidy table out."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import factorial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.signal import lfilter
from scipy.stats import percentileofscore
from torch import Tensor

from repro.learn.training import bar
from repro.papers._pictures import where
from repro.papers.chaos_causality_pruning.method import _Array, _granger_tests, decide, judge, paper_exponents
from repro.papers.chaos_causality_pruning.perceptrons import _Examples, _Perceptrons
from repro.papers.chaos_causality_pruning.settings import Setting
from repro.papers.chaos_causality_pruning.training import Observed, _laid_out
from repro.prune import expected_jaccard, jaccard
from repro.series import surrogates
from repro.series.granger import GrangerResult, granger_test
from repro.series.lyapunov import lyapunov_rosenstein

# --- the estimator and its controls (C5, C13, K4) -------------------------------------------------------------


def _logistic(n: int, length: int, rng: np.random.Generator) -> _Array:
    """Orbits of x -> 4x(1 - x), whose Lyapunov exponent is ln 2 a step."""
    x = np.empty((n, length))
    x[:, 0] = rng.uniform(0.1, 0.9, n)
    for k in range(1, length):
        x[:, k] = 4 * x[:, k - 1] * (1 - x[:, k - 1])
    return x


def _autoregression(n: int, length: int, rng: np.random.Generator, phi: float = 0.9) -> _Array:
    r"""Stationary series $x_k=\phi x_{k-1}+\varepsilon_k$ with standard normal $\varepsilon$."""
    x = rng.standard_normal((n, length))
    x[:, 0] /= np.sqrt(1 - phi**2)  # start in the stationary law
    return lfilter([1.0], [1.0, -phi], x)


_PROCESSES: Mapping[str, Callable[[int, int, np.random.Generator], _Array]] = {
    "white noise": lambda n, length, rng: rng.standard_normal((n, length)),
    "autoregression, 0.9": _autoregression,
    "random walk": lambda n, length, rng: rng.standard_normal((n, length)).cumsum(1),
    "chaos: logistic map": _logistic,
    "noisy ramp": lambda n, length, rng: np.linspace(0, 1, length) + 1e-3 * rng.standard_normal((n, length)),
    "sine": lambda n, length, rng: np.sin(2 * np.pi * (np.arange(length) / 37.3 + rng.random((n, 1)))),
    "exponential decay": lambda n, length, rng: np.exp(-np.arange(length) / rng.uniform(20, 100, (n, 1))),
}
"""Series ``(n, length)`` of processes; only the logistic map is chaotic, with the exponent ln 2."""


def known_processes(n_series: int, seed: int) -> pd.DataFrame:
    """Estimate exponents of ``n_series`` series of each process, of 50 and of 200 points.

    Returns:
        One row a (process, length, series): the paper's exponent, and Rosenstein's with an embedding and a range
        that are usual for it (dimension 5, neighbours at least 5 steps apart, a line through 8 steps).
    """
    rng = np.random.default_rng(seed)
    frames = []
    for length, (name, process) in product((50, 200), _PROCESSES.items()):
        series = process(n_series, length, rng)
        usual = lyapunov_rosenstein(series, emb_dim=5, lag=1, min_tsep=5, trajectory_len=8)
        frame = pd.DataFrame({"paper": paper_exponents(series), "usual": usual.exponent})
        frames.append(frame.assign(process=name, length=length, series=range(n_series)))
    return pd.concat(frames, ignore_index=True)


_SURROGATES: Mapping[str, Callable[[_Array, np.random.Generator], _Array]] = {
    "weights": lambda windows, _: windows,
    "shuffled": lambda windows, rng: surrogates.of_increments(windows, rng, surrogates.shuffled),
    "linear": lambda windows, rng: surrogates.of_increments(windows, rng, surrogates.iaaft),
}


def weights_and_surrogates(observed: Mapping[str, Observed], n_seeds: int) -> pd.DataFrame:
    """Estimate FT exponents of networks' weights, and of surrogates made from the same windows (claims C5 and C16).

    One in 32 windows of each weight.

    Args:
        observed: dense training, by data set.
        n_seeds: of so many seeds, the first ones.

    Returns:
        One row a (table, series, seed, window, weight): ``exponent``, nats an update. Series: ``"weights"``;
        ``"shuffled"``, walks that make the same steps in another order; ``"linear"``, walks whose steps have the
        same values and, nearly, the same spectrum (IAAFT).
    """
    frames = []
    for table, seen in observed.items():
        index = pd.MultiIndex.from_product([*map(range, seen.paths.shape[1:3])], names=["window", "weight"])
        for seed, windows in list(zip(seen.seeds, seen.paths, strict=True))[:n_seeds]:
            own, rng = windows.reshape(-1, windows.shape[-1]), np.random.default_rng([seed, 5])
            for name, make in _SURROGATES.items():
                frame = pd.DataFrame({"exponent": paper_exponents(make(own, rng))}, index=index)
                frames.append(frame.reset_index().assign(table=table, series=name, seed=seed))
    return pd.concat(frames, ignore_index=True)


# Of an initial parameter: small enough for a linear response, large enough for ten digits of it.
_NUDGE = 1e-6


def growth_of_nudges(setting: Setting, seeds: Sequence[int]) -> pd.DataFrame:
    """Follow how nudges of the initial weights grow, on new splits from new initial weights (claims C13 and C16).

    Returns:
        One row a (table, direction, seed, epoch): ``updates`` so far and ``efolds``, the log of the growth, for
        the directions ``"random"`` and ``"worst"``.
    """
    parts, initial = setting.start(seeds)
    grown = _growth(initial, parts.train, n_epochs=setting.dense_epochs, **setting.how)
    index = pd.MultiIndex.from_product([seeds, range(setting.dense_epochs + 1)], names=["seed", "epoch"])
    wide = pd.DataFrame(dict(zip(("random", "worst"), map(np.ravel, grown), strict=True)), index=index)
    long = wide.melt(var_name="direction", value_name="efolds", ignore_index=False).reset_index()
    return long.assign(table=setting.name, updates=long["epoch"] * len(parts.train))


def _growth(initial: _Perceptrons, train: _Examples, **how: Any) -> tuple[_Array, _Array]:
    r"""Return how far a small nudge of the start has grown after each epoch, in a random and in the worst direction.

    Training maps initial parameters $\theta_0$ to $\theta_k$. Its Jacobian $J_k=\partial\theta_k/\partial\theta_0$ is
    found from twins, one for each weight and bias, that start $10^{-6}$ further and see the same examples in the same
    order. A nudge grows by $\lVert J_k\rVert_F/\sqrt n$ in a random direction (root mean square) and by the largest
    singular value of $J_k$ in the worst. In a chaotic system the logarithms rise in proportion to k, until the twins
    are as far apart as strangers; their slope is the largest Lyapunov exponent that ``repro.series.lyapunov`` estimates
    from one series.

    Args:
        initial: R networks, with n weights and biases each.
        train: examples of S splits.
        how: for ``_Perceptrons.descend``.

    Returns:
        Two arrays ``(R, n_epochs + 1)`` in e-folds, starting with 0: random and worst.
    """
    sizes = [t[0].numel() for t in initial.tensors]
    n, n_networks = sum(sizes), len(initial)
    # a network, its n twins, the next network, ...
    both = initial.pick(np.repeat(np.arange(n_networks), n + 1))
    first = 1
    for tensor, size in zip(both.tensors, sizes, strict=True):
        twins = tensor.view(n_networks, n + 1, size)[:, first : first + size]
        twins += _NUDGE * torch.eye(size, dtype=torch.float64)
        first += size
    random, worst = [np.zeros(n_networks)], [np.zeros(n_networks)]

    def note(_: int) -> None:
        flat = torch.cat([t.view(n_networks, n + 1, -1) for t in both.tensors], dim=2)
        jacobian = (flat[:, 1:] - flat[:, :1]) / _NUDGE
        random.append((jacobian.square().sum((1, 2)) / n).sqrt().log().numpy())
        worst.append(torch.linalg.matrix_norm(jacobian, 2).log().numpy())

    both.descend(train, after_epoch=note, **how)
    return np.stack(random, axis=1), np.stack(worst, axis=1)


# --- what the rules say when there is nothing to find (K2) ----------------------------------------------------

_SHAPES = ((25, 7), (48, 14), (53, 14), (82, 14), (166, 20))
"""Numbers of windows and largest lags that occur in the paper's runs."""
_N_EFFECTS = 10
"""Effects, each tested against causes of its own."""


def null_shares(n_series: int, seed: int) -> pd.DataFrame:
    r"""Test independent series against independent effects under several rules.

    Either both are white noise, or the causes are autoregressions with coefficient 0.5 and the effects with 0.9. Or
    both are $e^{-3t/T}$ plus white noise of standard deviation 0.2 of its own each, over 100 windows: a weight that
    calms down while the error falls. Such a ``"shared trend"`` is tested at lag 1 alone, as it is and differenced.

    Args:
        n_series: causes an effect.
        seed: of the draws.

    Returns:
        One row a (windows, max_lag, process, rule, effect): the share of series called non-causal. A valid test at
        the level 0.05 has 0.95.
    """
    rng = np.random.default_rng(seed)
    processes = (("white noise", 0.0, 0.0), ("autoregressions", 0.5, 0.9))
    rows = []
    for (windows, max_lag), (process, of_cause, of_effect) in product(_SHAPES, processes):
        for effect in range(_N_EFFECTS):
            y = _autoregression(1, windows, rng, of_effect)[0]
            tests = _granger_tests(y, _autoregression(n_series, windows, rng, of_cause), max_lag)
            for rule in ("paper", "f_test", "single_lag", "honest"):
                share = judge(tests, rule).non_causal.mean()
                rows.append((windows, max_lag, process, rule, effect, share))
    rng = np.random.default_rng(seed)
    trend = np.exp(-3 * np.arange(100) / 100)
    for effect in range(_N_EFFECTS):
        y, *x = trend + 0.2 * rng.standard_normal((1 + n_series, 100))
        for difference, process in enumerate(("shared trend", "shared trend, differenced")):
            decision = decide(y, np.array(x), rule="single_lag", max_lag=1, difference=difference)
            rows.append((100, 1, process, "single_lag", effect, decision.non_causal.mean()))
    columns = ["windows", "max_lag", "process", "rule", "effect", "non_causal"]
    return pd.DataFrame(rows, columns=columns)


# --- decisions and their counterparts (C6, C15) ---------------------------------------------------------------


_SERIES: Mapping[str, Callable[[_Array, np.random.Generator], _Array]] = {
    "shifted": surrogates.circularly_shifted,
    "shuffled": surrogates.shuffled,
    "noise": lambda series, rng: rng.standard_normal(series.shape),
}
"""What is drawn in place of a network's exponents."""


def _compare_decisions(observed: Observed) -> pd.DataFrame:
    """Apply the rules to a network's own exponents and to counterparts that cannot cause its errors.

    Under the paper's rule and the same with F, also with the test part's errors in place of the validation part's;
    the honest rule on its own windows. ``"reverse"`` asks whether the errors cause the exponents. ``"planted"`` is a
    cause that is there: errors to which each weight's own exponents were added, see ``Observed.planted``.

    Returns:
        One row a (variant, series, rule, part, seed): non_causal and untestable shares of the tested weights, and
        the ``causal`` share of those that could be tested.
    """
    rngs = [np.random.default_rng([seed, 4]) for seed in observed.seeds]
    rows = []

    def judged(variant: str, name: str, rules: Sequence[str], tests: list[GrangerResult], part: str) -> None:
        for rule, (seed, one) in product(rules, zip(observed.seeds, tests, strict=True)):
            d = judge(one, rule)
            causal = d.causal[d.testable].mean() if d.testable.any() else np.nan
            row = {"variant": variant, "series": name, "rule": rule, "part": part, "seed": seed}
            row |= {"causal": causal, "non_causal": d.non_causal.mean(), "untestable": 1 - d.testable.mean()}
            rows.append({"table": observed.setting.name} | row)

    for variant in observed.recorders:
        honest = variant == "honest"
        own, stranger = observed.series(variant), observed.series(variant, "stranger")
        pairs: dict[str, tuple[_Array, _Array | None]] = {"own": (own, None), "stranger": (stranger, None)}
        if variant != "pt":
            planted = observed.planted(variant)
            pairs |= {"planted": (own, planted), "planted, stranger": (stranger, planted)}
        if not honest:
            for name, draw in _SERIES.items():
                each = [draw(one, rng) for one, rng in zip(own, rngs, strict=True)]
                pairs[name] = np.stack(each), None
            errors = np.broadcast_to(observed.errors(variant)[:, None], own.shape)
            pairs |= {"reverse": (errors, own), "reverse, stranger": (errors, stranger)}
            by_test_errors = observed.tests(variant, effect=observed.errors(variant, "test"))
            judged(variant, "own", ("paper",), by_test_errors, "test")
        for name, pair in pairs.items():
            rules = ("honest",) if honest else ("paper", "f_test")
            judged(variant, name, rules, observed.tests(variant, *pair), "validation")
    return pd.DataFrame(rows)


def in_new_orders(setting: Setting, seeds: Sequence[int]) -> pd.DataFrame:
    """Return the honest rule's ``decisions`` of ``runs_of`` where the examples come in a new order in every pass."""
    return _compare_decisions(Observed.of(replace(setting, reshuffle=True), seeds, ("honest",)))


def _overlaps(observed: Observed) -> pd.DataFrame:
    """Compare sets of non-causal weights: FT with PT, and FT with FT of a nudged and of a stranger network.

    Returns:
        One row a (pair, seed): the Jaccard index, and its expectation for independent random sets of these sizes;
        NaN where either set is empty and there is nothing to compare.
    """
    others = {role: observed.pruned("ft", role) for role in ("nudged", "stranger")}
    others = {"late and early": observed.pruned("pt")} | others
    rows = []
    for pair, other in others.items():
        for seed, a, b in zip(observed.seeds, observed.pruned("ft"), other, strict=True):
            row = {"pair": pair, "seed": seed, "jaccard": np.nan, "expected": np.nan}
            if a.any() and b.any():
                row["jaccard"] = jaccard(a, b)
                row["expected"] = expected_jaccard(int(a.sum()), int(b.sum()), len(a))
            rows.append(row)
    return pd.DataFrame(rows).assign(table=observed.setting.name)


# --- what pruning does (C1 to C4, C7, C8, C11, C14, K3) -------------------------------------------------------


def _retrain_arms(observed: Observed, n_random: int) -> tuple[pd.DataFrame, _Perceptrons]:
    """Retrain, from the same initial weights, the dense network and all arms of all variants, in one stack.

    Networks for images are large: only LEGCNet's, the smallest and random weights are removed.

    Args:
        observed: dense training.
        n_random: random masks a seed and variant.

    Returns:
        One row a network: table, seed, variant (``"dense"``, ``"ft"``, ``"pt"``), arm, draw, the columns of
        ``_Perceptrons.retrained``, the share of weights ``removed``, and ``log2_epochs``, counted from 1; and the
        networks, in the order of the rows.
    """
    setting, (n_seeds, n_weights) = observed.setting, (len(observed.seeds), len(observed.tested))
    whole = np.ones((n_seeds, 1, n_weights), bool)
    keeps = {("dense", "dense"): whole}
    if not setting.images:
        keeps["dense", "stranger"] = whole
    for variant in (v for v in observed.recorders if v != "honest"):
        found = observed.masks(variant, n_random)
        arms = ("noncausal", "magnitude after", "random") if setting.images else found
        keeps |= {(variant, arm): found[arm] for arm in arms}
    rows, keep = _laid_out(keeps, observed.seeds)
    network = rows.pop("network")
    own, stranger = (observed.places(role)[network] for role in ("own", "stranger"))
    initial = observed.initial.pick(np.where(rows["arm"] == "stranger", stranger, own))
    how = setting.how | {"benchmark": setting.benchmark, "budget": setting.dense_epochs, "cap": setting.cap}
    measured, networks = initial.retrained(keep, observed.parts.train, observed.parts.test, **how)
    measured["removed"] = 1 - measured["kept"] / n_weights
    measured["log2_epochs"] = np.log2(measured["epochs"] + 1)  # counted from 1, so that none is 0
    return rows.assign(table=setting.name).join(measured), networks


def _delete_without_retraining(observed: Observed) -> pd.DataFrame:
    """Delete weights from the trained networks and look at the training loss, without retraining (claim C7).

    As many weights as FT removes, layer by layer, for each reason, and 200 times at random.

    Returns:
        One row a (arm, seed): ``doublings``, log2 of the loss after the deletion over that before, and
        ``share_below``, the share of random deletions that raise the loss less (ties count half); for ``"random"``
        the mean of the first. NaN where FT removes nothing.
    """
    trained = observed.networks("own", trained=True)
    found = {("ft", arm): keep for arm, keep in observed.masks("ft", 200).items()}
    row, keep = _laid_out(found, observed.seeds)
    before = trained.loss(observed.parts.train)[row["network"]]
    after = trained.pick(row["network"]).masked(keep).loss(observed.parts.train)
    row["doublings"] = np.where(keep.all(axis=1), np.nan, np.log2(after / before))
    chance = where(row, arm="random").groupby("seed")["doublings"].agg(list)
    pairs = zip(row["seed"], row["doublings"], strict=True)
    row["share_below"] = [percentileofscore(chance[s], d, kind="mean") / 100 for s, d in pairs]
    row.loc[row["arm"] == "random", "share_below"] = np.nan
    table = row.groupby(["seed", "arm"], sort=False)[["doublings", "share_below"]].mean().reset_index()
    return table.assign(table=observed.setting.name)


# --- what survives pruning (C9, C10) --------------------------------------------------------------------------


def _feature_rankings(observed: Observed, runs: pd.DataFrame, networks: _Perceptrons) -> pd.DataFrame:
    """Compare each retrained network's ranking of the input features with the dense network's.

    Features are ranked by the mean absolute Shapley value of the outputs over 30 test examples and classes, against
    the mean training example. Of random masks, ten a seed and variant are looked at.

    Args:
        observed: dense training, for the data.
        runs, networks: of ``_retrain_arms``.

    Returns:
        One row a (variant, arm, draw, seed) but the dense one: the rank correlation ``spearman``.
    """
    wanted = runs["arm"].isin(["dense", "stranger", "noncausal", "random"]) & (runs["draw"] < 10)
    rows = []
    for i, seed in enumerate(observed.seeds):
        chosen = runs[wanted & (runs["seed"] == seed)]
        background = observed.parts.train.x[i].mean(0)
        of_seed = networks.pick(chosen.index)
        values = _mean_absolute_shapley(of_seed, background, observed.parts.test.x[i][:30])
        # NaN where all features are worth the same, which ranks nothing
        agreement = pd.DataFrame(values.T).corr("spearman")[0].to_numpy()
        rows.append(chosen[["table", "seed", "draw", "variant", "arm"]].assign(spearman=agreement)[1:])
    return pd.concat(rows, ignore_index=True)


# rows a forward pass: some tens of megabytes for 200 networks with hidden layers of eight
_ROWS = 8192


@torch.inference_mode()
def _shapley_values(predict: Callable[[Tensor], Tensor], background: Tensor, x: Tensor) -> Tensor:
    r"""Compute exact Shapley values of the inputs, against one background example.

    $$\phi_i=\sum_{S\not\ni i}\frac{|S|!\,(n-|S|-1)!}{n!}\bigl(f(x_{S\cup i})-f(x_S)\bigr),$$

    where $x_S$ has the example's values in S and the background's elsewhere. All $2^n$ coalitions are evaluated:
    no sampling error. Not SHAP values against a *distribution* of backgrounds, nor the linear approximations
    (kernel, gradient, deep) that libraries offer for many features.

    Args:
        predict: takes float64 examples ``(m, features)``, returns the outputs of R networks ``(R, m, classes)``.
        background: the example that stands for absent features, ``(features,)``, such as the training mean.
        x: examples to explain, ``(m, features)``, of sixteen features or so: each coalition is one more pass.

    Returns:
        ``(R, m, classes, features)``, float64, in the unit of the outputs; over features they add up to
        $f(x)-f(\text{background})$.

    Source: L. S. Shapley (1953); S. M. Lundberg and S.-I. Lee (2017), eq. 4.
    """
    n_examples, n = x.shape
    present = (torch.arange(2**n)[:, None] >> torch.arange(n)) % 2 == 1
    # the factor of each coalition's output in the value of each feature: plus with it, minus without it
    of_size = [factorial(s) * factorial(n - s - 1) / factorial(n) for s in range(n)]
    size = present.sum(1, keepdim=True)
    with_it = torch.tensor([0.0, *of_size], dtype=torch.float64)[size]
    without_it = torch.tensor([*of_size, 0.0], dtype=torch.float64)[size]
    weights = torch.where(present, with_it, -without_it)
    total = torch.zeros((), dtype=torch.float64)
    at_once = max(1, _ROWS // n_examples)
    for chosen, factors in zip(present.split(at_once), weights.split(at_once), strict=True):
        outputs = predict(torch.where(chosen[:, None], x, background).reshape(-1, n))
        total = total + factors.T @ outputs.reshape(len(outputs), len(chosen), -1)
    return total.reshape(len(total), n, n_examples, -1).permute(0, 2, 3, 1)


def _mean_absolute_shapley(predict: Callable[[Tensor], Tensor], background: Tensor, x: Tensor) -> _Array:
    r"""Measure each feature's importance, the mean of $|\phi_i|$ over examples and classes.

    Args:
        predict, background, x: as for ``_shapley_values``.

    Returns:
        ``(R, features)``, 0 and up, in the unit of the outputs; exactly 0 for a feature that no output depends on,
        so that such features tie.
    """
    mean = _shapley_values(predict, background, x).abs().mean((1, 2))
    with torch.inference_mode():
        scale = predict(x).abs().amax((1, 2))[:, None]
    # else the features that pruning cut off would be ranked by rounding errors
    return torch.where(mean > 1e-12 * scale, mean, 0.0).numpy()


def _layer_exponents(runs: pd.DataFrame, networks: _Perceptrons) -> pd.DataFrame:
    """Fit a power law to the spectrum of every layer of retrained networks (claim C10).

    Args:
        runs, networks: of ``_retrain_arms``.

    Returns:
        One row a (seed, variant, arm, draw, layer), layers from 1: ``alpha``.
    """
    tables = []
    for layer, weights in enumerate(networks.weights, start=1):
        alpha = [_spectral_exponent(weight) for weight in weights.numpy()]
        tables.append(runs[["seed", "variant", "arm", "draw"]].assign(layer=layer, alpha=alpha))
    return pd.concat(tables, ignore_index=True)


def _tail_exponent(eigenvalues: _Array) -> float:
    r"""Fit a density $p(\lambda)\propto\lambda^{-\alpha}$ to the upper tail of a spectrum by maximum likelihood.

    $$\hat\alpha=1+n\Big/\sum_{\lambda_i\ge x_{\min}}\ln\frac{\lambda_i}{x_{\min}},$$

    with $x_{\min}$ the value, of all but the largest, for which the Kolmogorov-Smirnov distance of the n values at and
    above it from the fitted law is least. It always returns an exponent: that is no evidence for a power law. Few
    values give a broad distribution of exponents.

    Args:
        eigenvalues: 0 and up, two different ones above 0; zeros (directions that the layer does not use) are left out.

    Returns:
        $\hat\alpha$, above 1.

    Source: A. Clauset, C. R. Shalizi, M. E. J. Newman (2009), eq. 3.1 and section 3.3.
    """
    logs = np.log(np.sort(eigenvalues[eigenvalues > 0]))
    left, right = np.searchsorted(logs, logs), np.searchsorted(logs, logs, side="right")
    fits = []
    for start in np.unique(left)[:-1]:
        above = logs[start:] - logs[start]
        n = len(above)
        slope = n / above.sum()
        law = -np.expm1(-slope * above)
        # the steps of the empirical distribution, just below and at each value
        below, at = (left[start:] - start) / n, (right[start:] - start) / n
        fits.append((max((at - law).max(), (law - below).max()), 1 + float(slope)))
    return min(fits, key=lambda fit: fit[0])[1]


def _spectral_exponent(weight: _Array) -> float:
    r"""Fit one to the eigenvalues of $W^\top W/N$, N the larger side of the matrix, that are not numerically zero.

    Args:
        weight: a layer's weights, ``(outputs, inputs)``; which side is which makes no difference.

    Source: C. H. Martin and M. W. Mahoney (2021), the empirical spectral density of WeightWatcher.
    """
    singular = np.linalg.svd(weight, compute_uv=False)
    negligible = singular[0] * max(weight.shape) * np.finfo(np.float64).eps
    return _tail_exponent(singular[singular > negligible] ** 2 / max(weight.shape))


def untrained_layers(seeds: Sequence[int]) -> pd.DataFrame:
    """Fit the same to the paper's MNIST network before training, by PyTorch's default law, one network a seed."""
    networks = _Perceptrons.drawn((784, 50, 30, 10), seeds, "softmax")
    runs = pd.DataFrame({"seed": seeds, "variant": "", "arm": "untrained", "draw": 0})
    return _layer_exponents(runs, networks)


# --- all of it ------------------------------------------------------------------------------------------------


def runs_of(settings: Sequence[Setting], seeds: Sequence[int], n_random: int) -> SimpleNamespace:
    """Train, test, prune, retrain and compare on each data set.

    Args:
        settings: data sets with their networks.
        seeds: one split with its initial weights each.
        n_random: random masks a seed and variant.

    Returns:
        Dense training, ``observed``, by data set, and tables. ``retrained``: one row a network, retrained from its
        initial weights: table, seed, variant (``"dense"``, ``"ft"``, ``"pt"``), arm, draw, the columns of
        ``_Perceptrons.retrained``, the share of weights ``removed``, and ``log2_epochs``, counted from 1.

        ``decisions``: one row a (variant, series, rule, part, seed): non_causal and untestable shares of the tested
        weights, and the ``causal`` share of those that could be tested. Series: the network's own exponents and
        counterparts that cannot cause its errors; ``"reverse"``, whether the errors cause the exponents;
        ``"planted"``, a cause that is there.

        ``overlaps``, for tables: one row a pair of non-causal sets and seed: the Jaccard index, and what is
        ``expected`` of independent random sets of these sizes. ``deletions``, for tables: one row an arm and seed,
        weights deleted from the trained network, as many as FT removes: ``doublings``, log2 of the training loss
        after over that before, and ``share_below``, the share of 200 random deletions that raise it less (ties count
        half). ``rankings``, for tables: one row a network but the dense one: ``spearman``, the correlation of its
        ranking of the features by mean absolute Shapley value with that of the dense one.

        ``spectra``, for images: one row a network and layer, from 1: ``alpha`` of the power law of its spectrum.
    """
    observed: dict[str, Observed] = {}
    frames: dict[str, list[pd.DataFrame]] = defaultdict(list)
    with bar(len(settings)) as shown:
        for setting in settings:
            seen = observed[setting.name] = Observed.of(setting, seeds)
            runs, networks = _retrain_arms(seen, n_random)
            frames["retrained"].append(runs)
            frames["decisions"].append(_compare_decisions(seen))
            if setting.images:
                frames["spectra"].append(_layer_exponents(runs, networks))
            else:
                frames["overlaps"].append(_overlaps(seen))
                frames["deletions"].append(_delete_without_retraining(seen))
                frames["rankings"].append(_feature_rankings(seen, runs, networks))
            shown.update()
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in frames.items()}
    return SimpleNamespace(observed=observed, **tables)


# --- our statistics beside the reference implementations (K5) -------------------------------------------------


def agreement(observed: Observed) -> pd.DataFrame:
    """Compare our batched statistics with statsmodels and nolds on a chapter's own series of three seeds.

    Granger tests: the FT errors and exponents of ten weights at lags 1, 5 and 14, those that the number of windows
    allows. Exponents: the first FT window of 40 weights. What either refuses is not compared.

    Returns:
        One row a seed: ``granger``, the largest relative difference from statsmodels over its four statistics, and
        ``lyapunov``, the largest difference from ``nolds.lyap_r`` with the paper's embedding, nats an update.
    """
    errors, series = observed.errors("ft"), observed.series("ft")
    lags = [lag for lag in (1, 5, 14) if errors.shape[1] >= 3 * lag + 2]
    rows = []
    for i, windows in enumerate(observed.paths[:3]):
        granger = [_granger_difference(errors[i], cause, lags) for cause in series[i, :10]]
        lyapunov = _lyapunov_differences(windows[0, :40])
        rows.append({"granger": np.nanmax(granger), "lyapunov": np.nanmax(lyapunov)})
    return pd.DataFrame(rows)


def _granger_difference(effect: _Array, cause: _Array, lags: Sequence[int]) -> float:
    """The largest relative difference of ``(T,)`` twice from statsmodels; NaN if it refuses the pair."""
    from statsmodels.tsa.stattools import grangercausalitytests

    ours = granger_test(effect[None], cause[None], lags)
    if not ours.ok.all():
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = grangercausalitytests(np.column_stack([effect, cause]), list(lags))
    statistics = {"ssr_ftest": ours.f, "params_ftest": ours.f, "ssr_chi2test": ours.chi2, "lrtest": ours.lr}
    pairs = [(a[0, j], reference[lag][0][b][0]) for b, a in statistics.items() for j, lag in enumerate(lags)]
    return max(abs(a - b) / abs(b) for a, b in pairs)


def _lyapunov_differences(windows: _Array) -> _Array:
    """The differences from nolds, one a window ``(n, N)``; NaN where either gives no finite exponent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nolds warns of its own imports and of windows at rest
        import nolds

        how = {"emb_dim": 2, "lag": 1, "min_tsep": 0, "trajectory_len": 2}
        theirs = np.array([nolds.lyap_r(w, tau=1, fit="poly", **how) for w in windows])
        difference = np.abs(lyapunov_rosenstein(windows, **how).exponent - theirs)
    return np.where(np.isfinite(difference), difference, np.nan)
