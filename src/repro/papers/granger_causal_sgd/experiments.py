"""The chapter's experiments: networks at their starting weights in, a tidy table out; one function a claim group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from repro.learn import Ensemble, evaluate, stacked
from repro.papers.granger_causal_sgd.curvature import largest_eigenvalues, noise_sensitivity
from repro.papers.granger_causal_sgd.method import (
    _causal_weights,
    _lasso,
    _ridge,
    causal_pruning,
    step_test,
    tg_lasso,
)
from repro.papers.granger_causal_sgd.settings import Start
from repro.papers.granger_causal_sgd.training import Trace, _derived_seed, _train_to_stops, _tune, log
from repro.prune import Mask, expected_jaccard, jaccard, keep_highest, magnitude, random, select

_TARGETS = ("same_batch", "cross_batch")
_TRAINED_TOGETHER = 40  # perceptrons: fastest so on one processor


def _logged(start: Start, **changed: Any) -> Trace:
    """Log the networks of a start on their own data: rate, epochs, batches and seeds of the setting, if not changed."""
    how = {"seeds": start.seeds, **start.setting.sgd(), **changed}
    return log(start.ensemble, start.datasets, **how)


def _words(target: str) -> str:
    """A loss change as tables and pictures name it."""
    return target.replace("_", "-")


# --- one step (G1, G2, G11, K1, K2) -----------------------------------------------------------------------------------


def steps(start: Start) -> pd.DataFrame:
    """Return each step of the first network: what the identity predicts of the loss change, and what was seen.

    Returns:
        One row a (condition, step): ``condition``, ``predicted``, ``observed``. Conditions are the same batch, the
        cross-batch change, and that of a placebo, which sees the same batches and never moves.
    """
    real, placebo = (_logged(start.first(1), placebo=placebo) for placebo in (False, True))
    frames = []
    for condition, run in {"same-batch": real, "cross-batch": real, "cross-batch, placebo": placebo}.items():
        target = "same_batch" if condition == "same-batch" else "cross_batch"
        columns = {"predicted": run.first_order()[0], "observed": run.loss_changes[target][0]}
        frames.append(pd.DataFrame(columns).assign(condition=condition))
    return pd.concat(frames, ignore_index=True)


def identity_runs(start: Start) -> pd.DataFrame:
    r"""Fit loss changes by what the identity predicts, at several learning rates and with momentum (claims G1, G11).

    In float64: at small rates the rounding of a float32 loss is as large as what the identity leaves over.

    Returns:
        One row a (seed, learning_rate, target): ``slope`` b of $\Delta L_t \approx b\,\hat y_t$ by least squares;
        ``r2`` = $1-\sum_t(\Delta L_t-b\,\hat y_t)^2/\sum_t(\Delta L_t-\overline{\Delta L})^2$, about the mean and so
        below 0 where a constant would predict better, and NaN where the loss change is constant. Targets are
        ``"same-batch"`` and ``"cross-batch"``, and same-batch changes under momentum 0.9: ``"momentum, squares alone"``
        and ``"momentum, squares and products"`` of successive steps. Each sum has its best coefficient: squares are not
        judged by their scale.
    """
    exact = replace(start, ensemble=Ensemble([member.double() for member in start.ensemble]))
    runs = [_logged(exact, learning_rate=rate, rows=False) for rate in (1e-3, 1e-2, 1e-1)]
    pushed = _logged(exact, learning_rate=1e-3, momentum=0.9, rows=False)
    fits = [(_words(each), run, run.first_order(), each) for run in runs for each in _TARGETS]
    fits += [("momentum, squares alone", pushed, pushed.first_order(products=False), "same_batch")]
    fits += [("momentum, squares and products", pushed, pushed.first_order(), "same_batch")]
    frames = []
    for name, run, predicted, change in fits:
        names = {"seed": start.seeds, "learning_rate": run.learning_rate, "target": name}
        frames.append(pd.DataFrame(names | _line_through_zero(predicted, run.loss_changes[change])))
    return pd.concat(frames, ignore_index=True)


def granger_runs(start: Start, *, full_loss: bool = True, n_permutations: int = 0) -> pd.DataFrame:
    r"""Test steps that were taken, steps that were not, and steps in another order (claims G1, G2, K1, K2).

    Real and placebo runs see the same batches from the same weights. A placebo's parameters never move, so its
    same-batch and full-loss changes are 0, and whatever it explains of the cross-batch change is no effect of a
    step. Its energy is $\eta^2\lVert g_t\rVert^2$.

    Args:
        start: S networks at $\theta_0$.
        full_loss: whether to test the change of the loss on the whole training part, too.
        n_permutations: orders of chance of the steps, for ``level``.

    Returns:
        One row a (seed, target, condition): f, p_value, partial_r2, status, see ``method.step_test``; lagged_r2, the
        partial R² of steps strictly in the past; slope, r2, see ``identity_runs``. ``target`` is
        ``"same-batch"``, ``"cross-batch"`` or ``"full-loss"``; ``condition`` is ``"real run"``, ``"placebo"`` or
        ``"steps shuffled"``: the real run with its energies in random order. Of cross-batch changes and shuffled
        steps also ``level``, the share of ``n_permutations`` orders with p < 0.05, which is 0.05 of a valid test.
    """
    real, placebo = (_logged(start, full_loss=full_loss, placebo=placebo) for placebo in (False, True))
    conditions = {
        "real run": (real, real.energy),
        "placebo": (placebo, placebo.energy),
        "steps shuffled": (real, real.energy.gather(1, _orders(start.seeds, real.energy.shape[1]))),
    }
    frames = []
    for target, (condition, (run, energy)) in product(real.loss_changes, conditions.items()):
        change = run.loss_changes[target]
        line = _line_through_zero(-energy / run.learning_rate, change)
        names = {"seed": start.seeds, "target": _words(target), "condition": condition}
        found = pd.DataFrame(names | step_test(energy, change) | line)
        found["lagged_r2"] = step_test(energy, change, first_lag=1)["partial_r2"]
        if n_permutations and (target, condition) == ("cross_batch", "steps shuffled"):
            found["level"] = _level(real.energy, change, start.seeds, n_permutations)
        frames.append(found)
    return pd.concat(frames, ignore_index=True)


def _level(energy: Tensor, change: Tensor, seeds: Sequence[int], n: int) -> list[float]:
    """How often each network's test has p < 0.05 when its steps stand in random order."""
    shares = []
    for own, y, seed in zip(energy, change, seeds, strict=True):
        draw = torch.Generator().manual_seed(seed)
        orders = torch.stack([torch.randperm(len(y), generator=draw) for _ in range(n)])
        shares.append(np.mean(step_test(own[orders], y.expand(n, -1))["p_value"] < 0.05))
    return shares


