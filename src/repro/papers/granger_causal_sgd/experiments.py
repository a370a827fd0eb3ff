"""The chapter's experiments: networks at their starting weights in, a tidy table out; one function a claim group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from repro.learn import Ensemble, evaluate
from repro.papers.granger_causal_sgd.curvature import Hessian, noise_sensitivity
from repro.papers.granger_causal_sgd.method import causal_pruning, causal_weights, step_test, tg_lasso
from repro.papers.granger_causal_sgd.settings import Start
from repro.papers.granger_causal_sgd.theory import first_order, lasso, ridge
from repro.papers.granger_causal_sgd.training import (
    Trace,
    derived_seed,
    fine_tune,
    log,
    train_to_stops,
    tune,
)
from repro.prune import Mask, magnitude, random, select
from repro.prune.overlap import agreement
from repro.prune.selection import keep_highest

__all__ = [
    "accuracy_runs",
    "alpha_runs",
    "flatness_runs",
    "granger_runs",
    "held_out_fits",
    "identity_runs",
    "mask_overlaps",
    "mask_stability",
    "momentum_runs",
    "permutation_level",
    "steps",
]

_TARGETS = ("same_batch", "cross_batch")
_LASSO_PENALTIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
_RIDGE_PENALTIES = (10.0, 1.0, 0.1, 0.01, 1e-3, 0.0)
_TRAINED_TOGETHER = 40  # perceptrons: fastest so on one processor
#: Networks whose graph is in memory at once. A small graph stays in the processor's cache: 5 at once take a seventh
#: less time than 20, and 300 MB less.
_HESSIANS_AT_ONCE = 5


def _logged(start: Start, **changed: Any) -> Trace:
    """Log the networks of a start on their own data: rate, epochs, batches and seeds of the setting, if not changed."""
    how = {"seeds": start.seeds, **start.setting.sgd(), **changed}
    return log(start.ensemble, start.datasets, **how)


# --- one step (G1, G2, G11, K1, K2) -----------------------------------------------------------------------------------


def steps(start: Start) -> pd.DataFrame:
    """Return each step of the first network: what the identity predicts of the loss change, and what was seen.

    Returns:
        One row a (condition, step): ``condition``, ``predicted``, ``observed``. Conditions are the same batch, the
        cross-batch change, and that of a placebo, which sees the same batches and never moves.
    """
    real, placebo = (_logged(start.first(1), placebo=placebo) for placebo in (False, True))
    rows = []
    for condition, run, target in (
        ("same batch", real, "same_batch"),
        ("cross-batch", real, "cross_batch"),
        ("cross-batch, placebo", placebo, "cross_batch"),
    ):
        columns = {"predicted": first_order(run)[0], "observed": run.loss_changes[target][0]}
        rows.append(pd.DataFrame(columns).assign(condition=condition))
    return pd.concat(rows, ignore_index=True)


def identity_runs(start: Start) -> pd.DataFrame:
    r"""Fit loss changes by what the identity predicts, at several learning rates (claim G1).

    In float64: at small rates the rounding of a float32 loss is as large as what the identity leaves over.

    Returns:
        One row a (seed, learning_rate, target): ``slope`` b of $\Delta L_t \approx b\,\hat y_t$ by least squares;
        ``r2`` = $1-\sum_t(\Delta L_t-b\,\hat y_t)^2/\sum_t(\Delta L_t-\overline{\Delta L})^2$, about the mean and so
        below 0 where a constant would predict better; ``r2_identity``, the same with b = 1; the last two are NaN where
        the loss change is constant. Targets are ``"same_batch"``, ``"cross_batch"`` and ``"full_batch"``: the
        same-batch change of 20 steps on the whole
        training part. Full-batch steps hardly differ at small rates, so that their r2 can fall where their slope goes
        to 1.
    """
    exact = _in_float64(start)
    frames = []
    for rate in (1e-3, 1e-2, 1e-1):
        batches = _logged(exact, learning_rate=rate)
        whole = _logged(exact, learning_rate=rate, n_epochs=20, batch_size=None)
        for target, run, change in (
            ("same_batch", batches, "same_batch"),
            ("cross_batch", batches, "cross_batch"),
            ("full_batch", whole, "same_batch"),
        ):
            names = {"seed": start.seeds, "learning_rate": rate, "target": target}
            frames.append(
                pd.DataFrame(names | _line_through_zero(first_order(run), run.loss_changes[change]))
            )
    return pd.concat(frames, ignore_index=True)


def momentum_runs(start: Start) -> pd.DataFrame:
    """Fit same-batch loss changes under momentum 0.9, with and without products of successive steps (claim G11).

    In float64, at a learning rate of 0.001. Each sum has its best coefficient: squares are not judged by their scale.

    Returns:
        One row a (seed, features): slope, r2, r2_identity; ``features`` is ``"squares"`` or ``"squares and cross"``.
    """
    run = _logged(_in_float64(start), learning_rate=1e-3, momentum=0.9)
    frames = []
    for features, products in (("squares", False), ("squares and cross", True)):
        names = {"seed": start.seeds, "features": features}
        fit = _line_through_zero(first_order(run, products=products), run.loss_changes["same_batch"])
        frames.append(pd.DataFrame(names | fit))
    return pd.concat(frames, ignore_index=True)


def granger_runs(start: Start) -> pd.DataFrame:
    r"""Test steps that were taken, steps that were not, and steps in another order (claim G2).

    Real and placebo runs see the same batches from the same weights. A placebo's parameters never move, so its
    same-batch and full-loss changes are 0, and whatever it explains of the cross-batch change is no effect of a
    step. Its energy is $\eta^2\lVert g_t\rVert^2$.

    Returns:
        One row a (seed, target, condition): f, p_value, partial_r2, status, see ``method.step_test``. ``condition`` is
        ``"real"``, ``"placebo"`` or ``"permuted"``: the real run with its energies in random order.
    """
    real, placebo = (_logged(start, full_loss=True, placebo=placebo) for placebo in (False, True))
    orders = _orders(*real.energy.shape)
    conditions = {
        "real": (real, real.energy),
        "placebo": (placebo, placebo.energy),
        "permuted": (real, real.energy.gather(1, orders)),
    }
    frames = []
    for target, (condition, (run, energy)) in product(real.loss_changes, conditions.items()):
        names = {"seed": start.seeds, "target": target, "condition": condition}
        frames.append(pd.DataFrame(names | step_test(energy, run.loss_changes[target])))
    return pd.concat(frames, ignore_index=True)


def permutation_level(start: Start, n_permutations: int) -> pd.Series:
    """Return how often the test of cross-batch changes has p < 0.05 when the steps stand in random order (claim K2).

    Returns:
        By seed, shares in [0, 1]; 0.05 is what a valid test has.
    """
    run = _logged(start)
    energy, change = run.energy, run.loss_changes["cross_batch"]
    shares = []
    for i, seed in enumerate(start.seeds):
        orders = _orders(n_permutations, energy.shape[1], torch.Generator().manual_seed(seed))
        found = step_test(energy[i][orders], change[i].expand(n_permutations, -1))
        shares.append(np.mean(found["p_value"] < 0.05))
    return pd.Series(shares, index=pd.Index(start.seeds, name="seed"))


def _line_through_zero(prediction: Tensor, change: Tensor) -> dict[str, Tensor]:
    """Fit loss changes ``(S, T)`` by a multiple of predictions; the columns ``(S,)`` of ``identity_runs``."""
    slope = (prediction * change).sum(dim=1) / prediction.square().sum(dim=1)
    about_mean = (change - change.mean(dim=1, keepdim=True)).square().sum(dim=1)

    def r2(factor: Tensor) -> Tensor:
        left = (change - factor[:, None] * prediction).square().sum(dim=1)
        return torch.where(about_mean > 0, 1 - left / about_mean, torch.nan)

    return {"slope": slope, "r2": r2(slope), "r2_identity": r2(torch.ones_like(slope))}


def _in_float64(start: Start) -> Start:
    return replace(start, ensemble=Ensemble([member.double() for member in start.ensemble]))


def _orders(n: int, n_rows: int, generator: torch.Generator | None = None) -> Tensor:
    """Random orders of the rows, ``(n, T)``."""
    generator = generator or torch.Generator().manual_seed(0)
    return torch.stack([torch.randperm(n_rows, generator=generator) for _ in range(n)])


# --- what the regression finds (G3, G4) -------------------------------------------------------------------------------


def held_out_fits(start: Start) -> pd.DataFrame:
    r"""Fit $\Delta L_t \approx \sum_k\gamma_k(\Delta\theta_{t,k})^2$ to one run; predict another (claim G3).

    Both runs start from $\theta_0$ and differ in the order of batches alone. Methods: ``"common"``, one coefficient
    for all parameters, $\Delta L_t \approx \gamma\sum_k(\Delta\theta_{t,k})^2$ with biases; ``"tg_lasso"``, over all
    weights at once at the authors' default $\alpha = 10^{-14}$ (any other predicts as little); ``"lasso"``, converged,
    and ``"ridge"``, each at the penalty that predicts the last quarter of the first run best after a fit to the
    quarters before. The Lasso has an intercept, the others have none.

    Returns:
        One row a (seed, target, method): r2, $1-\sum(y-\hat y)^2/\sum(y-\bar y)^2$ on the second run, not bounded
        below; r2_about_zero, the same with $\sum y^2$, which is 0 for a fit that predicts nothing.
    """
    first, second = _run(start, 0), _run(start, 1)
    rows = []
    for i, seed in enumerate(start.seeds):
        x, new = first.squares(i), second.squares(i)
        for target in _TARGETS:
            y, truth = first.loss_changes[target][i], second.loss_changes[target][i]
            e = first.energy[i]
            for method, predicted in (
                ("common", (e @ y) / (e @ e) * second.energy[i]),
                ("tg_lasso", new @ tg_lasso(x, y, 1e-14)),
                ("lasso", _tuned(lasso, x, y, new, _LASSO_PENALTIES)),
                ("ridge", _tuned(ridge, x, y, new, _RIDGE_PENALTIES)),
            ):
                error = (truth - predicted).square().sum()
                rows.append(
                    {"seed": seed, "target": target, "method": method}
                    | {"r2": float(1 - error / (truth - truth.mean()).square().sum())}
                    | {"r2_about_zero": float(1 - error / truth.square().sum())}
                )
    return pd.DataFrame(rows)


def mask_stability(start: Start, alphas: Sequence[float]) -> pd.DataFrame:
    r"""Compare masks from two runs that start from $\theta_0$ and differ in the order of batches (claim G3).

    ``"tg_lasso"`` is the authors' mask, a regression a layer; ``"energy"`` keeps, in each run, as many weights as
    that one, those of largest $\frac1T\sum_t(\Delta\theta_{t,k})^2$ in the whole network, and knows no loss.

    Returns:
        One row a (seed, target, alpha, mask): sparsity, the mean of both runs; jaccard of the kept sets; chance,
        its mean for independent random sets of the same sizes; removed_jaccard and removed_chance of the removed.
    """
    runs = _run(start, 0), _run(start, 1)
    rows = []
    for target in _TARGETS:
        by_loss = [_authors_masks(run, run.loss_changes[target], alphas) for run in runs]
        for (a, alpha), (i, seed) in product(enumerate(alphas), enumerate(start.seeds)):
            kept = [masks[i, a] for masks in by_loss]
            largest = [_largest(run.mean_squares[i], mask) for run, mask in zip(runs, kept, strict=True)]
            names = {"seed": seed, "target": target, "alpha": alpha, "sparsity": _sparsity(torch.stack(kept))}
            for name, pair in (("tg_lasso", kept), ("energy", largest)):
                rows.append(names | {"mask": name} | agreement(*pair))
    return pd.DataFrame(rows)


def mask_overlaps(start: Start, alphas: Sequence[float]) -> pd.DataFrame:
    r"""Compare the authors' mask with masks that are simpler or know less (claim G4).

    ``"covariance"`` keeps $|\frac1T\sum_t\Delta L_t(\Delta\theta_{t,k})^2|>\alpha$. ``"energy"`` keeps as many weights
    as the authors' mask, those of largest $\frac1T\sum_t(\Delta\theta_{t,k})^2$ in the whole network. ``"permuted"``
    is the authors' mask at the same $\alpha$ with loss changes in an order of chance, so that none belongs to its
    step. ``"random"`` stands for random masks of the same size: their mean overlap, in closed form.

    Returns:
        One row a (seed, target, alpha, other): sparsity of the authors' mask; jaccard of the kept sets, 1 where both
        are empty; chance, its mean for independent random sets of the same sizes; removed_jaccard and
        removed_chance of the removed sets, which at low sparsity say more, because kept ones must overlap then.
    """
    run = _run(start, 0)
    orders = _orders(*run.energy.shape)
    rows = []
    for target in _TARGETS:
        y, products = run.loss_changes[target], run.covariance[target].abs()
        kept = _authors_masks(run, y, alphas)
        permuted = _authors_masks(run, y.gather(1, orders), alphas)
        for (a, alpha), (i, seed) in product(enumerate(alphas), enumerate(start.seeds)):
            mask = kept[i, a]
            others = {
                "covariance": products[i] > alpha,
                "energy": _largest(run.mean_squares[i], mask),
                "permuted": permuted[i, a],
                "random": mask,  # for its size
            }
            for name, other in others.items():
                found = agreement(mask, other)
                if name == "random":
                    found |= {"jaccard": found["chance"], "removed_jaccard": found["removed_chance"]}
                names = {"seed": seed, "target": target, "alpha": alpha, "other": name}
                rows.append(names | {"sparsity": _sparsity(mask)} | found)
    return pd.DataFrame(rows)


def _run(start: Start, number: int) -> Trace:
    r"""Log SGD from $\theta_0$ on batches in an order that belongs to the run's number."""
    return _logged(start, seeds=[derived_seed(seed, 0, number) for seed in start.seeds])


