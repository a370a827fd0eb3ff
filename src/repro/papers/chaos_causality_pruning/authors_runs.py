"""The paper's rows once more: the authors' split, scaling, initial weights and masks; then from fresh weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from repro.learn._progress import bar
from repro.papers.chaos_causality_pruning import published
from repro.papers.chaos_causality_pruning.arms import random_masks
from repro.papers.chaos_causality_pruning.comparisons import EXTRA_EPOCHS
from repro.papers.chaos_causality_pruning.decisions import decide, keep_mask
from repro.papers.chaos_causality_pruning.descent import Examples, descend, examples
from repro.papers.chaos_causality_pruning.perceptrons import Perceptrons, gaussian
from repro.papers.chaos_causality_pruning.retraining import retrain
from repro.papers.chaos_causality_pruning.tabular import authors_initial_weights, authors_split, load_table
from repro.papers.chaos_causality_pruning.windows import WindowRecorder, Windows, paper_exponents
from repro.prune.overlap import jaccard

__all__ = ["NAMES", "AuthorsRun", "distribution_over_seeds", "recomputed_masks", "regenerate"]

NAMES = ("iris", "iris_3f", "cancer", "titanic", "banknote")
"""Sets whose initial weights and masks are known."""

VARIANTS = ("ft", "pt")

# where the masks' settings are unknown: those of the authors' code, or of sets whose masks come out
FORWARD_STEPS = {"ft": 20, "pt": 3}
MAX_LAG = {"ft": 20, "pt": 14}

LEAST_CAP = 150
"""Epochs that every network may take; the authors' curves of cancer go so far, beyond the epochs they log."""

N_TRIALS = 5
SEEDS_AT_ONCE = 10

Masks = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class AuthorsRun:
    """What the authors' initialisations give.

    Attributes:
        name: of the set.
        runs: one row a (trial, arm, draw), trials from 1: epochs (from 0; the cap if not reached), reached,
            test_accuracy, macro_f1, kept (weights left). Arms: ``"dense"``; ``"ft"`` and ``"pt"`` under the published
            masks; ``"recomputed ft"``, ``"recomputed pt"``; ``"random ft"``, ``"random pt"``, which remove as many
            weights of each layer as the published masks, several draws.
        jaccard: one row a (trial, variant): the Jaccard index of the published and the recomputed set of removed
            weights (1 for two empty ones), and the sizes of both.
        recomputed: variant to masks ``(5, P)``, True for weights that stay.
    """

    name: str
    runs: pd.DataFrame
    jaccard: pd.DataFrame
    recomputed: Masks


def regenerate(name: str, *, n_random: int = 20, seed: int = 0) -> AuthorsRun:
    """Train the authors' five networks of a set again, under their masks, ours, and random ones.

    Args:
        name: one of ``NAMES``.
        n_random: random masks a published mask, 0 or more.
        seed: of the random masks.

    Raises:
        ValueError: another set, or a negative number of masks.
        DataNotFoundError: the set's files are not on this machine.
    """
    train, test = _examples(name)
    if n_random < 0:
        raise ValueError(f"n_random must be 0 or more; got {n_random}")
    start = _stacked(name)
    n_weights = len(start.layer_of)
    ours = recomputed_masks(name, start, train, test)
    theirs = {v: _published_masks(name, v, n_weights) for v in VARIANTS}
    arms = dict(theirs) | {f"recomputed {v}": keep for v, keep in ours.items()}
    runs = _retrained(
        name, (train, test), start, arms, theirs, n_random, [(seed, trial) for trial in range(N_TRIALS)]
    )
    overlap = [
        {"trial": trial + 1, "variant": v, "jaccard": jaccard(~theirs[v][trial], ~ours[v][trial])}
        | {"published": (~theirs[v][trial]).sum(), "recomputed": (~ours[v][trial]).sum()}
        for v in VARIANTS
        for trial in range(N_TRIALS)
    ]
    runs.insert(0, "trial", runs.pop("network") + 1)
    return AuthorsRun(name, runs, pd.DataFrame(overlap), ours)


def distribution_over_seeds(
    name: str, n_seeds: int, *, n_random: int = 20, first_seed: int = 0, progress: bool | None = None
) -> pd.DataFrame:
    r"""Follow the authors' recipe from fresh initial weights $N(0, 0.1^2)$, on their one split.

    So a printed row can stand beside what other initial weights would have given. The split does not change: this
    is not the spread over data.

    Args:
        name: one of ``NAMES``.
        n_seeds: networks, 1 or more.
        n_random: random masks a seed and variant, as large as the seed's own masks.
        first_seed: the seeds count up from it.
        progress: whether to show a bar; None for when somebody watches.

    Returns:
        One row a (seed, arm, draw) with the columns of ``AuthorsRun.runs``; arms ``"dense"``, ``"ft"``, ``"pt"``
        (masks recomputed for each seed), ``"random ft"``, ``"random pt"``.

    Raises:
        ValueError: another set, no seeds, or a negative number of masks.
        DataNotFoundError: the set's files are not on this machine.
    """
    train, test = _examples(name)
    if n_seeds < 1 or n_random < 0:
        raise ValueError(f"n_seeds must be 1 or more, n_random 0 or more; got {n_seeds} and {n_random}")
    seeds = range(first_seed, first_seed + n_seeds)
    frames = []
    with bar(n_seeds, progress) as shown:
        for i in range(0, n_seeds, SEEDS_AT_ONCE):
            some = seeds[i : i + SEEDS_AT_ONCE]
            start = gaussian(published.HYPER_PARAMETERS[name].sizes, some)
            masks = recomputed_masks(name, start, train, test)
            runs = _retrained(name, (train, test), start, masks, masks, n_random, [(s, 0) for s in some])
            runs.insert(0, "seed", np.array(some)[runs.pop("network")])
            frames.append(runs)
            shown.update(len(some))
    return pd.concat(frames, ignore_index=True)


