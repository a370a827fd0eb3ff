r"""What the theory says about nodes at vanishing loss, as numbers: directions, lengths, spreads, sparsity.

All take lengths of weights and gradients with nodes in the last dimension. Gradients may be those of the loss
or of its logarithm: every quantity here is the same for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repro.geometry.parametrizations import row_dot, row_norm

__all__ = [
    "ACTIVE_GROWTH",
    "Nodes",
    "active_nodes",
    "count_long",
    "gini",
    "node_quantities",
    "pair_predictions",
    "relation_sign",
    "spread",
    "top_share",
]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

ACTIVE_GROWTH = 1.15
"""A node is active if it grows by this factor while z doubles; theory says 2^(1/3) = 1.26 for Lin-Sep."""


@dataclass(frozen=True, eq=False)
class Nodes:
    r"""Lengths and directions of all nodes, layer after layer.

    Attributes:
        layer: index of each node's layer, ``(n_nodes,)``.
        weight_norm: $\|w_u\|$, ``(..., n_nodes)``.
        gradient_norm: $\|g_u\|$, ``(..., n_nodes)``.
        cosine: $\langle w_u, g_u\rangle/(\|w_u\|\|g_u\|)$; NaN where the gradient is zero (a dead unit).
    """

    layer: NDArray[np.int64]
    weight_norm: Array
    gradient_norm: Array
    cosine: Array


def node_quantities(weights: Sequence[Array], gradients: Sequence[Array]) -> Nodes:
    """Lengths and cosines of the rows of all layers; matrices ``(..., n_out, n_in)``."""
    layer = np.concatenate([np.full(w.shape[-2], i) for i, w in enumerate(weights)])
    lengths = np.concatenate([row_norm(w) for w in weights], axis=-1)
    slopes = np.concatenate([row_norm(g) for g in gradients], axis=-1)
    inner = np.concatenate([row_dot(w, g) for w, g in zip(weights, gradients, strict=True)], axis=-1)
    # A dead unit's gradient is zero, or too small for its square: it has no direction, hence NaN, not
    # infinity.
    product = lengths * slopes
    cosine = np.divide(inner, product, out=np.full_like(product, np.nan), where=product > 0)
    return Nodes(layer, lengths, slopes, cosine)


def active_nodes(length: Array, length_at_half: Array, growth: float = ACTIVE_GROWTH) -> Mask:
    r"""Nodes that still grow: $\|w_u\|(z) / \|w_u\|(z/2) \ge$ ``growth``.

    The rule replaces the authors' choice of nodes by eye and is fixed in advance (chosen here).
    """
    return length / length_at_half >= growth


def relation_sign(method: str) -> int:
    r"""Sign $s$ for which $\log\|g_u\| + s\log\|w_u\|$ is the same for all nodes: +1 for EWN, else -1."""
    if method not in ("plain", "swn", "ewn"):
        raise ValueError(f"unknown method {method!r}: accepted are plain, swn, ewn")
    return 1 if method == "ewn" else -1


def spread(weight_norm: Array, gradient_norm: Array, sign: int, among: Mask | None = None) -> float:
    r"""Range over nodes of $\log\|g_u\| + s\log\|w_u\|$: 0 when the relation holds exactly.

    Args:
        weight_norm: ``(n_nodes,)``.
        gradient_norm: ``(n_nodes,)``.
        sign: $s$, see :func:`relation_sign`; the other sign is the negative control.
        among: which nodes to take; all if not given.

    Returns:
        Maximum minus minimum; NaN for fewer than two nodes, for which the relation says nothing.
    """
    chosen = np.ones(weight_norm.shape, dtype=bool) if among is None else among
    if chosen.sum() < 2:
        return float("nan")
    return float(np.ptp(np.log(gradient_norm[chosen]) + sign * np.log(weight_norm[chosen])))


def pair_predictions(
    early: Nodes, late_norm: Array, method: str, among: Mask, aligned: float = -0.99, margin: float = 0.01
) -> tuple[int, int]:
    r"""Sign test of relative sparsity over all pairs of aligned nodes.

    With $r = \|w_u\|/\|w_v\|$ and $c = \|g_u\|/\|g_v\|$, EWN makes $r$ grow iff $rc > 1$ (long nodes run
    away), plain and SWN flow make it grow iff $c > r$ (lengths equalise with slopes).

    Args:
        early: nodes at the time of the prediction, one dimension.
        late_norm: lengths at the later time, ``(n_nodes,)``.
        method: ``"plain"``, ``"swn"`` or ``"ewn"``.
        among: nodes that take part, for example the hidden ones.
        aligned: largest cosine of a node that counts as anti-parallel to its gradient.
        margin: pairs with $|\log rc|$ (or $|\log c/r|$) below it are too close to the balance point to call.

    Returns:
        Number of correct predictions, number of predictions.
    """
    sign = relation_sign(method)
    with np.errstate(invalid="ignore"):
        chosen = np.flatnonzero(among & (early.cosine < aligned))
    log_w, log_g = np.log(early.weight_norm[chosen]), np.log(early.gradient_norm[chosen])
    growth = np.log(late_norm[chosen]) - log_w
    u, v = np.triu_indices(chosen.size, k=1)
    force = (log_g + sign * log_w)[u] - (log_g + sign * log_w)[v]
    decided = np.abs(force) > margin
    correct = np.sign(force) == np.sign(growth[u] - growth[v])
    return int((correct & decided).sum()), int(decided.sum())


def gini(lengths: ArrayLike) -> float:
    r"""Gini coefficient, $\sum_i (2i - n - 1)\,w_{(i)} / (n\sum_i w_i)$: 0 when all are equal."""
    ordered = np.sort(_lengths(lengths))
    n = ordered.size
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def count_long(lengths: ArrayLike, fraction: float = 0.2) -> int:
    """Number of nodes longer than a fraction of the longest."""
    array = _lengths(lengths)
    return int((array > fraction * array.max()).sum())


def top_share(lengths: ArrayLike, k: int = 4) -> float:
    """Share of the sum of squared lengths that the k longest nodes hold."""
    squared = np.sort(_lengths(lengths) ** 2)[::-1]
    if not 1 <= k <= squared.size:
        raise ValueError(f"k must lie between 1 and the number of nodes {squared.size}, got {k}")
    return float(squared[:k].sum() / squared.sum())


def _lengths(lengths: ArrayLike) -> Array:
    array = np.asarray(lengths, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not (array >= 0).all() or not array.sum() > 0:
        raise ValueError(f"lengths must be a list of non-negative numbers, not all zero, got {array}")
    return array