def _tuned(
    fit: Callable[[Tensor, Tensor, Sequence[float]], Tensor],
    x: Tensor,
    y: Tensor,
    new: Tensor,
    penalties: Sequence[float],
) -> Tensor:
    """Predict new rows at the penalty that predicts the last quarter of rows best; the Lasso has an intercept."""

    def predictions(x: Tensor, y: Tensor, new: Tensor, penalties: Sequence[float]) -> Tensor:
        about, level = (x.mean(dim=0), float(y.mean())) if fit is lasso else (0.0, 0.0)
        return level + fit(x, y, penalties) @ (new - about).T

    cut = 3 * len(y) // 4
    errors = (predictions(x[:cut], y[:cut], x[cut:], penalties) - y[cut:]).square().sum(dim=1)
    return predictions(x, y, new, [penalties[int(errors.argmin())]])[0]


def _authors_masks(run: Trace, change: Tensor, alphas: Sequence[float]) -> Tensor:
    """``method.causal_weights`` at A penalties: ``(S, A, p)``."""
    return causal_weights(run, change, torch.tensor(alphas, dtype=torch.float64).expand(len(change), -1))


def _largest(scores: Tensor, like: Tensor) -> Tensor:
    """Mark the largest scores ``(p,)``, as many as a mask keeps."""
    return keep_highest(scores, int((~like).sum()))


