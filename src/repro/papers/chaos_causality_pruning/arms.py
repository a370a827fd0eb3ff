"""Masks to compare: LEGCNet's, and others that remove as many weights of each layer for other reasons."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from repro.papers.chaos_causality_pruning.decisions import Decision
from repro.papers.chaos_causality_pruning.observation import Observed
from repro.prune.selection import keep_highest

__all__ = ["ARMS", "masks", "matched", "pruned_set", "random_masks"]

ARMS = {
    "noncausal": "LEGCNet",
    "causal": "most causal",
    "noise": "noise for exponents",
    "magnitude before": "smallest at start",
    "magnitude after": "smallest after training",
    "largest": "largest after training",
    "random": "random",
}
"""Names of the arms and how the pictures call them."""


def pruned_set(decision: Decision, tested: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of all P weights the rule removes, ``(P,)``; untested ones stay."""
    pruned = np.zeros(len(tested), bool)
    pruned[tested] = decision.non_causal
    return pruned


def matched(
    scores: NDArray[np.float64], pruned: NDArray[np.bool_], layer_of: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Keep the highest scores, removing in each layer as many weights as ``pruned`` does.

    Args:
        scores: ``(P,)``; NaN is never removed.
        pruned: the set to match, ``(P,)``.
        layer_of: layer of each weight, ``(P,)``.

    Returns:
        Mask ``(P,)``, True for weights that stay.
    """
    keep = np.ones(len(scores), bool)
    ranked = np.where(np.isnan(scores), np.inf, scores)
    for layer in np.unique(layer_of[pruned]):
        here = layer_of == layer
        keep[here] = keep_highest(torch.as_tensor(ranked[here]), int(pruned[here].sum())).numpy()
    return keep


def random_masks(
    pruned: NDArray[np.bool_],
    layer_of: NDArray[np.int64],
    tested: NDArray[np.bool_],
    n_masks: int,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw masks ``(n_masks, P)`` that remove tested weights at random, as many of each layer as ``pruned``."""
    scores = np.where(tested, rng.random((n_masks, len(pruned))), np.nan)
    return (
        np.stack([matched(s, pruned, layer_of) for s in scores])
        if n_masks
        else np.ones((0, len(pruned)), bool)
    )


def masks(
    observed: Observed, variant: str, n_random: int, *, part: str = "validation"
) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of all arms for one variant, each ``(S, n, P)`` with n = 1, or ``n_random`` random ones.

    Args:
        observed: dense training.
        variant: ``"ft"`` or ``"pt"``.
        n_random: random masks a seed.
        part: whose errors the rule looks at.
    """
    tested, layer_of = observed.tested, observed.initial.layer_of
    before = observed.networks("own").flat().abs().numpy()
    after = observed.networks("own", trained=True).flat().abs().numpy()
    found: dict[str, list[NDArray[np.bool_]]] = {arm: [] for arm in ARMS}
    decisions = observed.decisions(variant, part=part)
    noise = np.random.default_rng([*observed.seeds, 2]).standard_normal(observed.series(variant).shape)
    from_noise = observed.decisions(variant, part=part, exponents=noise)

    def only_tested(values: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = np.full(len(tested), np.nan)
        scores[tested] = values
        return scores

    for i, (seed, decision) in enumerate(zip(observed.seeds, decisions, strict=True)):
        pruned = pruned_set(decision, tested)
        rng = np.random.default_rng([seed, variant == "ft", 3])
        scores = {
            "causal": only_tested(decision.p),
            "noise": only_tested(-from_noise[i].p),
            "magnitude before": np.where(tested, before[i], np.nan),
            "magnitude after": np.where(tested, after[i], np.nan),
            "largest": np.where(tested, -after[i], np.nan),
        }
        found["noncausal"].append(~pruned[None])
        found["random"].append(random_masks(pruned, layer_of, tested, n_random, rng))
        for arm, values in scores.items():
            found[arm].append(matched(values, pruned, layer_of)[None])
    return {arm: np.stack(rows) for arm, rows in found.items()}
