"""The comparison: every method on the same seeds with the same number of epochs, and its tuning on other seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch

from repro.base import one_of
from repro.head_to_head.methods import METHODS, Budget, Candidates, Method
from repro.head_to_head.tasks import TASKS, Task
from repro.learn import Dataset, Ensemble, TrainingDivergedError, evaluate, stacked
from repro.papers.granger_causal_sgd.curvature import noise_sensitivity
from repro.prune import Mask, costs

_NOISE = 0.2  # of the weights that are left, relative to their size
_TUNED_AT = (0.9, 0.95, 0.99)
_N_TRIES = 8  # where tuning walks
_OVERLAP_AT = 0.95  # the sparsity whose masks are compared
_LATER = 1000  # added to the seed of the order of batches, after the mask


@dataclass(frozen=True)
class Run:
    """One method on one task.

    Attributes:
        accuracy: one row a seed, sparsity and kind of mask: task, method, shuffled (whether the mask was shuffled
            within layers), seed, sparsity, validation_accuracy, test_accuracy, train_loss, and ``noise``: the rise of
            the training loss under noise on the weights that are left (NaN where not asked for).
        mask: at the sparsity at which masks are compared, ``(S, *shape)``.
        seconds: a network's share until the masks are there, and after.
        multiply_adds: for one example: those of the weights in ``mask``, a mean over seeds, and of all.
    """

    accuracy: pd.DataFrame
    mask: Mask
    seconds: tuple[float, float]
    multiply_adds: tuple[float, int]


def pruned(
    method: str | Method,
    task: str | Task,
    seeds: Sequence[int],
    *,
    n_epochs: int | None = None,
    shuffled: bool = False,
    tried: tuple[float, float] | None = None,
    flat_at: Sequence[float] = (),
) -> Run:
    """Prune with a method at each sparsity, train on with the mask held, measure.

    Args:
        method: a name in ``METHODS``, or one of one's own.
        task: a name in ``TASKS``, or one of one's own: data, network, epochs, sparsities.
        seeds: of splits, initial weights and orders of batches: the same for all methods.
        n_epochs: None for the task's.
        shuffled: whether the masks are also shuffled within each layer, at the weights where they are: what is left of
            a criterion then is how many weights it keeps in which layer.
        tried: learning rate and knob; by default those that were tuned for the task, or for digits (``tuned.csv``), and
            0.1 with the middle knob for methods that were never tuned.
        flat_at: sparsities at which ``noise`` is measured.

    Raises:
        TrainingDivergedError: all networks diverged. One that does has the accuracy of chance.
    """
    how = _method(method)
    where = task if isinstance(task, Task) else TASKS[one_of("task", task, TASKS)]
    rate, knob = tried or _choice(how, where.name)
    networks, datasets = where.draw(seeds)
    budget = Budget(n_epochs or where.n_epochs, where.batch_size, rate, knob, tuple(seeds))
    began = perf_counter()
    candidates = how.prune(networks, datasets, budget, where.sparsities)
    chosen = perf_counter()
    left = budget.n_epochs - (0 if how.before_training else budget.n_epochs // 2)
    tables = [_trained_on(candidates, datasets, budget, left, flat_at).assign(shuffled=False)]
    ended = perf_counter()
    if shuffled:
        other = {p: (nets, _shuffled(mask, seeds)) for p, (nets, mask) in candidates.items() if p > 0}
        tables.append(_trained_on(other, datasets, budget, left, ()).assign(shuffled=True))
    accuracy = pd.concat(tables, ignore_index=True).assign(task=where.name, method=how.label)
    _, mask = candidates[min(candidates, key=lambda p: abs(p - _OVERLAP_AT))]
    seconds = ((chosen - began) / len(seeds), (ended - chosen) / len(seeds))
    shape, members = datasets[0].x_train.shape[1:], list(networks)
    spent = [costs(each, shape, Mask({n: mask[n][i] for n in mask})) for i, each in enumerate(members)]
    left_over = float(np.mean([each.multiply_adds_kept for each in spent]))
    return Run(accuracy, mask, seconds, (left_over, spent[0].multiply_adds))


def _method(given: str | Method) -> Method:
    return given if isinstance(given, Method) else METHODS[one_of("method", given, METHODS)]


def _trained_on(
    candidates: Candidates,
    datasets: Sequence[Dataset],
    budget: Budget,
    n_epochs: int,
    flat_at: Sequence[float],
) -> pd.DataFrame:
    """Train all candidates at once with their masks held, K sparsities of S networks, and measure."""
    rows = []
    seeds = tuple(_LATER + seed for seed in budget.seeds)
    together = Ensemble([member for networks, _ in candidates.values() for member in networks])
    mask, data = Mask.joined([own for _, own in candidates.values()]), list(datasets) * len(candidates)
    mask.apply(together)
    later = replace(budget, seeds=seeds * len(candidates))
    networks = later.train(together, data, n_epochs, after_step=[mask])
    found: dict[str, Any] = {}
    for part in ("validation", "test"):
        found[f"{part}_accuracy"] = evaluate(networks, *stacked(data, part), per_member=True)[1]
    found["train_loss"] = evaluate(networks, *stacked(data, "train"), per_member=True)[0]
    for i, p in enumerate(candidates):
        some = slice(i * len(seeds), (i + 1) * len(seeds))
        noise: Any = np.nan
        if p in flat_at:
            members = Ensemble(list(networks)[some])
            kept = {name: mask[name][some] for name in mask}
            noise = noise_sensitivity(members, *stacked(datasets, "train"), _NOISE, kept).numpy()
        row = {"seed": budget.seeds, "sparsity": p, "noise": noise}
        rows.append(pd.DataFrame(row | {name: values[some].numpy() for name, values in found.items()}))
    return pd.concat(rows, ignore_index=True)


def _shuffled(mask: Mask, seeds: Sequence[int]) -> Mask:
    """The same number of weights in each layer, at random places."""
    kept = {}
    for position, name in enumerate(mask):
        draws = [torch.Generator().manual_seed(len(mask) * seed + position) for seed in seeds]
        flat = zip((entries := mask[name]).flatten(1), draws, strict=True)
        moved = torch.stack([own[torch.randperm(len(own), generator=draw)] for own, draw in flat])
        kept[name] = moved.view_as(entries)
    return Mask(kept)


# --- tuning -----------------------------------------------------------------------------------------------------------


def tuning(methods: Iterable[str | Method], task: str, seeds: Sequence[int]) -> pd.DataFrame:
    """Try choices of each method on the same seeds; the best has the highest mean validation accuracy.

    The mean is over seeds and over sparsities of 90, 95 and 99 %: one choice serves them all. A method's thirty-two
    choices are tried, or, where a task has a ``first_rate`` because its runs take minutes, eight at most: a walk that
    doubles or halves the rate or moves the knob by its stride and goes on from whatever is better. It begins at the
    choice in ``tuned.csv``, or else at that rate and the method's first knob. What stands in ``tuned.csv`` was chosen
    on planning seeds (0, 1 and 2 for the LeNets; 0 alone for two methods that the chapter names), none of which judges.

    Returns:
        One row a method: task, method, rate, knob, validation_accuracy, and ``edge``: which of the two lies at the end
        of its grid, or has a neighbor on the walk that was not tried.
    """
    rows, where = [], replace(TASKS[one_of("task", task, TASKS)], sparsities=_TUNED_AT)

    def score(method: Method, one: tuple[float, float]) -> float:
        try:
            return float(pruned(method, where, seeds, tried=one).accuracy["validation_accuracy"].mean())
        except TrainingDivergedError:
            return 0.0

    for given in methods:
        method = _method(given)
        found = _walk(method, where, score) if where.first_rate else _whole_grid(method, score)
        rows.append((task, method.label, *found))
    return pd.DataFrame(rows, columns=["task", "method", "rate", "knob", "validation_accuracy", "edge"])


_Score = Callable[[Method, tuple[float, float]], float]
_Found = tuple[float, float, float, str]


def _whole_grid(method: Method, score: _Score) -> _Found:
    tried = {one: score(method, one) for one in method.choices}
    best = max(tried, key=lambda one: tried[one])
    grid = pd.DataFrame(method.choices, columns=["rate", "knob"])
    ends = {name: (values.min(), values.max()) for name, values in grid.items() if values.nunique() > 1}
    edge = [str(name) for name, end in ends.items() if best[grid.columns.get_loc(name)] in end]
    return *best, tried[best], " ".join(edge)


def _walk(method: Method, task: Task, score: _Score) -> _Found:
    """Up or down along one coordinate; a step that helps is tried again first."""
    steps = {"rate": [(2.0, 1.0), (0.5, 1.0)], "knob": [(1.0, method.stride), (1.0, 1 / method.stride)]}
    ways = [
        (name, step) for name, both in steps.items() for step in both if name == "rate" or any(method.knobs)
    ]
    best = _tuned(method, task.name) or (task.first_rate or 0.1, method.knobs[0])
    tried = {best: score(method, best)}

    def untried() -> list[tuple[str, tuple[float, float], tuple[float, float]]]:
        near = [(name, step, (best[0] * step[0], best[1] * step[1])) for name, step in ways]
        return [each for each in near if each[2] not in tried]

    while len(tried) < _N_TRIES and (left := untried()):
        name, step, one = left[0]
        tried[one] = score(method, one)
        if tried[one] > tried[best]:
            best = one
            ways.remove((name, step))
            ways.insert(0, (name, step))
    return *best, tried[best], " ".join(dict.fromkeys(name for name, _, _ in untried()))


def _tuned(method: Method, task: str) -> tuple[float, float] | None:
    known = pd.read_csv(Path(__file__).with_name("tuned.csv"))
    own = known[(known["task"] == task) & (known["method"] == method.label)]
    return None if own.empty else (float(own["rate"].iloc[0]), float(own["knob"].iloc[0]))


def _choice(method: Method, task: str) -> tuple[float, float]:
    """Learning rate and knob that a method was tuned to: on this task, else on digits, else the middle of its grid."""
    middle = (0.1, method.knobs[len(method.knobs) // 2])
    return _tuned(method, task) or _tuned(method, "digits") or middle


def methods_table() -> pd.DataFrame:
    """All methods: label, when masks are chosen, the knobs that are tried, and the choice on digits."""
    rows = [
        (each.label, "before" if each.before_training else "half-way", each.knobs, *_choice(each, "digits"))
        for each in METHODS.values()
    ]
    columns = ["method", "masks chosen", "knobs tried", "learning rate on digits", "knob on digits"]
    return pd.DataFrame(rows, columns=columns).set_index("method")
