"""From tables to one number a seed. A method that was not run gives an empty list, which is not tested."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from repro.base import t_interval
from repro.head_to_head.experiments import Run, pruned
from repro.head_to_head.methods import Method
from repro.head_to_head.tasks import Task

_Array = NDArray[np.float64]
_PAIRS = ["first", "second", "seed", "beyond"]
_NOTHING: _Array = np.empty(0)


@dataclass(frozen=True)
class Compared:
    """What a comparison found; methods go by their labels.

    Attributes:
        accuracy: as in ``experiments.Run``, of all methods.
        overlap: one row a pair of methods and seed: first, second, seed, beyond.
        costs: one row a method: a network's share of seconds until the masks are there (``before``) and after, and
            the multiply-adds that are ``left`` at 95 % sparsity ``of`` all.
    """

    accuracy: pd.DataFrame
    overlap: pd.DataFrame
    costs: pd.DataFrame


def together(runs: Iterable[Run]) -> Compared:
    r"""Put runs of several methods on the same seeds together, and compare their masks within layers l.

    $$\text{beyond} = \frac{\sum_l|A_l\cap B_l|-\sum_la_lb_l/n_l}{\sum_l\min(a_l,b_l)-\sum_la_lb_l/n_l}$$

    with $a_l=|A_l|$ and $b_l=|B_l|$ of $n_l$ weights: 0 as by chance, 1 for the largest overlap that there can be.
    """
    known = {run.accuracy["method"].iloc[0]: run for run in runs}
    spent = [(*run.seconds, *run.multiply_adds) for run in known.values()]
    costs = pd.DataFrame(spent, list(known), ["before", "after", "left", "of"])
    rows = []
    for first, second in combinations(known, 2):
        a, b = known[first].mask, known[second].mask
        beyond = _beyond_chance([(a[name].flatten(1).numpy(), b[name].flatten(1).numpy()) for name in a])
        seeds = known[first].accuracy["seed"].unique()
        rows.append(pd.DataFrame(dict(zip(_PAIRS, (first, second, seeds, beyond), strict=True))))
    overlaps = pd.concat([pd.DataFrame(columns=_PAIRS), *rows], ignore_index=True).astype({"beyond": float})
    return Compared(pd.concat([run.accuracy for run in known.values()], ignore_index=True), overlaps, costs)


def _beyond_chance(layers: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> _Array:
    both = sum((a & b).sum(axis=1) for a, b in layers)
    chance = sum(a.sum(axis=1) * b.mean(axis=1) for a, b in layers)
    most = sum(np.minimum(a.sum(axis=1), b.sum(axis=1)) for a, b in layers)
    return np.asarray((both - chance) / (most - chance))


def compare(methods: Iterable[Method], task: Task, seeds: Sequence[int]) -> Compared:
    """Compare methods on a task: all that a comparison of one's own needs; the arguments are those of ``pruned``."""
    return together(pruned(method, task, seeds) for method in methods)


def _points(accuracy: pd.DataFrame, sparsity: float, shuffled: bool = False) -> pd.DataFrame:
    """Test accuracies in points at one sparsity: a row a seed, a column a method."""
    rows = accuracy[(accuracy["sparsity"] == sparsity) & (accuracy["shuffled"] == shuffled)]
    return 100 * rows.pivot(index="seed", columns="method", values="test_accuracy")


def gain(accuracy: pd.DataFrame, first: str, second: str, sparsity: float) -> _Array:
    """Test accuracy of the first method minus that of the second, in points, a value a seed."""
    points = _points(accuracy, sparsity)
    if not {first, second} <= set(points):
        return _NOTHING
    return (points[first] - points[second]).to_numpy()


def beyond_its_layers(accuracy: pd.DataFrame, method: str, sparsity: float) -> _Array:
    """Test accuracy minus that with the mask shuffled within layers, in points, a value a seed."""
    own, other = _points(accuracy, sparsity), _points(accuracy, sparsity, shuffled=True)
    if method not in other:
        return _NOTHING
    return (own[method] - other[method]).to_numpy()