def recomputed_masks(name: str, start: Perceptrons, train: Examples, test: Examples) -> Masks:
    r"""Choose FT and PT masks by the paper's rule, with the set's windows, from one dense training.

    As the authors do, by the error on the *test* part, $y_t=1-\text{acc}_\text{test}$. Where the forward steps or
    the largest lag are unknown: 20 and 20 for FT, 3 and 14 for PT.

    Args:
        name: one of ``NAMES``.
        start: R networks before training; left alone.
        train, test: examples.

    Returns:
        Variant to masks ``(R, P)``, True for weights that stay.
    """
    known = published.HYPER_PARAMETERS[name]
    steps = {"ft": known.forward_steps_ft, "pt": known.forward_steps_pt}
    recorders = {
        v: WindowRecorder(
            Windows(window),
            {"test": test},
            last_update=epochs * len(train),
            exponent=partial(paper_exponents, forward_steps=steps[v] or FORWARD_STEPS[v]),
        )
        for v, window, epochs in (
            ("ft", known.window_ft, known.epochs_ft),
            ("pt", known.window_pt, known.epochs_pt),
        )
    }
    descend(
        start.pick(range(len(start))),
        train,
        learning_rate=known.learning_rate,
        n_epochs=known.epochs_ft,
        after_update=list(recorders.values()),
    )
    lags = {"ft": known.max_lag_ft, "pt": known.max_lag_pt}
    masks = {}
    for v, recorder in recorders.items():
        seen = recorder.result()
        pairs = zip(seen.errors["test"], seen.exponents, strict=True)
        masks[v] = keep_mask([decide(y, x, max_lag=lags[v] or MAX_LAG[v]) for y, x in pairs])
    return masks


def _examples(name: str) -> tuple[Examples, Examples]:
    if name not in NAMES:
        raise ValueError(f"the authors' runs can be made again for {', '.join(NAMES)}; got {name!r}")
    split = authors_split(load_table(name))
    n_outputs = published.HYPER_PARAMETERS[name].sizes[-1]
    return examples(split.x_train, split.y_train, n_outputs), examples(split.x_test, split.y_test, n_outputs)


def _stacked(name: str) -> Perceptrons:
    w1, b1, w2, b2 = (
        torch.tensor(np.stack(same)) for same in zip(*authors_initial_weights(name, N_TRIALS), strict=True)
    )
    return Perceptrons([w1, w2], [b1, b2])


def _published_masks(name: str, variant: str, n_weights: int) -> NDArray[np.bool_]:
    keep = np.ones((N_TRIALS, n_weights), bool)
    for mask, removed in zip(keep, published.REMOVED[name, variant], strict=True):
        mask[list(removed)] = False
    return keep


def _retrained(
    name: str,
    data: tuple[Examples, Examples],
    start: Perceptrons,
    arms: Masks,
    matched: Masks,
    n_random: int,
    streams: list[tuple[int, int]],
) -> pd.DataFrame:
    """Retrain dense networks, ``arms`` and random masks as large as ``matched``, all in one stack."""
    known = published.HYPER_PARAMETERS[name]
    n_runs, layer_of = len(start), start.layer_of
    all_weights = np.ones(len(layer_of), bool)
    keeps = {"dense": np.ones((n_runs, 1, len(layer_of)), bool)} | {a: k[:, None] for a, k in arms.items()}
    for i, (variant, masks) in enumerate(matched.items()):
        draws = [
            random_masks(~mask, layer_of, all_weights, n_random, np.random.default_rng([*stream, i]))
            for mask, stream in zip(masks, streams, strict=True)
        ]
        keeps[f"random {variant}"] = np.stack(draws)
    columns = [(arm, draw) for arm, keep in keeps.items() for draw in range(keep.shape[1])]
    index = pd.MultiIndex.from_tuples(
        [(network, *column) for network in range(n_runs) for column in columns],
        names=["network", "arm", "draw"],
    )
    result = retrain(
        start.pick(index.get_level_values("network").to_numpy()),
        np.concatenate(list(keeps.values()), axis=1).reshape(len(index), -1),
        *data,
        learning_rate=known.learning_rate,
        benchmark=known.benchmark,
        cap=max(LEAST_CAP, known.epochs_ft + EXTRA_EPOCHS),
    )
    fields = ("epochs", "reached", "test_accuracy", "macro_f1", "kept")
    return pd.DataFrame({field: getattr(result, field) for field in fields}, index=index).reset_index()
