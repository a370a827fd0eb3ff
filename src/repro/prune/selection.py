"""Selection: from scores to a mask, with exact numbers and a stable tie rule."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from repro.prune._checks import flat_scores
from repro.prune.masks import Mask

__all__ = ["keep_highest", "n_to_prune", "select"]


def n_to_prune(n: int, *, sparsity: float | None = None, n_pruned: int | None = None) -> int:
    r"""Return how many of n to remove: $\lfloor p\,n \rfloor$, or the number asked for.

    The product is meant as in decimal arithmetic: 0.29 of 100 is 29, though ``0.29 * 100`` is a little less.
    A result within $10^{-12} n$ of a whole number counts as that number.

    Args:
        n: how many there are.
        sparsity: fraction p to remove, in [0, 1]; or
        n_pruned: how many to remove, in [0, n].

    Raises:
        ValueError: neither or both given, or a value outside its range.
        TypeError: not a number (``n_pruned``: not a whole number).
    """
    if (sparsity is None) == (n_pruned is None):
        raise ValueError(f"give either sparsity or n_pruned; got sparsity={sparsity}, n_pruned={n_pruned}")
    if n_pruned is not None:
        if isinstance(n_pruned, bool) or not isinstance(n_pruned, Integral):
            raise TypeError(f"n_pruned must be a whole number, got {n_pruned!r}")
        if not 0 <= n_pruned <= n:
            raise ValueError(f"n_pruned must lie between 0 and {n}, the number there is; got {n_pruned}")
        return int(n_pruned)
    if isinstance(sparsity, bool) or not isinstance(sparsity, Real):
        raise TypeError(f"sparsity must be a number, got {sparsity!r}")
    # the digits as written: a float32 0.29 means 0.29, not 0.28999999
    p = float(str(sparsity)) if isinstance(sparsity, np.floating) else float(sparsity)
    if not 0 <= p <= 1:
        raise ValueError(f"sparsity is the fraction removed and must lie in [0, 1]; got {sparsity}")
    return min(n, floor(p * n + 1e-12 * n))


def keep_highest(scores: Tensor, n_pruned: int) -> Tensor:
    """Return a bool vector, False at the ``n_pruned`` lowest of ``scores`` (n,), of equal ones the first."""
    if scores.ndim != 1 or scores.isnan().any():
        raise ValueError(f"scores must be a vector without NaN, got shape {tuple(scores.shape)}")
    if n_pruned == 0:
        return torch.ones(scores.shape, dtype=torch.bool)
    threshold = scores.kthvalue(n_pruned).values
    pruned, tied = scores < threshold, scores == threshold
    pruned |= tied & (tied.cumsum(0) <= n_pruned - pruned.sum())
    return ~pruned


def select(
    scores: Mapping[str, Tensor],
    *,
    sparsity: float | Mapping[str, float] | None = None,
    n_pruned: int | Mapping[str, int] | None = None,
    scope: str = "global",
    within: Mask | None = None,
) -> Mask:
    r"""Return the mask that removes exactly the $\lfloor p\,n \rfloor$ (or ``n_pruned``) lowest scores.

    Tie rule: of equal scores, the one that stands first is removed first; first in the order of the names in
    ``scores``, then in the flat (row-major) index. So the number is exact whatever the ties, masks of rising
    sparsity are nested, and no sort's whim decides.

    Args:
        scores: parameter name to scores, one a weight, higher is better; infinities are allowed.
        sparsity: fraction to remove, in [0, 1]; of all weights (scope global) or of each parameter (scope
            layer).
        n_pruned: number to remove instead; in all, or from each parameter. With scope layer, either may be a
            mapping from name to value: ``select(random_scores, n_pruned=mask.n_pruned_by_parameter,
            scope="layer")`` is the random control at ``mask``'s densities.
        scope: ``"global"`` compares weights across parameters, ``"layer"`` only within each.
        within: a mask whose removed weights stay removed. They go first and count as removed. It names no others
            than ``scores`` does.

    Returns:
        A mask over the names of ``scores``.

    Raises:
        ValueError: values out of range, scores that are NaN or integers from 2**53 on, no scores, another scope,
            or a ``within`` that removes more already or speaks of other parameters.
        TypeError: scores that are not real tensors.
    """
    if scope not in ("global", "layer"):
        raise ValueError(f"scope must be 'global' or 'layer', got {scope!r}")
    if not isinstance(scores, Mapping):
        raise TypeError(f"scores must be tensors by parameter name, got a {type(scores).__name__}")
    flat = {name: flat_scores(name, values) for name, values in scores.items()}
    if other := sorted(set(within or ()) - scores.keys()):
        raise ValueError(
            f"within speaks of {', '.join(other)}, which have no scores; combine it by & afterwards"
        )
    if not any(values.numel() for values in flat.values()):
        raise ValueError("there are no scores to select from")
    open_ = {name: _open(name, values.shape, within) for name, values in scores.items()}
    if scope == "global":
        if isinstance(sparsity, Mapping) or isinstance(n_pruned, Mapping):
            raise ValueError("a value for each parameter needs scope='layer'; scope is 'global'")
        n = n_to_prune(sum(map(len, flat.values())), sparsity=sparsity, n_pruned=n_pruned)
        joint = _select(torch.cat(list(flat.values())), torch.cat(list(open_.values())), n, "in all")
        kept = dict(zip(flat, joint.split([len(values) for values in flat.values()]), strict=True))
    else:
        kept = {}
        for name, values in flat.items():
            p, k = _one(sparsity, name, scores, "sparsity"), _one(n_pruned, name, scores, "n_pruned")
            n = n_to_prune(len(values), sparsity=p, n_pruned=k)
            kept[name] = _select(values, open_[name], n, f"from {name!r}")
    return Mask({name: kept[name].reshape(scores[name].shape) for name in scores})


def _select(values: Tensor, open_: Tensor, n_pruned: int, where: str) -> Tensor:
    n_before = int((~open_).sum())
    if n_before > n_pruned:
        raise ValueError(
            f"{n_pruned} weights are to be removed {where}, but within has removed {n_before} already"
        )
    kept = open_.clone()
    kept[open_] = keep_highest(values[open_], n_pruned - n_before)
    return kept


def _open(name: str, shape: torch.Size, within: Mask | None) -> Tensor:
    if within is None or name not in within:
        return torch.ones(shape.numel(), dtype=torch.bool)
    if within[name].shape != shape:
        raise ValueError(
            f"within has shape {tuple(within[name].shape)} at {name!r}, the scores {tuple(shape)}"
        )
    return within[name].flatten()


def _one(value: Any, name: str, scores: Mapping[str, Tensor], what: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    if different := sorted(value.keys() ^ scores.keys()):
        raise ValueError(f"{what} and scores must name the same parameters; they differ in {different}")
    return value[name]
