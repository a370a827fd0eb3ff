"""Scores of weights and of units: one number each, and the lowest go first.

Every weight score has the signature ``score(model, names=None, *, generator=None)``, so that one can stand in
for another in a comparison; a score that needs no random numbers ignores the generator.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from repro.base import unknown
from repro.prune._checks import one_network

__all__ = ["magnitude", "prunable", "random", "unit_norms"]


def prunable(model: nn.Module, *, include_last: bool = True) -> dict[str, nn.Linear | nn.Conv2d]:
    """Return the layers whose weights can be pruned: ``nn.Linear`` and ``nn.Conv2d``, as registered.

    Biases and normalization layers are never among them. A weight shared by two layers is listed once.

    Args:
        model: the network. A parametrised layer is listed under the name of its *effective* weight.
        include_last: whether the layer registered last (in most networks the classifier) is among them.

    Returns:
        Weight name (``"0.weight"``) to layer.

    Raises:
        ValueError: nothing to prune.
    """
    one_network(model)
    own = {name for name, _ in model.named_parameters()}  # lists a shared parameter once
    layers = {
        name: module
        for prefix, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        and ((name := f"{prefix}.weight".lstrip(".")) in own or parametrize.is_parametrized(module, "weight"))
    }
    if not include_last and layers:
        layers.popitem()
    if not layers:
        rest = "" if include_last else " besides its last layer, which include_last=False leaves out"
        raise ValueError(f"{type(model).__name__} has no nn.Linear or nn.Conv2d to prune{rest}")
    return layers


def magnitude(
    model: nn.Module, names: Iterable[str] | None = None, *, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Score each weight by its size, $|w|$.

    Args:
        model: the network; of a parametrised layer the effective weight counts.
        names: weight names, as ``prunable`` lists them; all of these by default.
        generator: not used.

    Returns:
        Weight name to scores, in the shape of the weight.

    Raises:
        ValueError: an unknown name, or nothing to prune.
    """
    return {name: weight.abs() for name, weight in _weights(model, names).items()}


def random(
    model: nn.Module, names: Iterable[str] | None = None, *, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Score each weight by a uniform random number: the floor under every other score.

    Args:
        model: the network.
        names: weight names, as ``prunable`` lists them; all of these by default.
        generator: source of the numbers, on the processor; required, so that every run can be repeated.

    Returns:
        Weight name to scores in [0, 1), float64, in the shape of the weight.

    Raises:
        ValueError: no generator, an unknown name, or nothing to prune.
    """
    if generator is None:
        raise ValueError("random scores need generator=torch.Generator().manual_seed(...); got None")
    return {
        name: torch.rand(weight.shape, generator=generator, dtype=torch.float64)
        for name, weight in _weights(model, names).items()
    }


def unit_norms(
    model: nn.Module, names: Iterable[str] | None = None, *, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    r"""Score each unit by the length of its incoming weights, $\|w_u\|_2$ over row or filter, without bias.

    Not to be confused with ``magnitude``, which has one score a weight.

    Source: one of the scores of *Inductive Bias of Gradient Descent for Weight Normalized Smooth Homogeneous
    Neural Nets* (arXiv 2010.12909), E13 and E17. Explained in: chapter ``ewn-inductive-bias``.

    Args:
        model: the network; of a parametrised layer the effective weight counts.
        names: weight names, as ``prunable`` lists them; all of these by default.
        generator: not used.

    Returns:
        Layer name (``"0"``, as ``units.unit_mask`` takes it) to scores ``(n_units,)``.

    Raises:
        ValueError: an unknown name, or nothing to prune.
    """
    return {
        name.removesuffix("weight").removesuffix("."): weight.flatten(start_dim=1).norm(dim=1)
        for name, weight in _weights(model, names).items()
    }


def _weights(model: nn.Module, names: Iterable[str] | None) -> dict[str, Tensor]:
    layers = prunable(model)
    chosen = list(layers) if names is None else [names] if isinstance(names, str) else list(names)
    for name in chosen:
        if name not in layers:
            raise ValueError(unknown("prunable weight", name, layers))
    with torch.no_grad():
        return {name: layers[name].weight.detach() for name in chosen}
