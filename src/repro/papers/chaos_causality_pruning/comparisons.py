"""What observed runs decide, what pruning costs, and the controls beside both, as tidy tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from repro.papers.chaos_causality_pruning.arms import ARMS, masks, pruned_set
from repro.papers.chaos_causality_pruning.decisions import granger_tests, judge
from repro.papers.chaos_causality_pruning.descent import Examples, loss
from repro.papers.chaos_causality_pruning.observation import Observed
from repro.papers.chaos_causality_pruning.retraining import Retrained, retrain
from repro.prune.overlap import expected_jaccard, jaccard
from repro.series.granger import GrangerResult
from repro.series.surrogates import circularly_shifted, shuffled

__all__ = [
    "COUNTERPARTS",
    "RetrainedArms",
    "compare_decisions",
    "delete_without_retraining",
    "overlaps",
    "retrain_arms",
]

COUNTERPARTS = {
    "own": "the weight's own exponents",
    "stranger": "another network's",
    "shifted": "shifted in time",
    "shuffled": "shuffled",
    "noise": "white noise",
    "reverse": "errors causing exponents",
}
"""What stands in the place of the cause, and how the pictures call it."""

EXTRA_EPOCHS = 50
"""Retraining may take so many epochs more than dense training had (the paper's code)."""


def compare_decisions(observed: Observed) -> pd.DataFrame:
    """Apply the paper's rule to a network's own exponents and to counterparts that cannot cause its errors.

    Also with the F statistic in place of the chi-squared form, with the test part's errors in place of the
    validation part's, and the honest rule.

    Returns:
        One row a (variant, series, rule, part, seed): causal, non_causal and untestable shares of the tested
        weights.
    """
    rng = np.random.default_rng([*observed.seeds, 4])
    rows: list[dict[str, object]] = []

    def note(
        variant: str, series: str, rules: tuple[str, ...], part: str, tests: list[GrangerResult]
    ) -> None:
        for rule, (seed, one) in product(rules, zip(observed.seeds, tests, strict=True)):
            d = judge(one, rule)
            rows.append(
                {"table": observed.setting.name, "variant": variant, "series": series, "rule": rule}
                | {"part": part, "seed": seed, "causal": d.causal.mean(), "non_causal": d.non_causal_share}
                | {"untestable": 1 - d.testable.mean(), "windows": observed.errors(variant).shape[1]}
            )

    for variant in observed.variants:
        own = observed.series(variant)
        flat = own.reshape(-1, own.shape[-1])
        series = {
            "own": own,
            "stranger": observed.series(variant, "stranger"),
            "shifted": circularly_shifted(flat, rng).reshape(own.shape),
            "shuffled": shuffled(flat, rng).reshape(own.shape),
            "noise": rng.standard_normal(own.shape),
        }
        for name, exponents in series.items():
            note(
                variant, name, ("paper", "f_test"), "validation", observed.tests(variant, exponents=exponents)
            )
        note(variant, "reverse", ("paper", "f_test"), "validation", _reverse(observed, variant))
        note(variant, "own", ("paper",), "test", observed.tests(variant, part="test"))
    if "honest" in observed.exponents:
        for role in ("own", "stranger"):
            exponents = observed.series("honest", role)
            note("honest", role, ("honest",), "validation", observed.tests("honest", exponents=exponents))
    return pd.DataFrame(rows)


def _reverse(observed: Observed, variant: str) -> list[GrangerResult]:
    """Whether the errors Granger-cause the exponents."""
    pairs = zip(observed.errors(variant), observed.series(variant), strict=True)
    top = observed.setting.max_lag
    return [granger_tests(x, np.broadcast_to(y, x.shape), max_lag=top) for y, x in pairs]


@dataclass(frozen=True)
class RetrainedArms:
    """Retrained networks of all arms, as a table and as networks.

    Attributes:
        runs: one row a network: table, seed, variant (``"dense"``, ``"ft"``, ``"pt"``), arm, draw, n_weights and the
            fields of ``Retrained``.
        retrained: the networks, in the order of the rows.
    """

    runs: pd.DataFrame
    retrained: Retrained


def retrain_arms(observed: Observed, n_random: int, chosen: Collection[str] = tuple(ARMS)) -> RetrainedArms:
    """Retrain, from the same initial weights, the dense network and all arms of all variants, in one stack.

    Args:
        observed: dense training.
        n_random: random masks a seed and variant.
        chosen: which of ``ARMS``.
    """
    setting, n_seeds = observed.setting, len(observed.seeds)
    n_weights = len(observed.tested)
    columns: list[tuple[str, str, int]] = [("dense", "dense", 0), ("dense", "stranger", 0)]
    keeps = [np.ones((n_seeds, 2, n_weights), bool)]
    for variant in observed.variants:
        for arm, keep in masks(observed, variant, n_random).items():
            if arm not in chosen:
                continue
            columns += [(variant, arm, draw) for draw in range(keep.shape[1])]
            keeps.append(keep)
    keep = np.concatenate(keeps, axis=1)  # (S, columns, P)
    start = observed.initial.pick(
        [3 * i + (1 if arm == "stranger" else 0) for i in range(n_seeds) for _, arm, _ in columns]
    )
    result = retrain(
        start,
        keep.reshape(-1, n_weights),
        observed.parts.train,
        observed.parts.test,
        learning_rate=setting.learning_rate,
        benchmark=setting.benchmark,
        cap=setting.epochs + EXTRA_EPOCHS,
        batch_size=setting.batch_size,
        order=setting.order,
    )
    names = [(seed, *column) for seed in observed.seeds for column in columns]
    runs = pd.DataFrame(names, columns=["seed", "variant", "arm", "draw"]).assign(
        table=setting.name,
        n_weights=n_weights,
        epochs=result.epochs,
        reached=result.reached,
        test_accuracy=result.test_accuracy,
        macro_f1=result.macro_f1,
        test_loss=result.test_loss,
        kept=result.kept,
    )
    return RetrainedArms(runs, result)


def delete_without_retraining(observed: Observed, n_random: int = 200) -> pd.DataFrame:
    """Delete weights from the trained networks and look at the training loss, without retraining (claim C7).

    Returns:
        One row a (variant, arm, seed): the loss before and after, and the share of random deletions of the same
        size, layer by layer, that raise it less (ties count half).
    """
    rows = []
    for variant in observed.variants:
        keeps = masks(observed, variant, n_random)
        chosen = ["noncausal", "causal", "noise", "magnitude after", "largest"]
        keep = np.concatenate([keeps[arm] for arm in chosen] + [keeps["random"]], axis=1)
        losses = _losses(observed, keep, observed.parts.train)
        before = _losses(observed, np.ones_like(keep[:, :1]), observed.parts.train)[:, 0]
        for i, seed in enumerate(observed.seeds):
            by_chance = losses[i, len(chosen) :]
            for arm, after in zip(chosen, losses[i], strict=False):
                rows.append(
                    {"table": observed.setting.name, "variant": variant, "arm": arm, "seed": seed}
                    | {"before": before[i], "after": after, "random": by_chance.mean()}
                    | {"share_below": share_below(by_chance, after)}
                )
    return pd.DataFrame(rows)


def share_below(values: NDArray[np.float64], value: float) -> float:
    """Return the share of ``values`` below ``value``, those equal to it counted half."""
    return float((values < value).mean() + 0.5 * (values == value).mean())


def _losses(observed: Observed, keep: NDArray[np.bool_], part: Examples) -> NDArray[np.float64]:
    """Losses of trained networks under masks ``(S, n, P)``, ``(S, n)``."""
    n_seeds, n_masks, n_weights = keep.shape
    trained = observed.networks("own", trained=True).pick(np.repeat(np.arange(n_seeds), n_masks))
    masked = trained.masked(torch.as_tensor(keep.reshape(-1, n_weights)))
    return loss(masked, part).reshape(n_seeds, n_masks)


def overlaps(observed: Observed) -> pd.DataFrame:
    """Compare sets of non-causal weights: FT with PT, and FT with FT of a nudged and of a stranger network.

    Returns:
        One row a (pair, seed): sizes, Jaccard index (1 for two empty sets), and its expectation for independent
        random sets of these sizes.
    """
    rows = []
    for pair, first, second in _pairs_of_sets(observed):
        for seed, a, b in zip(observed.seeds, first, second, strict=True):
            rows.append(
                {
                    "table": observed.setting.name,
                    "pair": pair,
                    "seed": seed,
                    "first": a.sum(),
                    "second": b.sum(),
                }
                | {"jaccard": jaccard(a, b), "expected": expected_jaccard(int(a.sum()), int(b.sum()), len(a))}
            )
    return pd.DataFrame(rows)


def _pairs_of_sets(
    observed: Observed,
) -> Iterator[tuple[str, list[NDArray[np.bool_]], list[NDArray[np.bool_]]]]:
    def sets(variant: str, role: str = "own") -> list[NDArray[np.bool_]]:
        return [pruned_set(d, observed.tested) for d in observed.decisions(variant, role=role)]

    if {"ft", "pt"} <= set(observed.variants):
        yield "late and early", sets("ft"), sets("pt")
        yield "nudged", sets("ft"), sets("ft", "nudged")
    late = observed.variants[0]
    yield "stranger", sets(late), sets(late, "stranger")
