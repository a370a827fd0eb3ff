"""Accuracy against sparsity: measured for each seed, with intervals over seeds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from torch import nn

from repro.base import one_of, t_interval
from repro.prune.costs import costs
from repro.prune.masks import Mask

__all__ = ["paired_difference", "prune_and_measure", "summarize"]


def prune_and_measure(
    model: nn.Module,
    masks: Mapping[float, Mask],
    evaluate: Callable[[nn.Module], float],
    input_shape: Sequence[int],
    *,
    method: str,
    seed: int,
    retrain: Callable[[nn.Module, Mask], object] | None = None,
) -> pd.DataFrame:
    """Prune copies of one network and measure them; the network itself stays as it is.

    Args:
        model: the network, without parametrised layers (fold them first).
        masks: sparsity to mask: ``{p: select(scores, sparsity=p) for p in (0.5, 0.9)}``. Curves are compared at
            equal sparsity as it is written here, whatever of it the mask removes.
        evaluate: returns the accuracy of a network; in which mode and on which data is its affair.
        input_shape: shape of one example, for the multiply-adds.
        method: name of the method, for the column.
        seed: seed that the network was trained with, for the column.
        retrain: called with the pruned copy and its mask before it is measured; must hold the mask
            (``after_step=[mask]``). By default there is no training after pruning.

    Returns:
        One row a mask: method, seed, sparsity, accuracy, n_parameters (left), multiply_adds (left, for one example).

    Raises:
        ValueError: a mask that does not fit, or retraining that brought pruned weights back.
    """
    rows = []
    for sparsity, mask in masks.items():
        pruned = copy.deepcopy(model)
        mask.apply(pruned)
        if retrain is not None:
            retrain(pruned, mask)
            if not mask.holds(pruned):
                raise ValueError(
                    "retraining brought pruned weights back; pass the mask on as after_step=[mask]"
                )
        cost = costs(pruned, input_shape, mask)
        at = round(float(sparsity), 12)  # so that 0.1 + 0.2 and 0.3 are one sparsity
        rows.append(
            (method, seed, at, float(evaluate(pruned)), cost.n_parameters_kept, cost.multiply_adds_kept)
        )
    columns = ["method", "seed", "sparsity", "accuracy", "n_parameters", "multiply_adds"]
    return pd.DataFrame(rows, columns=columns)


def summarize(frame: pd.DataFrame, value: str = "accuracy") -> pd.DataFrame:
    r"""Return mean and Student's interval over seeds for each method and sparsity.

    Args:
        frame: rows of ``prune_and_measure``, of any number of methods and seeds.
        value: column to summarize.

    Returns:
        Columns method, sparsity, mean, low, high (95 %), n_seeds. Of one seed, the interval is the whole line.

    Raises:
        ValueError: a value is no finite number, or one method has one seed twice at one sparsity.
    """
    if twice := frame.duplicated(["method", "seed", "sparsity"]).sum():
        raise ValueError(f"{twice} rows repeat method, seed and sparsity; the interval would be too narrow")
    rows = []
    for (method, sparsity), values in frame.groupby(["method", "sparsity"], sort=False)[value]:
        interval = t_interval(values.to_numpy(dtype="float64"))
        rows.append((method, sparsity, interval.estimate, interval.low, interval.high, len(values)))
    return pd.DataFrame(rows, columns=["method", "sparsity", "mean", "low", "high", "n_seeds"])


def paired_difference(
    frame: pd.DataFrame, method: str, against: str, value: str = "accuracy"
) -> pd.DataFrame:
    r"""Return the mean of ``method`` minus ``against`` at equal sparsity, $d_s = a_s - b_s$ for each seed s.

    What two networks of one seed share (data, initialization) cancels: not to be confused with the difference
    of two intervals of ``summarize``.

    Args:
        frame: rows of ``prune_and_measure``.
        method: name of the one method.
        against: name of the other.
        value: column to compare.

    Returns:
        As of ``summarize``.

    Raises:
        ValueError: an unknown method, seeds and sparsities that only one of the two has, or twice.
    """
    methods = {str(name): rows for name, rows in frame.groupby("method")}
    first, second = (
        methods[one_of("method", name, methods)].set_index(["sparsity", "seed"])[value]
        for name in (method, against)
    )
    if len(alone := first.index.symmetric_difference(second.index)):
        raise ValueError(
            f"{method!r} and {against!r} must share seeds and sparsities; {len(alone)} stand alone, "
            f"the first is seed {alone[0][1]} at sparsity {alone[0][0]}"
        )
    difference = (first - second).rename(value).reset_index()  # pandas pairs by the index
    return summarize(difference.assign(method=f"{method} - {against}"), value)
