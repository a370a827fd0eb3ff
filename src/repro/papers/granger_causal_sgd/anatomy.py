"""What the regression finds: whether its coefficients predict another run, and which other masks its mask equals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import pandas as pd
import torch
from torch import Tensor

from repro.papers.granger_causal_sgd._pairs import positive_numbers
from repro.papers.granger_causal_sgd.lasso import lasso
from repro.papers.granger_causal_sgd.phases import derived_seed
from repro.papers.granger_causal_sgd.ridge import ridge
from repro.papers.granger_causal_sgd.screening import covariance
from repro.papers.granger_causal_sgd.settings import Start
from repro.papers.granger_causal_sgd.tg_lasso import tg_lasso
from repro.papers.granger_causal_sgd.trace import Trace, log_trace
from repro.prune.overlap import agreement
from repro.prune.selection import keep_highest

__all__ = ["held_out_fits", "mask_overlaps", "mask_stability"]

_TARGETS = ("same_batch", "cross_batch")
_LASSO_PENALTIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
_RIDGE_PENALTIES = (10.0, 1.0, 0.1, 0.01, 1e-3, 0.0)


def held_out_fits(
    start: Start, targets: Sequence[str] = _TARGETS, *, alpha: float = 1e-14, n_epochs: int | None = None
) -> pd.DataFrame:
    r"""Fit $\Delta L_t \approx \sum_k\gamma_k(\Delta\theta_{t,k})^2$ to one run; predict another (claim G3).

    Both runs start from $\theta_0$ and differ in the order of batches alone. Methods: ``"common"``, one coefficient
    for all parameters, $\Delta L_t \approx \gamma\sum_k(\Delta\theta_{t,k})^2$ with biases; ``"tg_lasso"``, over all
    weights at once; ``"lasso"``, converged, and ``"ridge"``, each at the penalty that predicts the last quarter of
    the first run best after a fit to the quarters before. The Lasso has an intercept, the others have none.

    Args:
        start: the networks.
        targets: ``"same_batch"``, ``"cross_batch"``, ``"full_loss"``.
        alpha: of TG_LASSO; the authors' default. Any other predicts as little, see ``tg_lasso``.
        n_epochs: of each run; None for the setting's logging epochs.

    Returns:
        One row a (seed, target, method): r2, $1-\sum(y-\hat y)^2/\sum(y-\bar y)^2$ on the second run, not bounded
        below; r2_about_zero, the same with $\sum y^2$, which is 0 for a fit that predicts nothing; penalty, the
        one chosen (NaN for ``"common"``).

    Raises:
        ValueError: an unknown target, a penalty not above 0, or as ``log_trace``.
    """
    _check_targets(targets)
    positive_numbers("alpha", alpha)
    first, second = _two_runs(start, targets, n_epochs)
    energies = first.energy(), second.energy()
    rows = []
    for i, seed in enumerate(start.seeds):
        x, new = first.squares(i), second.squares(i)
        for target in targets:
            y, truth = first.loss_changes[target][i], second.loss_changes[target][i]
            for method, penalty, predicted in (
                ("common", float("nan"), _slope(energies[0][i], y) * energies[1][i]),
                ("tg_lasso", alpha, new @ tg_lasso(x, y, alpha).coefficients),
                ("lasso", *_tuned(_lasso_predictions, x, y, new, _LASSO_PENALTIES)),
                ("ridge", *_tuned(_ridge_predictions, x, y, new, _RIDGE_PENALTIES)),
            ):
                error = (truth - predicted).square().sum()
                rows.append(
                    {"seed": seed, "target": target, "method": method, "penalty": penalty}
                    | {"r2": float(1 - error / (truth - truth.mean()).square().sum())}
                    | {"r2_about_zero": float(1 - error / truth.square().sum())}
                )
    return pd.DataFrame(rows)


def mask_stability(
    start: Start,
    alphas: float | Sequence[float],
    targets: Sequence[str] = _TARGETS,
    *,
    n_epochs: int | None = None,
) -> pd.DataFrame:
    r"""Compare masks from two runs that start from $\theta_0$ and differ in the order of batches (claim G3).

    ``"tg_lasso"`` is the authors' mask, a regression a layer; ``"energy"`` keeps, in each run, as many weights as
    that one, those of largest $\frac1T\sum_t(\Delta\theta_{t,k})^2$ in the whole network, and knows no loss.

    Args:
        start: the networks.
        alphas: penalties, above 0.
        targets: loss changes to regress on.
        n_epochs: of each run; None for the setting's logging epochs.

    Returns:
        One row a (seed, target, alpha, mask): sparsity, the mean of both runs; jaccard of the kept sets; chance,
        its mean for independent random sets of the same sizes; removed_jaccard and removed_chance of the removed.

    Raises:
        ValueError: an unknown target, a penalty not above 0, or as ``log_trace``.
    """
    penalties = positive_numbers("alpha", alphas)
    _check_targets(targets)
    runs = _two_runs(start, targets, n_epochs)
    energies = [run.moments().mean_square for run in runs]
    rows = []
    for target in targets:
        by_loss = [_authors_masks(run, run.loss_changes[target], penalties) for run in runs]
        for (a, alpha), (i, seed) in product(enumerate(penalties), enumerate(start.seeds)):
            kept = [masks[a, i] for masks in by_loss]
            largest = [
                _largest(energy[i], int(mask.sum())) for energy, mask in zip(energies, kept, strict=True)
            ]
            for name, pair in (("tg_lasso", kept), ("energy", largest)):
                rows.append(
                    {"seed": seed, "target": target, "alpha": alpha, "mask": name}
                    | {"sparsity": 1 - float(torch.stack(kept).double().mean())}
                    | agreement(*pair)
                )
    return pd.DataFrame(rows)


def mask_overlaps(
    start: Start,
    alphas: float | Sequence[float],
    targets: Sequence[str] = _TARGETS,
    *,
    n_epochs: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Compare the authors' mask with masks that are simpler or know less (claim G4).

    ``"covariance"`` keeps $|\frac1T\sum_t\Delta L_t(\Delta\theta_{t,k})^2|>\alpha$. ``"energy"`` keeps as many weights
    as the authors' mask, those of largest $\frac1T\sum_t(\Delta\theta_{t,k})^2$ in the whole network. ``"permuted"``
    is the authors' mask at the same $\alpha$ with loss changes in an order of chance, so that none belongs to its
    step. ``"random"`` stands for random masks of the same size: their mean overlap, in closed form.

    Args:
        start: the networks.
        alphas: penalties, above 0.
        targets: loss changes to regress on.
        n_epochs: None for the setting's logging epochs.
        seed: of the permutations.

    Returns:
        One row a (seed, target, alpha, other): sparsity and other_sparsity; jaccard of the kept sets, 1 where both
        are empty; chance, its mean for independent random sets of the same sizes; removed_jaccard and
        removed_chance of the removed sets, which at low sparsity say more, because kept ones must overlap then.

    Raises:
        ValueError: an unknown target, a penalty not above 0, or as ``log_trace``.
    """
    penalties = positive_numbers("alpha", alphas)
    _check_targets(targets)
    run = _run(start, 0, targets, n_epochs)
    energy = run.moments().mean_square
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(run.n_rows, generator=generator) for _ in start.seeds])
    rows = []
    for target in targets:
        y = run.loss_changes[target]
        kept = _authors_masks(run, y, penalties)
        permuted = _authors_masks(run, y.gather(1, order), penalties)
        products = torch.stack([covariance(run.squares(i), y[i]) for i in range(run.n_networks)]).abs()
        for (a, alpha), (i, each) in product(enumerate(penalties), enumerate(start.seeds)):
            mask = kept[a, i]
            others = {
                "covariance": products[i] > alpha,
                "energy": _largest(energy[i], int(mask.sum())),
                "permuted": permuted[a, i],
                "random": mask,  # for its size
            }
            for name, other in others.items():
                found = agreement(mask, other)
                if name == "random":
                    found |= {"jaccard": found["chance"], "removed_jaccard": found["removed_chance"]}
                rows.append(
                    {"seed": each, "target": target, "alpha": alpha, "other": name}
                    | {"sparsity": _sparsity(mask), "other_sparsity": _sparsity(other)}
                    | found
                )
    return pd.DataFrame(rows)


