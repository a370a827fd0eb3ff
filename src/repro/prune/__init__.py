"""Take weights out of a network and say what it cost.

A pruning experiment is three steps, each a value: *scores* (one number a weight or unit), a *mask* (exactly
the lowest of them), and the *hold* (the mask, called after every step of training). ``sparsity`` is the
fraction removed, ``density`` the fraction kept.
"""

from repro.prune.costs import Costs, costs, parameter_counts
from repro.prune.masks import Mask
from repro.prune.scores import magnitude, prunable, random, unit_norms
from repro.prune.selection import select
from repro.prune.tradeoffs import paired_difference, prune_and_measure, summarize
from repro.prune.units import select_units, unit_mask

__all__ = [
    "Costs",
    "Mask",
    "costs",
    "magnitude",
    "paired_difference",
    "parameter_counts",
    "prunable",
    "prune_and_measure",
    "random",
    "select",
    "select_units",
    "summarize",
    "unit_mask",
    "unit_norms",
]