def overlap(table: pd.DataFrame, first: str, second: str) -> _Array:
    """How far two masks agree within layers, 0 as by chance and 1 as far as can be, a value a seed."""
    pair = table["first"].isin([first, second]) & table["second"].isin([first, second])
    return table[pair]["beyond"].to_numpy()


def flat_and_good(accuracy: pd.DataFrame, sparsity: float) -> _Array:
    r"""Rank correlation over methods of noise sensitivity with test accuracy, given the training loss, a value a seed.

    $\rho_{xy\cdot z}=\frac{\rho_{xy}-\rho_{xz}\rho_{yz}}{\sqrt{(1-\rho_{xz}^2)(1-\rho_{yz}^2)}}$ of ranks: negative
    where, of networks that fit their training data equally well, the flatter ones are the better ones. Three methods or
    fewer give nothing.
    """
    rows = accuracy[(accuracy["sparsity"] == sparsity) & ~accuracy["shuffled"]].dropna(subset="noise")
    found = []
    for _, own in rows.groupby("seed"):
        if len(own) > 3:
            r = np.corrcoef([rankdata(own[name]) for name in ("noise", "test_accuracy", "train_loss")])
            rest = np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
            found.append((r[0, 1] - r[0, 2] * r[1, 2]) / rest if rest > 0 else 0.0)
    return np.array(found)


def rank_agreement(first: pd.DataFrame, second: pd.DataFrame, sparsity: float) -> _Array:
    """Spearman's rank correlation of the methods' test accuracies on two tasks, a value for each pair of seeds."""
    here, there = (_points(table, sparsity) for table in (first, second))
    both = [name for name in here if name in there]
    if len(both) < 3:
        return _NOTHING
    pairs = zip(here[both].to_numpy(), there[both].to_numpy(), strict=False)
    return np.array([np.corrcoef(rankdata(a), rankdata(b))[0, 1] for a, b in pairs])


def _reach(accuracy: pd.DataFrame) -> pd.Series:
    """The highest sparsity at which the mean test accuracy is within a point of dense training's, by method.

    Dense is magnitude pruning that prunes nothing, where it was run, and otherwise the best that was run.
    """
    own = accuracy[~accuracy["shuffled"]].groupby(["sparsity", "method"])["test_accuracy"]
    means = 100 * own.mean().unstack()
    dense = means.loc[0.0].get("magnitude", means.loc[0.0].max())
    within = means >= dense - 1
    return within.apply(lambda own: own.index[own].max() if own.any() else 0.0)


def in_one_table(compared: Compared, sparsities: Sequence[float] = (0.9, 0.95, 0.99)) -> pd.DataFrame:
    """All methods, the best at the middle sparsity first: accuracies with 95 % intervals, their reach, costs."""
    points = {p: _points(compared.accuracy, p) for p in sparsities}
    order = points[sparsities[len(sparsities) // 2]].mean().sort_values(ascending=False).index
    table = pd.DataFrame(index=order)
    for p, values in points.items():
        intervals = [t_interval(values[name].tolist()) for name in order]
        table[f"at {100 * p:g} %"] = [f"{i.estimate:.1f} [{i.low:.1f}, {i.high:.1f}]" for i in intervals]
    table["within a point up to"] = (100 * _reach(compared.accuracy)[order]).map("{:g} %".format)
    for column, heading in (("before", "seconds to the mask"), ("after", "seconds after it")):
        table[heading] = compared.costs.loc[order, column].map("{:.2f}".format)
    left, whole = compared.costs.loc[order, "left"], compared.costs["of"].iloc[0]
    table[f"multiply-adds at 95 %, of {whole:,.0f}"] = left.map("{:,.0f}".format)
    return table.rename_axis(None)


def in_words(accuracy: pd.DataFrame, sparsity: float) -> dict[str, float]:
    """Mean test accuracy in percent, by a word that a sentence can hold; empty unless all its methods were run."""
    names = {"magnitude": "magnitude", "causal": "causal", "chaos": "chaos-causality", "ewn": "EWN"}
    names |= {"pilot": "PILoT", "l1": "L1"}
    found = _points(accuracy, sparsity).mean()
    there = set(names.values()) <= set(found.index)
    return {word: float(found[name]) for word, name in names.items()} if there else {}
