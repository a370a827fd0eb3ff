"""One-shot pruning at the paper's scale: part by part in order of worth, resumable, within a time that is given."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from repro.base import Runs
from repro.learn import DataNotFoundError, TrainingDivergedError
from repro.papers.implicit_sparsification.method import METHODS, Choice, _Method
from repro.papers.implicit_sparsification.settings import _SETTINGS, _Setting
from repro.papers.implicit_sparsification.training import _fit

_SPARSITIES: tuple[float, ...] = tuple(1 - 0.8**k for k in range(26))
"""The paper's levels, 20 % to 99.6 %, and 0."""

_PLACES = ("resnet20-cifar10", "lenet-mnist", "lenet-fashion")

_GRID: dict[str, tuple[Choice, ...]] = {
    "x": tuple(Choice(5e-5, rate=rate) for rate in (0.1, 0.2, 0.4)),
    "mw": tuple(Choice(0.0, rate=rate) for rate in (0.1, 0.2, 0.4)),
    "pilot_algorithm": tuple(Choice(a, "algorithm 1", 0.2, 15.0) for a in (3e-5, 1e-4, 3e-4)),
    "l1_x": tuple(Choice(a, rate=0.1) for a in (5e-5, 1.5e-4, 5e-4)),
    "spred": tuple(Choice(a, rate=0.2) for a in (1e-4, 3e-4, 1e-3)),
    "str": tuple(Choice(a, rate=0.1) for a in (3e-5, 1e-4, 3e-4)),
}
"""Three choices a method. Strengths of L1 are the paper's, $\\lambda=2\\alpha$ of 1e-4 and 1e-3, and one between; those
of spred are its first version's for PILoT; those of algorithm 1 and STR, which it does not give, are our own."""


def at_scale(seeds: Sequence[int], folder: str | Path, seconds: float) -> pd.DataFrame:
    r"""Train and prune the paper's networks: ResNet-20 on CIFAR-10, seed by seed, then LeNets on both MNISTs.

    A part is one network; every finished part is kept in a file of the folder and read back by the next call. A part is
    not begun when it is likely to end too late: so a call ends by itself, and another one goes on. On a GPU in mixed
    precision.

    Args:
        seeds: of the networks, those of most worth first.
        folder: where the files are; made if it is not there.
        seconds: for all that is not finished yet.

    Returns:
        One row a network and sparsity that are there, none if there are none: setting, method, the fields of its
        choice, seed, sparsity, and validation_accuracy, test_accuracy, zeros and flips, as ``training._fit`` has them,
        diverged (the other numbers are NaN then). Data that are not on this machine are left out.

    Raises:
        ValueError: a file in the folder was made with other settings.
    """
    runs, tables, end, longest = Runs(Path(folder)), [], time.perf_counter() + seconds, 0.0
    tried = [(method, choice) for method, choices in _GRID.items() for choice in choices]
    # a seed is of use when every method has it
    for place, seed, (method, choice) in product(_PLACES, seeds, tried):
        where, how = _SETTINGS[place], METHODS[method]
        run = "-".join([place, method, *(f"{value}" for value in choice), str(seed)]).replace(" ", "-")
        made_with = {"sparsities": _SPARSITIES} | _told(where) | _told(how)
        rows = runs.get(run, made_with)
        if rows is None and time.perf_counter() + longest < end:
            began = time.perf_counter()
            with suppress(DataNotFoundError):
                rows = _trained(where, how, choice, seed)
                longest = max(longest, time.perf_counter() - began)
                runs.put(run, made_with, rows, seconds=round(time.perf_counter() - began, 1))
        if rows is not None:
            tables.append(pd.DataFrame(rows).assign(setting=place, method=method))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _told(values: _Setting | _Method) -> dict[str, Any]:
    """What a setting or method says in words and numbers; its functions follow from its name."""
    return {key: value for key, value in vars(values).items() if not callable(value) and key != "choices"}


def _trained(where: _Setting, how: _Method, choice: Choice, seed: int) -> list[dict[str, Any]]:
    """The rows of a network; of one that diverged without numbers."""
    try:
        done = _fit(where, how, [choice], seeds=[seed], mixed_precision=torch.cuda.is_available())
    except TrainingDivergedError:
        return [choice._asdict() | {"seed": seed, "sparsity": p, "diverged": True} for p in _SPARSITIES]
    table = done.pruned_accuracy(_SPARSITIES).assign(diverged=False)
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
