"""One-shot pruning: remove the smallest weights of trained networks everywhere at once, and train no more."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from repro.learn import Ensemble, evaluate
from repro.papers.implicit_sparsification.fitting import Fit
from repro.prune import Mask, select
from repro.prune.scores import prunable

__all__ = [
    "HIGH_SPARSITIES",
    "PAPER_SPARSITIES",
    "SPARSITIES",
    "advantage",
    "chosen_by_validation",
    "pruned_accuracy",
    "sign_flips",
]

HIGH_SPARSITIES: tuple[float, ...] = (0.95, 0.98, 0.99, 0.995)
"""Where the small networks are compared: at less, all methods do equally well."""

SPARSITIES: tuple[float, ...] = (0.0, 0.5, 0.8, 0.9, *HIGH_SPARSITIES)

PAPER_SPARSITIES: tuple[float, ...] = tuple(1 - 0.8**k for k in range(1, 26))
"""The paper's levels, 20 % to 99.6 %."""


def pruned_accuracy(fit: Fit, sparsities: Sequence[float]) -> pd.DataFrame:
    r"""Accuracy after the $\lfloor p\,n\rfloor$ smallest of all n weights are set to zero, without fine-tuning.

    Weights are ranked by $|x|$ over the whole network; biases and normalization stay.

    Args:
        fit: trained networks.
        sparsities: fractions p to remove.

    Returns:
        One row a network and sparsity: method, strength, seed, sparsity, validation_accuracy, test_accuracy
        (fractions; the validation column is NaN where there is no such part).

    Raises:
        ValueError: a sparsity outside [0, 1].
    """
    names = list(prunable(fit.networks.member(0)))
    frames = []
    masks = {p: _smallest(fit, names, p) for p in sparsities}
    for sparsity, mask in masks.items():
        pruned = Ensemble(list(fit.networks))
        mask.apply(pruned)
        columns = {
            f"{part}_accuracy": _accuracy(fit, pruned, part).tolist() for part in ("validation", "test")
        }
        frames.append(fit.members.assign(sparsity=sparsity, **columns))
    return pd.concat(frames, ignore_index=True)


def _smallest(fit: Fit, names: Sequence[str], sparsity: float) -> Mask:
    scores = {name: fit.networks.parameters[name].detach().abs().nan_to_num(0.0) for name in names}
    members = range(len(fit.networks))
    return Mask.stack([select({n: s[i] for n, s in scores.items()}, sparsity=sparsity) for i in members])


def _accuracy(fit: Fit, networks: Ensemble, part: str) -> Tensor:
    """Accuracies ``(A S,)`` on a part of each network's own data."""
    repeats = len(fit.strengths)
    x, y = getattr(fit.datasets[0], f"x_{part}"), getattr(fit.datasets[0], f"y_{part}")
    if not len(y):
        return torch.full((len(networks),), torch.nan, dtype=torch.float64)
    if len(fit.datasets) > 1:
        x = torch.stack([getattr(d, f"x_{part}") for d in fit.datasets] * repeats)
        y = torch.stack([getattr(d, f"y_{part}") for d in fit.datasets] * repeats)
        return evaluate(networks, x, y, per_member=True)[1]
    return evaluate(networks, x, y)[1]


def chosen_by_validation(frame: pd.DataFrame) -> pd.DataFrame:
    """For each method and sparsity, the rows of the strength with the highest mean validation accuracy.

    The mean is over seeds, so that one strength serves all; of equal means the smaller strength is taken. A
    strength at which a seed has no accuracy, because its training diverged, comes last. The test set has no say.

    Args:
        frame: rows of ``pruned_accuracy``, of any number of methods.

    Returns:
        The rows that remain, in the order they had.

    Raises:
        ValueError: no validation accuracy in any row.
    """
    keys = ["method", "sparsity", "strength"]
    if frame["validation_accuracy"].isna().all():
        raise ValueError("no row has a validation accuracy to choose by; the setting needs a validation part")
    accuracies = frame.groupby(keys)["validation_accuracy"]
    complete = accuracies.mean().where(accuracies.count() == accuracies.size())
    means = complete.round(12).reset_index()  # rounding errors are no differences
    best = means.sort_values(["validation_accuracy", "strength"], ascending=[False, True])
    return frame.merge(best.drop_duplicates(["method", "sparsity"])[keys], on=keys)


def advantage(
    chosen: pd.DataFrame, method: str, against: str, sparsities: Sequence[float] = HIGH_SPARSITIES
) -> pd.Series:
    """Test accuracy of one method minus that of another, averaged over sparsities, in percentage points.

    Args:
        chosen: of ``chosen_by_validation``: one strength a method and sparsity.
        method, against: names of methods.
        sparsities: levels that the table has.

    Returns:
        One number a seed.

    Raises:
        ValueError: a method or a level that the table lacks.
    """
    means = []
    for name in (method, against):
        rows = chosen[(chosen["method"] == name) & chosen["sparsity"].isin(list(sparsities))]
        if lacking := set(sparsities) - set(rows["sparsity"]):
            raise ValueError(f"the table has no rows of {name!r} at sparsity {min(lacking)}")
        means.append(100 * rows.groupby("seed")["test_accuracy"].mean())
    return means[0] - means[1]


def sign_flips(fit: Fit, top: float = 0.05) -> pd.DataFrame:
    r"""Share of the largest weights whose sign is opposite to the one they started with.

    A weight that is exactly 0, at the start or at the end, has not flipped.

    Args:
        fit: trained networks.
        top: which share of the weights, by $|x|$ at the end, to look at.

    Returns:
        One row a network: method, strength, seed, flips.

    Raises:
        ValueError: a share that is not above 0 and at most 1.
    """
    if not 0 < top <= 1:
        raise ValueError(f"top is a share of the weights, above 0 and at most 1; got {top!r}")
    size = len(fit.networks)
    names = list(prunable(fit.networks.member(0)))
    final = torch.cat([fit.networks.parameters[name].detach().view(size, -1) for name in names], dim=1)
    first = torch.cat([fit.start[name].view(size, -1) for name in names], dim=1)
    n_top = max(1, round(top * final.shape[1]))
    largest = final.abs().topk(n_top, dim=1).indices
    flipped = final.gather(1, largest).sign() * first.gather(1, largest).sign() < 0
    return fit.members.assign(flips=flipped.double().mean(dim=1).tolist())