def _sparsity(mask: Tensor) -> float:
    return 1 - float(mask.double().mean())


# --- the penalty as a dial (G6, G10, G12) -----------------------------------------------------------------------------


def alpha_runs(
    start: Start,
    alphas: Sequence[float],
    *,
    loss_deltas: Sequence[str] = ("cross_batch", "same_batch"),
    n_iterations: int = 2,
    logging_epochs: Sequence[int] | None = None,
    tune_epochs: int | None = None,
) -> pd.DataFrame:
    r"""Run causal pruning over a grid, and fine-tune the networks of every iteration (claims G6, G10, G12).

    Since the loop rewinds, the mask after iteration j is that of a run of j iterations.

    Args:
        start: S networks at $\theta_0$.
        alphas: penalties.
        loss_deltas: targets of ``method.causal_pruning``.
        n_iterations: of the longest run.
        logging_epochs: of each iteration, one or several numbers; None for the setting's.
        tune_epochs: at most; None for the setting's.

    Returns:
        One row a (loss_delta, logging_epochs, iteration, alpha, seed): those, ``sparsity``, ``collapsed`` (layers
        without a weight) and the columns of ``training.fine_tune``.
    """
    frames, masks = [], []
    many, each_alpha = start.times(len(alphas)), np.repeat(alphas, len(start.seeds))
    for loss_delta, n_epochs in product(loss_deltas, logging_epochs or [start.setting.logging_epochs]):
        found = causal_pruning(
            many.ensemble,
            many.datasets,
            each_alpha.tolist(),
            seeds=many.seeds,
            target=loss_delta,
            n_iterations=n_iterations,
            **(start.setting.sgd() | {"n_epochs": n_epochs}),
        )
        names: dict[str, Any] = {"loss_delta": loss_delta, "logging_epochs": n_epochs, "alpha": each_alpha}
        frames += [_counts(mask).assign(iteration=j, **names) for j, mask in enumerate(found, start=1)]
        masks += found
    tuned = fine_tune(many.times(len(masks)), _joined(masks), tune_epochs or start.setting.tune_epochs)
    return pd.concat([pd.concat(frames, ignore_index=True), tuned], axis=1)