def _line_through_zero(prediction: Tensor, change: Tensor) -> dict[str, Tensor]:
    """Fit loss changes ``(S, T)`` by a multiple of predictions; the columns ``(S,)`` of ``identity_runs``."""
    slope = (prediction * change).sum(dim=1) / prediction.square().sum(dim=1)
    left = (change - slope[:, None] * prediction).square().sum(dim=1)
    about_mean = (change - change.mean(dim=1, keepdim=True)).square().sum(dim=1)
    return {"slope": slope, "r2": torch.where(about_mean > 0, 1 - left / about_mean, torch.nan)}


def _orders(seeds: Sequence[int], n_rows: int) -> Tensor:
    """An order of the rows by chance for each network, ``(S, T)``."""
    draws = [torch.Generator().manual_seed(_derived_seed(seed, 2)) for seed in seeds]
    return torch.stack([torch.randperm(n_rows, generator=draw) for draw in draws])


# --- what the regression finds (G3, G4) -------------------------------------------------------------------------------


def held_out_fits(start: Start, learning_rate: float) -> pd.DataFrame:
    r"""Fit $\Delta L_t \approx b+\sum_k\gamma_k(\Delta\theta_{t,k})^2$ to one run; predict another (claim G3).

    Both runs start from $\theta_0$ and differ in the order of batches alone. Methods: ``"one for all"``, one
    coefficient $\gamma$; ``"authors'"``, ``tg_lasso`` over all weights at once at the authors' default
    $\alpha = 10^{-14}$ (any other predicts as little); ``"Lasso"``, converged on columns of standard deviation 1,
    $\frac{1}{2T}\lVert y - Z\beta\rVert^2 + \alpha\lVert\beta\rVert_1$, and ``"ridge"``,
    $\lVert y - X\gamma\rVert^2 + \lambda\lVert\gamma\rVert^2$, each at the penalty that predicts the last quarter
    of the first run best after a fit to the quarters before. All have an intercept, $b = \bar y - \bar x^\top\gamma$.

    Args:
        start: S networks at $\theta_0$.
        learning_rate: $\eta$ of both runs.

    Returns:
        One row a (seed, target, method): r2, $1-\sum(y-\hat y)^2/\sum(y-\bar y)^2$ on the second run, not bounded
        below.
    """
    first, second = (_run(start, number, learning_rate=learning_rate) for number in (0, 1))
    rows = []
    for i, seed in enumerate(start.seeds):
        x, new = first.squares(i), second.squares(i)
        for target, (method, (fit, penalties)) in product(_TARGETS, _FITS.items()):
            y, truth = first.loss_changes[target][i], second.loss_changes[target][i]
            left = (truth - _tuned(fit, x, y, new, penalties)).square().sum()
            r2 = float(1 - left / (truth - truth.mean()).square().sum())
            rows.append({"seed": seed, "target": _words(target), "method": method, "r2": r2})
    return pd.DataFrame(rows)


