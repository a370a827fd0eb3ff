"""The comparison: every method on the same seeds with the same number of epochs, and its tuning on other seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.head_to_head.methods import METHODS, Budget, Candidates, Method
from repro.head_to_head.tasks import Task
from repro.learn import Dataset, Ensemble, TrainingDivergedError, evaluate
from repro.learn.progress import bar
from repro.papers.granger_causal_sgd.curvature import noise_sensitivity
from repro.prune import Mask

__all__ = ["Compared", "choice", "compare", "methods_table", "tuned", "tuning"]

_NOISE = 0.2  # of the weights that are left, relative to their size
_LATER = 1000  # added to the seed of the order of batches, after the mask


@dataclass(frozen=True)
class Compared:
    """What a comparison found.

    Attributes:
        accuracy: one row a method, seed and sparsity: task, method, shuffled (whether the mask was shuffled within
            layers), seed, sparsity, validation_accuracy, test_accuracy, train_loss, and ``noise``: the rise of the
            training loss under noise on the weights that are left (NaN where not asked for).
        overlap: at one sparsity, one row a pair of methods and seed: first, second, seed, beyond: 0 for the overlap
            that the two have by chance, given how many weights each keeps of each layer, 1 for the largest possible.
        costs: one row a method: seconds a network until the masks are there, and after.
    """

    accuracy: pd.DataFrame
    overlap: pd.DataFrame
    costs: pd.DataFrame


def compare(
    methods: Mapping[str, Method],
    task: Task,
    seeds: Sequence[int],
    *,
    shuffled: Sequence[str] = (),
    choices: Mapping[str, tuple[float, float]] | None = None,
    flat_at: Sequence[float] = (),
    overlap_at: float = 0.95,
) -> Compared:
    """Prune with each method at each sparsity, train on with the mask held, measure.

    Args:
        methods: by name, ``METHODS`` or some of them, or one's own.
        task: data, network, epochs, sparsities.
        seeds: of splits, initial weights and orders of batches: the same for all methods.
        shuffled: names of methods whose masks are also shuffled within each layer, at the weights where they are: what
            is left of a criterion is then how many weights it keeps in which layer.
        choices: name to learning rate and knob; by default those that were tuned for the task (``tuned``), or for
            digits, and 0.1 with the middle knob for methods that were never tuned.
        flat_at: sparsities at which ``noise`` is measured.
        overlap_at: sparsity at which masks are compared.
    """
    accuracy, masks, costs, seeds = [], {}, [], list(seeds)
    for name, method in bar_over(methods):
        rate, knob = (choices or {}).get(name) or choice(name, method, task.name)
        networks, datasets = task.draw(seeds)
        budget = Budget(task.n_epochs, task.batch_size, rate, knob, tuple(seeds))
        began = perf_counter()
        candidates = method.prune(networks, datasets, budget, task.sparsities)
        chosen = perf_counter()
        left = task.n_epochs if method.before_training else task.n_epochs - task.n_epochs // 2
        rows = _trained_on(candidates, datasets, budget, left, flat_at)
        costs.append((task.name, name, (chosen - began) / len(seeds), (perf_counter() - chosen) / len(seeds)))
        accuracy.append(rows.assign(method=name, shuffled=False))
        masks[name] = candidates[min(candidates, key=lambda p: abs(p - overlap_at))][1]
        if name in shuffled:
            other = {p: (nets, _shuffled(mask, seeds)) for p, (nets, mask) in candidates.items() if p > 0}
            rows = _trained_on(other, datasets, budget, left, ())
            accuracy.append(rows.assign(method=name, shuffled=True))
    columns = ["task", "method", "seconds_before", "seconds_after"]
    return Compared(
        pd.concat(accuracy, ignore_index=True).assign(task=task.name),
        _overlaps(masks, seeds).assign(task=task.name),
        pd.DataFrame(costs, columns=columns),
    )


def bar_over(methods: Mapping[str, Method]) -> Any:
    """The items of a mapping, one after the other, with a bar of progress."""
    with bar(len(methods)) as shown:
        for item in methods.items():
            yield item
            shown.update()


def _trained_on(
    candidates: Candidates, datasets: Sequence[Dataset], budget: Budget, n_epochs: int, flat_at: Sequence[float]
) -> pd.DataFrame:
    """Train all candidates at once with their masks held, K sparsities of S networks, and measure."""
    rows = []
    seeds = tuple(_LATER + seed for seed in budget.seeds)
    together = Ensemble([member for networks, _ in candidates.values() for member in networks])
    masks = {n: torch.cat([m[n] for _, m in candidates.values()]) for n in next(iter(candidates.values()))[1]}
    mask, data = Mask(masks), list(datasets) * len(candidates)
    mask.apply(together)
    later = Budget(budget.n_epochs, budget.batch_size, budget.rate, budget.knob, seeds * len(candidates))
    try:
        networks = later.train(together, data, n_epochs, after_step=[mask])
    except TrainingDivergedError:
        networks = together
    found: dict[str, Any] = {}
    for part in ("validation", "test"):
        found[f"{part}_accuracy"] = _measured(networks, data, part)[1]
    found["train_loss"] = _measured(networks, data, "train")[0]
    for i, p in enumerate(candidates):
        some = slice(i * len(seeds), (i + 1) * len(seeds))
        noise: Any = np.nan
        if p in flat_at:
            members = Ensemble(list(networks)[some])
            kept = {name: mask[name][some] for name in mask}
            noise = noise_sensitivity(members, *_part(datasets, "train"), _NOISE, kept).numpy()
        rows.append(
            pd.DataFrame({"seed": budget.seeds, "sparsity": p, "noise": noise})
            .assign(**{name: values[some].numpy() for name, values in found.items()})
        )
    return pd.concat(rows, ignore_index=True)


def _part(datasets: Sequence[Dataset], part: str) -> tuple[Tensor, Tensor]:
    x, y = (torch.stack([getattr(each, f"{v}_{part}") for each in datasets]) for v in "xy")
    return x, y


def _measured(networks: Ensemble, datasets: Sequence[Dataset], part: str) -> tuple[Tensor, Tensor]:
    """Losses and accuracies; a network that has diverged has those of a network that knows nothing."""
    return evaluate(networks, *_part(datasets, part), per_member=True)


def _shuffled(mask: Mask, seeds: Sequence[int]) -> Mask:
    """The same number of weights in each layer, at random places."""
    kept = {}
    for position, name in enumerate(mask):
        draws = [torch.Generator().manual_seed(len(mask) * seed + position) for seed in seeds]
        flat = zip(mask[name].flatten(1), draws, strict=True)
        kept[name] = torch.stack([own[torch.randperm(len(own), generator=g)] for own, g in flat]).view_as(mask[name])
    return Mask(kept)


def _overlaps(masks: Mapping[str, Mask], seeds: Sequence[int]) -> pd.DataFrame:
    r"""$\frac{\sum_l|A_l\cap B_l|-\sum_la_lb_l/n_l}{\sum_l\min(a_l,b_l)-\sum_la_lb_l/n_l}$ over layers l."""
    rows = []
    names = list(masks)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            both = chance = most = torch.zeros(len(seeds), dtype=torch.float64)
            for layer in masks[first]:
                a, b = masks[first][layer].flatten(1), masks[second][layer].flatten(1)
                n_a, n_b = a.double().sum(dim=1), b.double().sum(dim=1)
                both = both + (a & b).double().sum(dim=1)
                chance, most = chance + n_a * n_b / a.shape[1], most + torch.minimum(n_a, n_b)
            rows += zip([first] * len(seeds), [second] * len(seeds), seeds, ((both - chance) / (most - chance)).tolist(), strict=True)
    return pd.DataFrame(rows, columns=["first", "second", "seed", "beyond"])


# --- tuning -----------------------------------------------------------------------------------------------------------


def tuning(methods: Mapping[str, Method], task: Task, seeds: Sequence[int]) -> pd.DataFrame:
    """Try all sixteen choices of each method on the same seeds; the best has the highest mean validation accuracy.

    The mean is over seeds and all sparsities above 0: one choice serves them all.

    Returns:
        One row a method: task, method, rate, knob, validation_accuracy, and ``edge``: which of the two lies at the end of
        its grid.
    """
    rows = []
    for name, method in methods.items():
        tried = {}
        for one in method.choices:
            try:
                table = compare({name: method}, task, seeds, choices={name: one}).accuracy
            except TrainingDivergedError:
                continue
            tried[one] = table[table["sparsity"] > 0]["validation_accuracy"].fillna(0).mean()
        best = max(tried, key=lambda one: tried[one])
        ends = [sorted({one[k] for one in method.choices}) for k in (0, 1)]
        edge = [what for what, at, end in zip(("rate", "knob"), best, ends, strict=True) if len(end) > 1 and at in (end[0], end[-1])]
        rows.append((task.name, name, *best, tried[best], " ".join(edge)))
    return pd.DataFrame(rows, columns=["task", "method", "rate", "knob", "validation_accuracy", "edge"])


def tuned() -> pd.DataFrame:
    """The choices of all methods, made once by ``tuning`` on the planning seeds 0 to 3: none of them judges."""
    return pd.read_csv(Path(__file__).with_name("tuned.csv"), keep_default_na=False)


def choice(name: str, method: Method, task: str) -> tuple[float, float]:
    """Learning rate and knob that a method was tuned to: on this task, else on digits, else the middle of its grid."""
    known = tuned()
    for where in (task, "digits"):
        own = known[(known["task"] == where) & (known["method"] == name)]
        if len(own):
            return float(own["rate"].iloc[0]), float(own["knob"].iloc[0])
    return 0.1, method.knobs[len(method.knobs) // 2]


def methods_table() -> pd.DataFrame:
    """All methods: label, when masks are chosen, knobs that are tried, the choice on digits."""
    rows = [
        (each.label, "before" if each.before_training else "after", each.knobs, *choice(name, each, "digits"))
        for name, each in METHODS.items()
    ]
    columns = ["method", "masks chosen before or after training", "knobs", "rate", "knob"]
    return pd.DataFrame(rows, columns=columns).set_index("method")