def _joined(masks: Iterable[Mask]) -> Mask:
    """Put masks ``(N, *shape)`` one after the other, as one."""
    first, *others = masks
    return Mask({name: torch.cat([kept, *(mask[name] for mask in others)]) for name, kept in first.items()})


def _counts(mask: Mask) -> pd.DataFrame:
    """Return the sparsity of each network and how many of its layers have no weight left, for ``(N, *shape)``."""
    kept = [entries.flatten(1) for entries in mask.values()]
    sparsity = (~torch.cat(kept, dim=1)).double().mean(dim=1)
    collapsed = torch.stack([~each.any(dim=1) for each in kept]).sum(dim=0)
    return pd.DataFrame({"sparsity": sparsity, "collapsed": collapsed})


# --- accuracy at matched sparsity (G5 to G7, K3) ----------------------------------------------------------------------


def _permuted(run: Trace, i: int, network: nn.Module, draw: torch.Generator) -> Tensor:
    y = run.loss_changes["same_batch"][i]
    return (y[torch.randperm(len(y), generator=draw)] @ run.squares(i)).abs()


def _random_layerwise(run: Trace, i: int, network: nn.Module, draw: torch.Generator) -> Tensor:
    causal = _ARMS["causal"](run, i, network, draw)
    layers = [causal[columns] for columns in run.layers.values()]
    return torch.cat([layer[torch.randperm(len(layer), generator=draw)] for layer in layers])


