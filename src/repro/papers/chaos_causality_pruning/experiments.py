"""All runs of one or several data sets, with their comparisons and controls: what the chapter calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from repro.learn._progress import bar
from repro.papers.chaos_causality_pruning.arms import ARMS
from repro.papers.chaos_causality_pruning.comparisons import (
    RetrainedArms,
    compare_decisions,
    delete_without_retraining,
    overlaps,
    retrain_arms,
)
from repro.papers.chaos_causality_pruning.observation import Observed, observe
from repro.papers.chaos_causality_pruning.rankings import feature_rankings
from repro.papers.chaos_causality_pruning.settings import setting

__all__ = ["Runs", "runs_of"]


@dataclass(frozen=True)
class Runs:
    """The experiments on several data sets, with the same seeds on each.

    Attributes:
        observed: dense training, by data set.
        arms: retrained networks, by data set.
        retrained: one row a retrained network, see ``retrain_arms``.
        decisions: see ``compare_decisions``.
        deletions: see ``delete_without_retraining``; empty for images.
        overlaps: see ``overlaps``.
        rankings: see ``feature_rankings``; empty for images.
    """

    observed: dict[str, Observed]
    arms: dict[str, RetrainedArms]
    retrained: pd.DataFrame
    decisions: pd.DataFrame
    deletions: pd.DataFrame
    overlaps: pd.DataFrame
    rankings: pd.DataFrame


def runs_of(
    names: Sequence[str], seeds: Sequence[int], *, n_random: int, epoch_share: float = 1.0, n_ranked: int = 10
) -> Runs:
    """Train, test, prune, retrain and compare on each data set.

    Networks for images are large: only LEGCNet's and random masks are retrained.

    Args:
        names: data sets, see ``SETTINGS``.
        seeds: one split with its initial weights each.
        n_random: random masks a seed and variant.
        epoch_share: share of each setting's epochs of dense training, in (0, 1].
        n_ranked: random masks whose ranking of features is looked at.

    Raises:
        ValueError: an unknown data set, no seeds, or a share outside its range.
    """
    if not 0 < epoch_share <= 1:
        raise ValueError(f"epoch_share must lie in (0, 1]; got {epoch_share}")
    settings = [setting(name) for name in names]
    observed: dict[str, Observed] = {}
    arms: dict[str, RetrainedArms] = {}
    frames: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("retrained", "decisions", "deletions", "overlaps", "rankings")
    }
    with bar(len(settings), None) as shown:
        for one in settings:
            seen = observe(one, seeds, epochs=max(1, round(one.epochs * epoch_share)))
            observed[one.name] = seen
            arms[one.name] = retrain_arms(
                seen, n_random, ("noncausal", "random") if one.images else tuple(ARMS)
            )
            frames["retrained"].append(arms[one.name].runs)
            frames["decisions"].append(compare_decisions(seen))
            frames["overlaps"].append(overlaps(seen))
            if not one.images:
                frames["deletions"].append(delete_without_retraining(seen))
                frames["rankings"].append(feature_rankings(seen, arms[one.name], n_random=n_ranked))
            shown.update()
    tables = {
        name: pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        for name, parts in frames.items()
    }
    return Runs(observed, arms, **tables)
