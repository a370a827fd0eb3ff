"""The paper's settings, and one-shot pruning at its scale: run by run, resumable."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from repro.base import Runs, one_of
from repro.learn import TrainingDivergedError
from repro.papers.implicit_sparsification.method import METHODS, Method
from repro.papers.implicit_sparsification.settings import SETTINGS, Setting
from repro.papers.implicit_sparsification.training import fit

_SPARSITIES: tuple[float, ...] = tuple(1 - 0.8**k for k in range(26))
"""The paper's levels, 20 % to 99.6 %, and 0."""

_GRID: dict[str, tuple[float, ...]] = {
    "x": (0.0,),
    "mw": (0.0,),
    "pilot": (1e-4, 3e-4, 1e-3),
    "pilot_constant": (1e-4, 3e-4, 1e-3),
    "l1_x": (5e-5, 5e-4),
    "spred": (1e-4, 3e-4, 1e-3),
    "str": (3e-5, 1e-4, 3e-4),
    "powerprop": (2.0,),
    "continuous": (5e-5, 5e-4),
}
"""Strengths of the paper's first version; those of spred and STR, which it does not give, are our own choice.

Its L1 strengths, 1e-4 and 1e-3, are twice those of the grid: $\\lambda=2\\alpha$. It does not say that PILoT's
strength is turned off during training, which its second version does: hence both ``pilot`` and ``pilot_constant``.
"""


def full_scale_run(name: str, seeds: Sequence[int], folder: str | Path) -> pd.DataFrame:
    r"""Train and prune at one of the paper's settings, in each method that it compares; on a GPU in mixed precision.

    A run is a method and a strength, all seeds together. Each finished run is kept in a file of the folder and not
    repeated.

    Args:
        name: of a setting: ``"lenet-mnist"``, ``"lenet-fashion"``, ``"resnet20-cifar10"``.
        seeds: of the networks.
        folder: where the files are; made if it is not there.

    Returns:
        One row a network and sparsity: method, strength, seed, sparsity, validation_accuracy and test_accuracy, from 0
        to 1; of the whole run, alike in its rows: dose $A$ at the end, flips as ``Fit.sign_flips`` says, diverged (the
        other numbers are NaN then).

    Raises:
        ValueError: an unknown setting; a file in the folder was made with other seeds or settings.
        DataNotFoundError: the data are not on this machine; says how to get them.
    """
    where, runs, tables = SETTINGS[one_of("setting", name, SETTINGS)], Runs(Path(folder)), []
    for method, strengths in _GRID.items():
        made_with = {"seeds": list(seeds), "sparsities": _SPARSITIES} | _told(where) | _told(METHODS[method])
        for strength in strengths:
            run = f"{name}-{method}-{strength:g}"
            rows = runs.get(run, made_with)
            if rows is None:
                began = time.perf_counter()
                rows = _trained(where, METHODS[method], strength, seeds)
                runs.put(run, made_with, rows, seconds=round(time.perf_counter() - began, 1))
            tables.append(pd.DataFrame(rows).assign(method=method))
    return pd.concat(tables, ignore_index=True)


def _told(values: Setting | Method) -> dict[str, Any]:
    """What a setting or method says in words and numbers; its functions follow from its name."""
    return {key: value for key, value in vars(values).items() if not callable(value)}


def _trained(where: Setting, how: Method, strength: float, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The rows of a run; of networks that diverged without numbers."""
    numbers = ["validation_accuracy", "test_accuracy", "dose", "flips"]
    try:
        done = fit(where, how, [strength], seeds=seeds, mixed_precision=torch.cuda.is_available())
    except TrainingDivergedError:  # all of them
        runs = [{"strength": strength, "seed": s, "sparsity": p} for s in seeds for p in _SPARSITIES]
        return [run | dict.fromkeys(numbers, float("nan")) | {"diverged": True} for run in runs]
    doses = done.course.groupby("seed", as_index=False)["dose"].last()
    labels = done.sign_flips().merge(doses).assign(diverged=False)
    labels.loc[done.diverged, "diverged"] = True
    table = done.pruned_accuracy(_SPARSITIES).merge(labels)
    table[numbers] = table[numbers].mask(table["diverged"])
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
