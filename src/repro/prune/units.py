"""Structured pruning: whole neurons and filters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from repro.base import unknown
from repro.prune._checks import described, flat_scores, is_plain, one_network
from repro.prune.masks import Mask
from repro.prune.scores import WITH_UNITS
from repro.prune.selection import keep_highest, n_to_prune

__all__ = ["select_units", "unit_mask"]


def select_units(scores: Tensor, sparsity: float | None = None, *, n_pruned: int | None = None) -> Tensor:
    r"""Return which units stay: the $\lfloor p\,n \rfloor$ lowest go, of equal ones the lowest index first.

    Args:
        scores: ``(n_units,)``, or ``(S, n_units)`` for S members, each judged by itself.
        sparsity: fraction of *units* to remove, in [0, 1]. The fraction of weights that goes differs in
            general.
        n_pruned: number of units to remove instead.

    Returns:
        Bool tensor in the shape of ``scores``, True = kept.

    Raises:
        ValueError: a value out of range, NaN scores, another shape.
    """
    flat = flat_scores("the units", scores)
    if scores.ndim not in (1, 2) or scores.shape[-1] == 0:
        raise ValueError(f"scores of units have shape (n_units,) or (S, n_units); got {tuple(scores.shape)}")
    n = n_to_prune(scores.shape[-1], sparsity=sparsity, n_pruned=n_pruned)
    return torch.stack([keep_highest(row, n) for row in flat.reshape(-1, scores.shape[-1])]).reshape(
        scores.shape
    )


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
    one_network(model)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, WITH_UNITS)}
    if layer not in layers:
        raise ValueError(unknown("linear or convolutional layer", layer, layers))
    weight, bias = layers[layer].weight, layers[layer].bias
    if not is_plain(keep) or keep.dtype != torch.bool:
        raise TypeError(f"keep must be a bool tensor (True = kept), got {described(keep)}")
    if keep.ndim not in (1, 2) or keep.shape[-1] != weight.shape[0]:
        raise ValueError(f"layer {layer!r} has {weight.shape[0]} units; keep has shape {tuple(keep.shape)}")
    per_weight = keep.reshape(*keep.shape, *(1 for _ in weight.shape[1:]))
    kept = {"weight": per_weight.expand(*keep.shape, *weight.shape[1:])}
    if bias is not None:
        kept["bias"] = keep
    return Mask({f"{layer}.{name}".lstrip("."): tensor for name, tensor in kept.items()})
