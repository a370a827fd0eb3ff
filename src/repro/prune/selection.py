"""Selection: from scores to a mask of weights or units, exact and with a stable tie rule; how far two agree."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from repro.base import one_of, whole
from repro.prune.masks import Mask
from repro.prune.scores import _WITH_UNITS


def _n_to_prune(n: int, *, sparsity: float | None = None, n_pruned: int | None = None) -> int:
    r"""Return how many of n to remove: $\lfloor p\,n \rfloor$, or the number asked for.

    The product is meant as in decimal arithmetic: 0.29 of 100 is 29, though ``0.29 * 100`` is a little less.
    A result within $10^{-12} n$ of a whole number counts as that number.

    Args:
        n: how many there are.
        sparsity: fraction p to remove, in [0, 1]; or
        n_pruned: how many to remove, in [0, n].

    Raises:
        ValueError: neither or both given, or a value outside its range.
    """
    if (sparsity is None) == (n_pruned is None):
        raise ValueError(f"give either sparsity or n_pruned; got sparsity={sparsity}, n_pruned={n_pruned}")
    if n_pruned is not None:
        if whole("n_pruned", n_pruned, 0) > n:
            raise ValueError(f"n_pruned must lie between 0 and {n}, the number there is; got {n_pruned}")
        return int(n_pruned)
    # the digits as written: a float32 0.29 means 0.29, not 0.28999999
    p = float(str(sparsity)) if isinstance(sparsity, np.floating) else float(sparsity)  # type: ignore[arg-type]
    if not 0 <= p <= 1:
        raise ValueError(f"sparsity is the fraction removed and must lie in [0, 1]; got {sparsity}")
    return min(n, floor(p * n + 1e-12 * n))


def keep_highest(scores: Tensor, n_pruned: int) -> Tensor:
    """Return a bool vector, False at the ``n_pruned`` lowest of ``scores`` (n,), of equal ones the first.

    Raises:
        ValueError: scores that are no vector, or NaN.
    """
    if scores.ndim != 1 or bool(scores.isnan().any()):
        found = f"{int(scores.isnan().sum())} NaN in the shape {tuple(scores.shape)}"
        raise ValueError(f"scores must be a vector of comparable numbers, got {found}")
    if n_pruned == 0:
        return torch.ones(scores.shape, dtype=torch.bool)
    threshold = scores.kthvalue(n_pruned).values
    pruned, tied = scores < threshold, scores == threshold
    pruned |= tied & (tied.cumsum(0) <= n_pruned - pruned.sum())
    return ~pruned


def select(
    scores: Mapping[str, Tensor],
    *,
    sparsity: float | None = None,
    n_pruned: int | None = None,
    within: Mask | None = None,
) -> Mask:
    r"""Return the mask that removes exactly the $\lfloor p\,n \rfloor$ (or ``n_pruned``) lowest scores.

    Tie rule: of equal scores, the one that stands first is removed first; first in the order of the names in
    ``scores``, then in the flat (row-major) index. So the number is exact whatever the ties, masks of rising
    sparsity are nested, and no sort's whim decides.

    Scores are compared across parameters. To remove the same share of each, select from one after the other:
    ``Mask({name: select({name: s}, sparsity=p)[name] for name, s in scores.items()})``.

    Args:
        scores: parameter name to scores, one a weight, higher is better; infinities are allowed.
        sparsity: fraction of all weights to remove, in [0, 1].
        n_pruned: number to remove instead.
        within: a mask whose removed weights stay removed. They go first and count as removed. It names no others
            than ``scores`` does.

    Returns:
        A mask over the names of ``scores``.

    Raises:
        ValueError: values out of range, scores that are NaN, or a ``within`` that removes more already or speaks of
            other parameters.
    """
    before: Mapping[str, Tensor] = within or {}
    if other := sorted(before.keys() - scores.keys()):
        raise ValueError(f"within names {', '.join(other)}, which have no scores; combine it by & afterwards")
    flat = torch.cat([values.detach().cpu().double().flatten() for values in scores.values()])
    kept = torch.cat([before.get(n, torch.ones(s.shape).bool()).flatten() for n, s in scores.items()])
    n, n_before = _n_to_prune(len(flat), sparsity=sparsity, n_pruned=n_pruned), int((~kept).sum())
    if n_before > n:
        raise ValueError(f"{n} weights are to be removed, but within has removed {n_before} already")
    kept[kept.clone()] = keep_highest(flat[kept], n - n_before)
    parts = kept.split([values.numel() for values in scores.values()])
    return Mask({name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)})


# --- whole neurons and filters ------------------------------------------------------------------------------------


def select_units(scores: Tensor, sparsity: float) -> Tensor:
    r"""Return which units stay: the $\lfloor p\,n \rfloor$ lowest go, of equal ones the lowest index first.

    Args:
        scores: ``(n_units,)``, or ``(S, n_units)`` for S members, each judged by itself.
        sparsity: fraction of *units* to remove, in [0, 1]. The fraction of weights that goes differs in
            general.

    Returns:
        Bool tensor in the shape of ``scores``, True = kept.

    Raises:
        ValueError: a value out of range, or NaN scores.
    """
    n = _n_to_prune(scores.shape[-1], sparsity=sparsity)
    rows = scores.detach().cpu().double().reshape(-1, scores.shape[-1])
    return torch.stack([keep_highest(row, n) for row in rows]).view(scores.shape)


def unit_mask(model: nn.Module, layer: str, keep: Tensor) -> Mask:
    """Return the mask that removes units of one layer: rows or filters of its weight, and biases.

    A removed unit puts out 0 before the activation. That removes it from the network only where what follows
    maps 0 to 0 (ReLU, tanh), not through batch normalization or a sigmoid. Its outgoing weights stay (they
    multiply zero). Masks of several layers combine with ``&``.

    Args:
        model: the network. The layer may be parametrised still; then fold it before the mask is applied.
        layer: name of a linear or convolutional (not transposed) layer, as ``named_modules`` gives it (``""`` for
            the model itself).
        keep: bool ``(n_units,)``; ``(S, n_units)`` gives a mask with a leading dimension for an ensemble.

    Returns:
        A mask over ``LAYER.weight`` and, where there is one, ``LAYER.bias``.

    Raises:
        ValueError: an unknown layer, one of another kind, or ``keep`` of another length.
        TypeError: ``keep`` is not bool.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, _WITH_UNITS)}
    named = layers[one_of("linear or convolutional layer", layer, layers)]
    weight, bias = named.weight, named.bias
    if keep.shape[-1:] != weight.shape[:1]:
        raise ValueError(f"layer {layer!r} has {weight.shape[0]} units; keep has shape {tuple(keep.shape)}")
    per_weight = keep.reshape(*keep.shape, *(1 for _ in weight.shape[1:]))
    kept = {"weight": per_weight.expand(*keep.shape, *weight.shape[1:])}
    if bias is not None:
        kept["bias"] = keep
    return Mask({f"{layer}.{name}".lstrip("."): tensor for name, tensor in kept.items()})