def _check_targets(targets: Sequence[str]) -> None:
    known = (*_TARGETS, "full_loss")
    if not targets or not {*targets} <= {*known}:
        raise ValueError(f"targets are some of {', '.join(known)}; got {targets!r}")


def _run(start: Start, number: int, targets: Sequence[str], n_epochs: int | None) -> Trace:
    r"""Log SGD from $\theta_0$ on batches in an order that belongs to the run's number."""
    setting = start.setting
    return log_trace(
        start.ensemble,
        start.datasets,
        learning_rate=setting.logging_rate,
        n_epochs=setting.logging_epochs if n_epochs is None else n_epochs,
        batch_size=setting.batch_size,
        seeds=[derived_seed(seed, 0, number) for seed in start.seeds],
        full_loss="full_loss" in targets,
    )


def _two_runs(start: Start, targets: Sequence[str], n_epochs: int | None) -> tuple[Trace, Trace]:
    return _run(start, 0, targets, n_epochs), _run(start, 1, targets, n_epochs)


def _slope(x: Tensor, y: Tensor) -> Tensor:
    """Return the slope of y on x, both ``(T,)``, through the origin."""
    return (x @ y) / (x @ x)


def _lasso_predictions(x: Tensor, y: Tensor, new: Tensor, penalties: Sequence[float]) -> Tensor:
    return y.mean() + lasso(x, y, penalties, tolerance=1e-5) @ (new - x.mean(dim=0)).mT


def _ridge_predictions(x: Tensor, y: Tensor, new: Tensor, penalties: Sequence[float]) -> Tensor:
    return ridge(x, y, penalties) @ new.mT


def _tuned(
    predictions: Callable[[Tensor, Tensor, Tensor, Sequence[float]], Tensor],
    x: Tensor,
    y: Tensor,
    new: Tensor,
    penalties: Sequence[float],
) -> tuple[float, Tensor]:
    """Return the penalty that predicts the last quarter of rows best, and what it predicts for new rows."""
    cut = max(1, 3 * len(y) // 4)
    errors = (predictions(x[:cut], y[:cut], x[cut:], penalties) - y[cut:]).square().sum(dim=1)
    best = penalties[int(errors.argmin())]
    return best, predictions(x, y, new, [best])[0]


def _authors_masks(run: Trace, y: Tensor, penalties: Sequence[float]) -> Tensor:
    """Where TG_LASSO, a regression a layer, leaves coefficients: ``(A, S, p)`` for loss changes ``(S, T)``."""
    kept = torch.empty(len(penalties), run.n_networks, run.n_weights, dtype=torch.bool)
    for i, (layer, columns) in product(range(run.n_networks), run.layers.items()):
        kept[:, i, columns] = tg_lasso(run.squares(i, layer), y[i], penalties).kept
    return kept


def _largest(scores: Tensor, n: int) -> Tensor:
    """Mark the n largest of ``(p,)``."""
    return keep_highest(scores, len(scores) - n)


def _sparsity(mask: Tensor) -> float:
    return 1 - float(mask.double().mean())