_Fit = Callable[[Tensor, Tensor, Sequence[float]], Tensor]


def _common(x: Tensor, y: Tensor, penalties: Sequence[float]) -> Tensor:
    total = (x - x.mean(dim=0)).sum(dim=1)
    return torch.full((1, x.shape[1]), float(total @ y / (total @ total)), dtype=torch.float64)


_FITS: dict[str, tuple[_Fit, Sequence[float]]] = {
    "one for all": (_common, [0.0]),
    "authors'": (tg_lasso, [1e-14]),
    "Lasso": (_lasso, np.logspace(0, -3.5, 15).tolist()),
    "ridge": (_ridge, np.logspace(2, -7, 19).tolist()),
}


def _tuned(fit: _Fit, x: Tensor, y: Tensor, new: Tensor, penalties: Sequence[float]) -> Tensor:
    """Predict new rows at the penalty that predicts the last quarter of rows best."""

    def predictions(x: Tensor, y: Tensor, new: Tensor, penalties: Sequence[float]) -> Tensor:
        return y.mean() + fit(x, y, penalties) @ (new - x.mean(dim=0)).T

    if len(penalties) > 1:
        cut = 3 * len(y) // 4
        errors = predictions(x[:cut], y[:cut], x[cut:], penalties) - y[cut:]
        penalties = [penalties[int(errors.square().sum(dim=1).argmin())]]
    return predictions(x, y, new, penalties)[0]


def mask_overlaps(start: Start, sparsities: Sequence[float]) -> pd.DataFrame:
    r"""Compare the authors' mask with masks that are simpler or know less, all of about one size (claim G4).

    The mask of a run: one regression a layer, with $\alpha$ the quantile of
    $|\frac1T\sum_t\Delta L_t(\Delta\theta_{t,k})^2|$ that leaves the sparsity wanted. Others:

    - ``"threshold on the covariance"``: the threshold $\alpha$ on that size itself.
    - ``"largest squared changes"``: the weights of largest $\frac1T\sum_t(\Delta\theta_{t,k})^2$.
    - ``"shuffled loss changes"``: loss changes in an order of chance, so that none belongs to its step.
    - ``"steps never taken"``: steps that were computed and never taken, on the same batches (cross-batch
      alone: its same-batch changes are 0).
    - ``"another log"``: another run from $\theta_0$. ``"rows in another order"``: the same run, its rows in another
      order in the regression.

    Returns:
        One row a (seed, target, wanted, other): sparsity of the authors' mask; jaccard of the kept sets, 1 where both
        are empty; chance, its mean for independent random sets of the same sizes; beyond, the overlap in excess of
        chance, $(J-J_0)/(1-J_0)$.
    """
    run, again, placebo = _run(start, 0), _run(start, 1), _run(start, 0, placebo=True)
    orders = _orders(start.seeds, run.energy.shape[1])
    reordered, rows = [_derived_seed(seed, 3) for seed in start.seeds], []
    for target in _TARGETS:
        y = run.loss_changes[target]
        masks_of = partial(_authors_masks, sparsities=sparsities, seeds=start.seeds)
        alphas, mask = masks_of(run, y)
        others = {
            "threshold on the covariance": run.covariance[target].abs()[:, None] > alphas[:, :, None],
            "rows in another order": _causal_weights(run, y, alphas, reordered),
            "largest squared changes": torch.stack([*map(_largest, run.mean_squares, mask)]),
            "shuffled loss changes": masks_of(run, y.gather(1, orders))[1],
        }
        if target == "cross_batch":
            others["steps never taken"] = masks_of(placebo, placebo.loss_changes[target])[1]
        others["another log"] = masks_of(again, again.loss_changes[target])[1]
        for (other, masks), (i, seed), (a, wanted) in product(
            others.items(), enumerate(start.seeds), enumerate(sparsities)
        ):
            one, two = mask[i, a], masks[i, a]
            index, chance = jaccard(one, two), expected_jaccard(int(one.sum()), int(two.sum()), len(one))
            found = 1 - float(one.double().mean()), index, chance, (index - chance) / (1 - chance)
            rows.append((seed, _words(target), wanted, other, *found))
    columns = ["seed", "target", "wanted", "other", "sparsity", "jaccard", "chance", "beyond"]
    return pd.DataFrame(rows, columns=columns)