# --- how far two selections agree --------------------------------------------------------------------------------

_Set = Tensor | NDArray[np.bool_]


def jaccard(a: _Set, b: _Set) -> float:
    r"""Return $|A\cap B|/|A\cup B|$ of two sets, given as bool vectors ``(n,)`` of members; 1 for two empty ones.

    Raises:
        ValueError: vectors of other types or lengths.
    """
    if not str(a.dtype).endswith("bool") or not str(b.dtype).endswith("bool") or a.shape != b.shape:
        both = f"{a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}"
        raise ValueError(f"two sets are bool vectors of one length, got {both}")
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def expected_jaccard(n_first: int, n_second: int, n: int) -> float:
    r"""Return the mean Jaccard index of independent random sets of sizes k and m out of n.

    $E\,\frac{H}{k+m-H}$ with H hypergeometric, from the ratios of neighboring probabilities,
    $\frac{P(h+1)}{P(h)} = \frac{(k-h)(m-h)}{(h+1)(n-k-m+h+1)}$: SciPy's takes 20 microseconds a value, and there are
    tens of thousands of values. 1 for two empty sets.
    """
    if n_first + n_second == 0:
        return 1.0
    h = np.arange(max(0, n_first + n_second - n), min(n_first, n_second) + 1)
    now = h[:-1]
    ratios = (n_first - now) * (n_second - now) / ((now + 1) * (n - n_first - n_second + now + 1))
    logs = np.concatenate([[0.0], np.log(ratios).cumsum()])
    probabilities = np.exp(logs - logs.max())
    return float((probabilities * h / (n_first + n_second - h)).sum() / probabilities.sum())