def _flat(scores: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([each.flatten() for each in scores.values()]).double()


# Scores ``(p,)`` of one network's weights; ``accuracy_runs`` says what they are.
_ARMS: dict[str, Callable[[Trace, int, nn.Module, torch.Generator], Tensor]] = {
    "causal": lambda run, i, network, draw: run.covariance["same_batch"][i].abs(),
    "causal_cross": lambda run, i, network, draw: run.covariance["cross_batch"][i].abs(),
    "energy": lambda run, i, network, draw: run.mean_squares[i],
    "permuted": _permuted,
    "exact": lambda run, i, network, draw: ridge(run.squares(i), run.loss_changes["same_batch"][i], [0.0])[
        0
    ].abs(),
    "magnitude": lambda run, i, network, draw: _flat(magnitude(network)),
    "random": lambda run, i, network, draw: _flat(random(network, generator=draw)),
    "random_layerwise": _random_layerwise,
}


def _arm_masks(
    start: Start, arms: Sequence[str], sparsities: Sequence[float]
) -> dict[tuple[str, float], Mask]:
    r"""Return masks ``(S, *shape)`` by arm and sparsity, the dense one first.

    Each removes the $\lfloor s\,p\rfloor$ weights of lowest score from each network. Scores are compared over all
    layers, so a layer can lose all its weights; such a mask is a result, not an error. What a network draws depends on
    its seed and the arm alone; masks of an arm are nested.
    """
    run, members = _logged(start), list(start.ensemble)
    masks = {("dense", 0.0): start.dense()}
    for arm in arms:
        scores = []
        for i, seed in enumerate(start.seeds):
            draw = torch.Generator().manual_seed(derived_seed(seed, 1, 0, list(_ARMS).index(arm)))
            scores.append(_ARMS[arm](run, i, members[i], draw))
        named = run.by_name(torch.stack(scores))
        each = [{name: score[i] for name, score in named.items()} for i in range(len(members))]
        for sparsity in sparsities:
            masks[arm, sparsity] = Mask.stack([select(one, sparsity=sparsity) for one in each])
    return masks


def accuracy_runs(start: Start, sparsities: Sequence[float], tune_epochs: int | None = None) -> pd.DataFrame:
    r"""Fine-tune dense networks and every arm at every sparsity from $\theta_0\odot m$, and measure them.

    As many epochs for all; a network's batches are those of its seed, whatever its arm. Nothing is selected: networks
    are measured after the last epoch, and no mask has seen the validation or test part.

    Each arm ranks the weights of a network, and the lowest go first.
    With $x_{t,k} = (\Delta\theta_{t,k})^2$ and $\Delta L_t$ the loss change on the same batch:

    - ``"causal"``: $|\frac1T\sum_t\Delta L_t x_{t,k}|$, which is what TG_LASSO compares with $\alpha$ (claim G4);
      ``"causal_cross"``: with the loss change from batch to batch, as in the authors' code.
    - ``"energy"``: $\frac1T\sum_t x_{t,k}$. ``"permuted"``: as causal, rows of $\Delta L$ in a random order.
    - ``"exact"``: $|\gamma_k|$ of the least-norm solution of $X\gamma = \Delta L$. A converged Lasso cannot rank: it
      keeps at most T weights, whatever the sparsity asked for.
    - ``"magnitude"``: $|\theta_{0,k}|$. ``"random"``: uniform numbers.
    - ``"random_layerwise"``: the causal scores of each layer in a random order, so that at every sparsity each layer
      loses as many weights as with causal scores.

    Args:
        start: S networks at $\theta_0$.
        sparsities: shares of weights removed, in [0, 1).
        tune_epochs: None for the setting's.

    Returns:
        One row a network: ``seed``, ``arm`` (first ``"dense"``, with sparsity 0), ``sparsity``, ``train_loss``
        (mean cross-entropy of the whole training part), ``validation_accuracy``, ``test_accuracy`` (in [0, 1])
        and ``collapsed``, the number of layers without a weight left.
    """
    conditions = list(_arm_masks(start, list(_ARMS), sparsities).items())
    at_once = max(1, _TRAINED_TOGETHER // len(start.seeds))
    frames = []
    for first in range(0, len(conditions), at_once):
        some = dict(conditions[first : first + at_once])
        mask = _joined(some.values())
        _, history = tune(start.times(len(some)), mask, tune_epochs or start.setting.tune_epochs)
        measured = {
            name: history.last(name) for name in ("train_loss", "validation_accuracy", "test_accuracy")
        }
        frames.append(_labels(start, some).assign(**measured, collapsed=_counts(mask)["collapsed"]))
    return pd.concat(frames, ignore_index=True)


def _labels(start: Start, conditions: Mapping[tuple[str, float], Mask]) -> pd.DataFrame:
    """Seed, arm and sparsity, one row a network."""
    rows = [(seed, arm, sparsity) for arm, sparsity in conditions for seed in start.seeds]
    return pd.DataFrame(rows, columns=["seed", "arm", "sparsity"])


# --- flatness (G8, G9) ------------------------------------------------------------------------------------------------


def flatness_runs(start: Start, *, n_epochs: int, target_loss: float, max_epochs: int) -> pd.DataFrame:
    r"""Train dense and pruned networks to two stops; measure how flat they lie, over two sets of weights (claim G8).

    $H_{kl} = \partial^2 L/\partial w_k\partial w_l$ of the mean cross-entropy over the whole training part,
    over weights only (biases are left out): those that survive (``"kept"``), or all of them with pruned ones
    at zero (``"all"``). $\lambda_{\max}$ over a subset can only be smaller (Cauchy's interlacing): pruning looks
    flattening over surviving weights for that reason alone.

    Curvature does not belong to the function that a network computes: scaling the weights into a rectified unit by c
    and those out of it by 1/c changes no output and makes $\lambda_{\max}$ as large as one likes (Dinh et al. 2017).
    Only ``noise`` stays the same under it. Conclude from no single column.

    Args:
        start: S networks at $\theta_0$.
        n_epochs, target_loss, max_epochs: of the two stops, see ``training.train_to_stops``.

    Returns:
        One row a (seed, arm, sparsity, stopping, hessian): epoch, reached (the target loss; True for stopping
        by epochs), train_loss, test_accuracy in [0, 1], noise (mean rise of the training loss under noise of 20 % of
        each weight, which leaves pruned ones where they are), largest (algebraically largest eigenvalue).
        ``stopping`` is ``"epochs"`` or ``"loss"``, ``hessian`` ``"kept"`` or ``"all"``.
    """
    conditions = _arm_masks(start, ("causal", "magnitude", "random"), (0.5, 0.8, 0.9))
    survivors, every = _joined(conditions.values()), start.times(len(conditions))
    train, test = every.stacked("train"), every.stacked("test")
    spaces = {"kept": survivors, "all": {name: torch.ones_like(kept) for name, kept in survivors.items()}}
    stops = train_to_stops(
        every, survivors, n_epochs=n_epochs, target_loss=target_loss, max_epochs=max_epochs
    )
    frames = []
    for stopping, (networks, rows) in stops.items():
        measured = rows.assign(
            train_loss=evaluate(networks, *train, per_member=True)[0].numpy(),
            test_accuracy=evaluate(networks, *test, per_member=True)[1].numpy(),
            noise=noise_sensitivity(networks, *train, 0.2, survivors).numpy(),
        )
        for space, kept in spaces.items():
            largest = _largest_eigenvalues(networks, *train, kept)
            labels = _labels(start, conditions).assign(stopping=stopping, hessian=space)
            frames.append(labels.join(measured.assign(largest=largest.numpy())))
    return pd.concat(frames, ignore_index=True)


def _largest_eigenvalues(networks: Ensemble, x: Tensor, y: Tensor, kept: Mapping[str, Tensor]) -> Tensor:
    """Of some networks after the other: the graph of all of them at once would fill the memory."""
    members, found = list(networks), []
    for first in range(0, len(members), _HESSIANS_AT_ONCE):
        some = slice(first, first + _HESSIANS_AT_ONCE)
        masks = {name: entries[some] for name, entries in kept.items()}
        hessian = Hessian(Ensemble(members[some]), x[some], y[some], masks)
        found.append(hessian.eigenvalues()[0][:, 0])
    return torch.cat(found)
