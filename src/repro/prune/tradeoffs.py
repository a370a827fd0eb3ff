"""Accuracy against sparsity: measured for each seed, with intervals over seeds."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from math import isfinite
from operator import and_

import pandas as pd
from torch import Tensor, nn

from repro.base import t_interval, unknown
from repro.prune._checks import one_network
from repro.prune.costs import costs, parameter_counts
from repro.prune.masks import Mask
from repro.prune.selection import select
from repro.prune.units import select_units, unit_mask

__all__ = ["paired_difference", "prune_and_measure", "summarize"]


def prune_and_measure(
    model: nn.Module,
    scores: Mapping[str, Tensor],
    sparsities: Sequence[float],
    evaluate: Callable[[nn.Module], float],
    *,
    method: str,
    seed: int,
    scope: str = "global",
    retrain: Callable[[nn.Module, Mask], object] | None = None,
    input_shape: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Prune copies of one network to each sparsity and measure them; the network itself stays as it is.

    Args:
        model: the network, without parametrised layers (fold them first).
        scores: one a weight, by parameter name (scope global or layer; see ``selection.select``), or one a
            unit, ``(n_units,)`` by layer name (scope units; see ``units.unit_mask``).
        sparsities: fractions to remove; with scope units, of the units of every layer named.
        evaluate: returns the accuracy of a network; in which mode and on which data is its affair.
        method: name of the method, for the column.
        seed: seed that the network was trained with, for the column.
        scope: ``"global"``, ``"layer"`` or ``"units"``.
        retrain: called with the pruned copy and its mask before it is measured; must hold the mask
            (``after_step=[mask]``). By default there is no training after pruning.
        input_shape: shape of one example, for the multiply-adds.

    Returns:
        One row a sparsity: method, seed, sparsity (as asked for), accuracy, n_parameters (left),
        multiply_adds (left, for one example; missing without ``input_shape``).

    Raises:
        ValueError: a bad sparsity or score, all before anything is measured; an accuracy that is not finite;
            or retraining that brought pruned weights back.
    """
    one_network(model)
    if scope not in ("global", "layer", "units"):
        raise ValueError(f"scope must be 'global', 'layer' or 'units', got {scope!r}")
    if not scores or not len(sparsities):
        raise ValueError(f"a curve needs scores and sparsities; got {len(scores)} and {len(sparsities)}")
    masks = {}
    for sparsity in sparsities:
        if scope == "units":
            layers = (unit_mask(model, name, select_units(s, sparsity)) for name, s in scores.items())
            mask = reduce(and_, layers)
        else:
            mask = select(scores, sparsity=sparsity, scope=scope)
        masks[round(float(sparsity), 12)] = mask  # so that 0.1 + 0.2 and 0.3 are one sparsity
        mask.check(model)
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
        accuracy = float(evaluate(pruned))
        if not isfinite(accuracy):
            raise ValueError(f"evaluate must return a finite number; got {accuracy} at sparsity {sparsity}")
        _, n_parameters = parameter_counts(pruned, mask)
        multiply_adds = (
            costs(pruned, input_shape, mask).multiply_adds_kept if input_shape is not None else pd.NA
        )
        rows.append((method, seed, sparsity, accuracy, n_parameters, multiply_adds))
    columns = ["method", "seed", "sparsity", "accuracy", "n_parameters", "multiply_adds"]
    return pd.DataFrame(rows, columns=columns).astype({"multiply_adds": "Int64"})


def summarize(frame: pd.DataFrame, *, value: str = "accuracy", level: float = 0.95) -> pd.DataFrame:
    r"""Return mean and Student's interval over seeds for each method and sparsity.

    Args:
        frame: rows of ``prune_and_measure``, of any number of methods and seeds.
        value: column to summarize.
        level: confidence level.

    Returns:
        Columns method, sparsity, mean, low, high, n_seeds. Of one seed, the interval is the whole line.

    Raises:
        ValueError: a column or a value is missing or no number, or one method has one seed twice at one sparsity.
    """
    _check_frame(frame, value)
    groups = frame.groupby(["method", "sparsity"], sort=False)[value]
    return pd.DataFrame([{"method": m, "sparsity": s} | _row(v, level) for (m, s), v in groups])


def paired_difference(
    frame: pd.DataFrame, method: str, against: str, *, value: str = "accuracy", level: float = 0.95
) -> pd.DataFrame:
    r"""Return the mean of ``method`` minus ``against`` at equal sparsity, $d_s = a_s - b_s$ for each seed s.

    What two networks of one seed share (data, initialization) cancels: not to be confused with the difference
    of two intervals of ``summarize``.

    Args:
        frame: rows of ``prune_and_measure``.
        method: name of the one method.
        against: name of the other.
        value: column to compare.
        level: confidence level.

    Returns:
        Columns sparsity, mean, low, high, n_seeds.

    Raises:
        ValueError: an unknown method, a missing column, or seeds and sparsities that only one of the two has.
    """
    _check_frame(frame, value)
    sides = []
    for name in (method, against):
        rows = frame[frame["method"] == name]
        if rows.empty:
            raise ValueError(unknown("method", name, frame["method"].unique()))
        sides.append(rows.set_index(["sparsity", "seed"])[value])
    if len(alone := sides[0].index.symmetric_difference(sides[1].index)):
        sparsity, seed = alone[0]
        raise ValueError(
            f"{method!r} and {against!r} must share seeds and sparsities; {len(alone)} stand alone, "
            f"the first is seed {seed} at sparsity {sparsity}"
        )
    groups = (sides[0] - sides[1]).groupby("sparsity")  # pandas pairs by the index
    return pd.DataFrame([{"sparsity": sparsity} | _row(v, level) for sparsity, v in groups])


def _row(values: pd.Series, level: float) -> dict[str, float]:
    interval = t_interval(values.to_numpy(dtype="float64"), level)
    return {"mean": interval.estimate, "low": interval.low, "high": interval.high, "n_seeds": len(values)}


def _check_frame(frame: pd.DataFrame, value: str) -> None:
    for column in ("method", "seed", "sparsity", value):
        if column not in frame:
            raise ValueError(f"the frame lacks a column: {unknown('column', column, frame.columns)}")
    if not pd.api.types.is_numeric_dtype(frame[value]):
        raise ValueError(f"column {value!r} must hold numbers, got {frame[value].dtype}")
    for column in ("method", "seed", "sparsity"):
        if n := int(frame[column].isna().sum()):
            raise ValueError(f"{n} rows have no {column}; each must have a method, a seed and a sparsity")
    twice = frame[frame.duplicated(["method", "seed", "sparsity"])]
    if len(twice):
        row = twice.iloc[0]
        raise ValueError(
            f"{row['method']!r} has seed {row['seed']} twice at sparsity {row['sparsity']}; "
            "rows that are not independent would make the interval too narrow"
        )