def _run(start: Start, number: int, **changed: Any) -> Trace:
    r"""Log SGD from $\theta_0$ on batches in an order that belongs to the run's number."""
    return _logged(start, seeds=[_derived_seed(seed, 0, number) for seed in start.seeds], **changed)


def _authors_masks(
    run: Trace, change: Tensor, sparsities: Sequence[float], seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Penalties ``(S, A)`` that leave these sparsities, and the masks ``(S, A, p)`` of the regression at them."""
    sizes = torch.stack([(y @ run.squares(i) / len(y)).abs() for i, y in enumerate(change)])
    alphas = sizes.quantile(torch.tensor(sparsities, dtype=torch.float64), dim=1).T.clamp(min=1e-300)
    return alphas, _causal_weights(run, change, alphas, seeds)


def _largest(scores: Tensor, masks: Tensor) -> Tensor:
    """Mark the largest scores ``(p,)``, as many as each mask ``(A, p)`` keeps."""
    return torch.stack([keep_highest(scores, int((~mask).sum())) for mask in masks])


# --- the penalty as a dial, and the loop (G6, G10, G12) ---------------------------------------------------------------


def alpha_runs(start: Start, alphas: Sequence[float]) -> pd.DataFrame:
    r"""Prune once at every penalty, all from one log of each network, and train what is left (claim G6).

    Returns:
        One row a (target, alpha, seed): those, ``sparsity`` and ``test_accuracy``.
    """
    run = _logged(start, drop_last=False)
    grid = torch.tensor(alphas, dtype=torch.float64).expand(len(start.seeds), -1)
    rows = pd.DataFrame(product(alphas, start.seeds), columns=["alpha", "seed"])
    frames, many = [], start.times(len(alphas))
    for target in _TARGETS:
        kept = _causal_weights(run, run.loss_changes[target], grid, start.seeds)
        mask = Mask.joined([Mask(run.by_name(own)) for own in kept.unbind(1)])
        _, history = _tune(many, mask, start.setting.tune_epochs)
        found = rows.assign(target=_words(target), sparsity=_sparsities(mask))
        frames.append(found.assign(test_accuracy=history.last("test_accuracy")))
    return pd.concat(frames, ignore_index=True)


def loop_runs(
    start: Start,
    alphas: Sequence[float],
    *,
    targets: Sequence[str] = _TARGETS,
    n_iterations: int,
    logging_epochs: Sequence[int] | None = None,
    regress: bool = True,
    hold: bool = True,
) -> pd.DataFrame:
    r"""Run the loop of causal pruning over a grid of settings (claims G10, G12).

    Since the loop rewinds, the mask after iteration j is that of a run of j iterations.

    Args:
        start: S networks at $\theta_0$.
        alphas: penalties.
        targets: loss changes.
        n_iterations: of the longest run.
        logging_epochs: of each iteration, one or several numbers; None for the setting's.
        regress, hold: as in ``method.causal_pruning``; without holding masks are drawn again, on the same batches.

    Returns:
        One row a (target, logging_epochs, iteration, alpha, seed): those and ``sparsity``.
    """
    rows = pd.DataFrame(product(targets, alphas, start.seeds), columns=["target", "alpha", "seed"])
    many, frames = start.times(len(targets) * len(alphas)), []
    how = start.setting.sgd() | {"n_iterations": n_iterations, "regress": regress, "hold": hold}
    how |= {"seeds": many.seeds, "target": rows["target"].tolist()}
    for n_epochs in logging_epochs or [start.setting.logging_epochs]:
        how["n_epochs"] = n_epochs
        masks = causal_pruning(many.ensemble, many.datasets, rows["alpha"].tolist(), **how)
        for iteration, mask in enumerate(masks, start=1):
            found = rows.assign(iteration=iteration, sparsity=_sparsities(mask))
            frames.append(found.assign(logging_epochs=n_epochs))
    found = pd.concat(frames, ignore_index=True)
    return found.assign(target=found["target"].map(_words))


def _sparsities(mask: Mask) -> NDArray[np.float64]:
    """The sparsity of each network, for entries ``(N, *shape)``."""
    kept = torch.cat([entries.flatten(1) for entries in mask.values()], dim=1)
    return (~kept).double().mean(dim=1).numpy()


# --- accuracy at matched sparsity (G5 to G7, G13 to G16, K3, K4) ------------------------------------------------------

_Score = Callable[[Trace, int, nn.Module, torch.Generator], Tensor]


def _permuted(target: str, run: Trace, i: int, network: nn.Module, draw: torch.Generator) -> Tensor:
    y = run.loss_changes[target][i]
    return (y[torch.randperm(len(y), generator=draw)] @ run.squares(i)).abs()


def _random_layerwise(run: Trace, i: int, network: nn.Module, draw: torch.Generator) -> Tensor:
    causal = run.covariance["same_batch"][i].abs()
    layers = [causal[columns] for columns in run.layers.values()]
    return torch.cat([layer[torch.randperm(len(layer), generator=draw)] for layer in layers])


def _flat(scores: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([each.flatten() for each in scores.values()]).double()


# Scores ``(p,)`` of one network's weights; ``accuracy_runs`` says what they are.
_ARMS: dict[str, _Score] = {
    "causal": lambda run, i, network, draw: run.covariance["same_batch"][i].abs(),
    "causal, cross-batch": lambda run, i, network, draw: run.covariance["cross_batch"][i].abs(),
    "squared change alone": lambda run, i, network, draw: run.mean_squares[i],
    "shuffled loss changes": partial(_permuted, "same_batch"),
    "shuffled, cross-batch": partial(_permuted, "cross_batch"),
    "magnitude": lambda run, i, network, draw: _flat(magnitude(network)),
    "random": lambda run, i, network, draw: _flat(random(network, generator=draw)),
    "random within layers": _random_layerwise,
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
    masks = {("dense", 0.0): Mask.stack([Mask.dense(member) for member in members])}
    for arm in arms:
        scores = []
        for i, seed in enumerate(start.seeds):
            draw = torch.Generator().manual_seed(_derived_seed(seed, 1, 0, list(_ARMS).index(arm)))
            scores.append(_ARMS[arm](run, i, members[i], draw))
        named = run.by_name(torch.stack(scores))
        each = [{name: score[i] for name, score in named.items()} for i in range(len(members))]
        for sparsity in sparsities:
            masks[arm, sparsity] = Mask.stack([select(one, sparsity=sparsity) for one in each])
    return masks


def accuracy_runs(
    start: Start, sparsities: Sequence[float], arms: Sequence[str] = tuple(_ARMS)
) -> pd.DataFrame:
    r"""Fine-tune dense networks and every arm at every sparsity from $\theta_0\odot m$, and measure them.

    As many epochs for all; a network's batches are those of its seed, whatever its arm. Nothing is selected: networks
    are measured after the last epoch, and no mask has seen the validation or test part.

    Each arm ranks the weights of a network, and the lowest go first.
    With $x_{t,k} = (\Delta\theta_{t,k})^2$ and $\Delta L_t$ the loss change on the same batch:

    - ``"causal"``: $|\frac1T\sum_t\Delta L_t x_{t,k}|$, which is what TG_LASSO compares with $\alpha$ (claim G4): one
      $\alpha$ for all layers is one ranking of all weights. ``"causal, cross-batch"``: with the loss change from batch
      to batch, as in the authors' code.
    - ``"squared change alone"``: $\frac1T\sum_t x_{t,k}$. ``"shuffled loss changes"``, ``"shuffled, cross-batch"``: as
      the causal ones, rows of $\Delta L$ in a random order.
    - ``"magnitude"``: $|\theta_{0,k}|$. ``"random"``: uniform numbers.
    - ``"random within layers"``: the causal scores of each layer in a random order, so that at every sparsity each
      layer loses as many weights as with causal scores.

    Args:
        start: S networks at $\theta_0$.
        sparsities: shares of weights removed, in [0, 1).
        arms: which of them.

    Returns:
        One row a network: ``seed``, ``arm`` (first ``"dense"``, with sparsity 0), ``sparsity``,
        ``validation_accuracy`` and ``test_accuracy``, in [0, 1].
    """
    conditions = list(_arm_masks(start, arms, sparsities).items())
    at_once = 1 if start.setting.data.get("images") else max(1, _TRAINED_TOGETHER // len(start.seeds))
    frames = []
    for first in range(0, len(conditions), at_once):
        some = dict(conditions[first : first + at_once])
        _, history = _tune(start.times(len(some)), Mask.joined([*some.values()]), start.setting.tune_epochs)
        measured = {name: history.last(name) for name in ("validation_accuracy", "test_accuracy")}
        frames.append(_labels(start, some).assign(**measured))
    return pd.concat(frames, ignore_index=True)


def _labels(start: Start, conditions: Mapping[tuple[str, float], Mask]) -> pd.DataFrame:
    """Seed, arm and sparsity, one row a network."""
    rows = [(seed, arm, sparsity) for arm, sparsity in conditions for seed in start.seeds]
    return pd.DataFrame(rows, columns=["seed", "arm", "sparsity"])


# --- flatness (G8, G9) ------------------------------------------------------------------------------------------------


def flatness_runs(
    start: Start, arms: Sequence[str], sparsities: Sequence[float], *, target_loss: float, max_epochs: int
) -> pd.DataFrame:
    r"""Train dense and pruned networks to two stops; measure how flat they lie (claims G8, G9).

    $H_{kl} = \partial^2 L/\partial w_k\partial w_l$ of the mean cross-entropy over the whole training part, over
    weights only, without biases: all of them with pruned ones at zero (``all``), or those that survive (``kept``).
    $\lambda_{\max}$ over a subset can only be smaller (Cauchy's interlacing): pruning looks flattening over surviving
    weights for that reason alone.

    Curvature does not belong to the function that a network computes: scaling the weights into a rectified unit by c
    and those out of it by 1/c changes no output and makes $\lambda_{\max}$ as large as one likes (Dinh et al. 2017).
    Only ``noise`` stays the same under it. Conclude from no single column.

    Args:
        start: S networks at $\theta_0$.
        arms, sparsities: as in ``accuracy_runs``.
        target_loss, max_epochs: of the stop by loss; the other is after the setting's epochs, see ``training``.

    Returns:
        One row a (seed, arm, sparsity, stopping): reached (the target loss; True for stopping by epochs),
        train_loss, test_accuracy in [0, 1], noise (mean rise of the training loss under noise of 20 % of
        each weight, which leaves pruned ones where they are), all and kept (algebraically largest eigenvalues).
        ``stopping`` is ``"epochs"`` or ``"loss"``.
    """
    conditions = _arm_masks(start, arms, sparsities)
    survivors, every = Mask.joined([*conditions.values()]), start.times(len(conditions))
    train, test = stacked(every.datasets, "train"), stacked(every.datasets, "test")
    whole = {name: torch.ones_like(kept) for name, kept in survivors.items()}
    stops = _train_to_stops(every, survivors, target_loss=target_loss, max_epochs=max_epochs)
    frames, n_dense = [], len(start.seeds)
    for stopping, (networks, reached) in stops.items():
        largest = largest_eigenvalues(networks, *train, whole)
        pruned = Ensemble(list(networks)[n_dense:])
        kept = {name: entries[n_dense:] for name, entries in survivors.items()}
        of_pruned = largest_eigenvalues(pruned, train[0][n_dense:], train[1][n_dense:], kept)
        measured = _labels(start, conditions).assign(
            stopping=stopping,
            reached=reached.numpy(),
            train_loss=evaluate(networks, *train, per_member=True)[0].numpy(),
            test_accuracy=evaluate(networks, *test, per_member=True)[1].numpy(),
            noise=noise_sensitivity(networks, *train, 0.2, survivors).numpy(),
            all=largest.numpy(),
            kept=torch.cat([largest[:n_dense], of_pruned]).numpy(),
        )
        frames.append(measured)
    return pd.concat(frames, ignore_index=True)
