"""Take weights out of a network and say what it cost.

A pruning experiment is three steps, each a value: *scores* (one number a weight or unit), a *mask* (exactly
the lowest of them), and the *hold* (the mask, called after every step of training). ``sparsity`` is the
fraction removed.

>>> from torch import nn
>>> from repro.prune import costs, magnitude, select
>>> first, last = nn.Linear(784, 300), nn.Linear(300, 10)
>>> network = nn.Sequential(first, nn.ReLU(), last)
>>> mask = select(magnitude(network), sparsity=0.9)
>>> mask.apply(network)  # and after each step of a training: mask(network)
>>> mask, costs(network, (784,), mask).multiply_adds_kept
(Mask(2 parameters, 23,820 of 238,200 weights kept), 23820)
"""

from repro.prune.costs import Costs, costs
from repro.prune.masks import Mask
from repro.prune.scores import magnitude, prunable, random, unit_norms
from repro.prune.selection import expected_jaccard, jaccard, keep_highest, select, select_units, unit_mask

__all__ = [
    "Costs",
    "Mask",
    "costs",
    "expected_jaccard",
    "jaccard",
    "keep_highest",
    "magnitude",
    "prunable",
    "random",
    "select",
    "select_units",
    "unit_mask",
    "unit_norms",
]
