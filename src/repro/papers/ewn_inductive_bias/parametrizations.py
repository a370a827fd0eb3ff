r"""Standard and exponential weight normalization of any module's Linear and Conv2d layers, neuron by neuron.

A neuron $u$ is a row of a linear layer or a filter of a convolution. Its incoming weights are written as a
length times a direction,

$$\text{SWN: } w_u = \gamma_u\,\frac{v_u}{\|v_u\|},\qquad \text{EWN: } w_u =
e^{\alpha_u}\,\frac{v_u}{\|v_u\|},$$

with $\|v_u\| = 1$ at the start, which the paper's clean flow equations need. PyTorch's own ``weight_norm``
starts from $v_u = w_u$ and follows another flow. Biases stay ordinary parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from repro.base import unknown
from repro.learn import folding
from repro.papers.ewn_inductive_bias._weight_norms import (
    CLASSES,
    ExponentialWeightNorm,
    StandardWeightNorm,
    norm,
    refuse_zero_rows,
    unit,
)

__all__ = [
    "METHODS",
    "ExponentialWeightNorm",
    "StandardWeightNorm",
    "directions",
    "effective_weights",
    "fold",
    "layer_methods",
    "lengths",
    "neuron_lengths",
    "normalize_weights",
    "renormalized",
    "unit_directions",
]

METHODS: tuple[str, ...] = ("plain", "swn", "ewn")
"""The three parametrisations that the paper compares; ``plain`` is its "Unnorm"."""

_NORMALIZABLE = (nn.Linear, nn.Conv2d)
_MAGNITUDE, _DIRECTION = "parametrizations.weight.original0", "parametrizations.weight.original1"


def lengths(weight: Tensor, batched: bool = False) -> Tensor:
    r"""Euclidean length of every neuron's incoming weights, $\|w_u\|$.

    Args:
        weight: ``(out, ...)``, or ``(members, out, ...)`` with ``batched=True``.

    Returns:
        ``(out,)``, or ``(members, out)``.
    """
    first = 2 if batched else 1
    return torch.linalg.vector_norm(weight, dim=tuple(range(first, weight.ndim)))


def _check_method(method: str) -> None:
    if method not in METHODS:
        raise ValueError(unknown("parametrisation", method, METHODS))


def _own(layer: nn.Module) -> StandardWeightNorm | None:
    """The weight normalization of this library that sits on a layer's weight, if one does."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    stack: Any = layer.parametrizations["weight"]  # type: ignore[index]
    return stack[0] if len(stack) == 1 and isinstance(stack[0], StandardWeightNorm) else None


def _layers(module: nn.Module) -> dict[str, nn.Module]:
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, _NORMALIZABLE)}


def normalize_weights(
    module: nn.Module, method: str = "ewn", layers: Sequence[str] | None = None
) -> nn.Module:
    """Register a weight normalization on a module's layers, in place; the network's function does not change.

    Args:
        module: any module.
        method: ``"plain"`` (nothing is registered), ``"swn"`` or ``"ewn"``.
        layers: names as in ``module.named_modules()``; ``None``: every Linear and Conv2d layer.

    Returns:
        The same module. Its weights equal the old ones to rounding (``exp(log(x))`` is not ``x`` bit by bit).

    Raises:
        ValueError: unknown method or layer, a layer that is neither Linear nor Conv2d, one whose weight is
            already parametrised, a neuron whose weights are all zero. Nothing has been changed then.
    """
    _check_method(method)
    candidates = _layers(module)
    names = list(candidates) if layers is None else list(layers)
    if not names:
        raise ValueError("there is no layer to normalise: the module has no Linear and no Conv2d layer")
    everything = dict(module.named_modules())
    for name in names:
        if name not in everything:
            raise ValueError(unknown("Linear or Conv2d layer", name, candidates))
        layer = everything[name]
        if name not in candidates:
            raise ValueError(
                f"layer {name!r} is a {type(layer).__name__}: only Linear and Conv2d can be normalised, "
                f"here {', '.join(map(repr, candidates))}"
            )
        if parametrize.is_parametrized(layer, "weight"):
            raise ValueError(f"the weight of layer {name!r} is already parametrised; call fold(module) first")
        refuse_zero_rows(candidates[name].weight, f"layer {name!r}")  # type: ignore[arg-type]
    if method != "plain":
        for name in names:
            n_dims = 1 if isinstance(candidates[name], nn.Linear) else 3
            parametrize.register_parametrization(candidates[name], "weight", CLASSES[method](n_dims))
    return module


def fold(module: nn.Module) -> nn.Module:
    """Turn normalised layers back into plain ones, in place, with bit by bit the same weights.

    Parametrisations that are not this module's are left alone. Returns the same module.
    """
    return folding.fold(module, StandardWeightNorm)


def layer_methods(module: nn.Module) -> dict[str, str]:
    """Which parametrisation each Linear and Conv2d layer has: name -> ``"plain"``, ``"swn"`` or ``"ewn"``."""
    found = {}
    for name, layer in _layers(module).items():
        own = _own(layer)
        if own is None and parametrize.is_parametrized(layer, "weight"):
            raise ValueError(
                f"the weight of layer {name!r} has a parametrisation that this library does not know"
            )
        found[name] = "plain" if own is None else own.method
    return found


def effective_weights(parameters: Mapping[str, Tensor], methods: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights that batched parameters stand for.

    Args:
        parameters: an ensemble's parameters, each ``(members, ...)``.
        methods: layer name -> parametrisation, from ``layer_methods`` of one member.

    Returns:
        Layer name -> weight ``(members, out, ...)``.
    """
    weights = {}
    for name, method in methods.items():
        prefix = f"{name}." if name else ""
        if method == "plain":
            weights[name] = parameters[f"{prefix}weight"]
        else:
            magnitude = parameters[prefix + _MAGNITUDE]
            v = parameters[prefix + _DIRECTION]
            weights[name] = CLASSES[method].scale(magnitude) / norm(v, v.ndim - 2) * v
    return weights


def neuron_lengths(module: nn.Module) -> dict[str, Tensor]:
    r"""Lengths $\|w_u\|$ of all neurons of all Linear and Conv2d layers: name -> ``(out,)``."""
    return {name: lengths(layer.weight.detach()) for name, layer in _layers(module).items()}  # type: ignore[operator]


def directions(module: nn.Module) -> dict[str, Tensor]:
    r"""Unit vectors $w_u/\|w_u\|$ of all neurons: name -> ``(out, ...)``.

    For SWN this is $\operatorname{sign}(\gamma_u)\,v_u/\|v_u\|$, defined also where $\gamma_u$ is tiny.
    """
    found = {}
    for name, layer in _layers(module).items():
        own = _own(layer)
        if own is None:
            weight: Tensor = layer.weight.detach()  # type: ignore[operator]
            found[name] = unit(weight, weight.ndim - 1)
        else:
            originals: Any = layer.parametrizations["weight"]  # type: ignore[index]
            sign = own.scale(originals.original0.detach()).sign()
            found[name] = sign * unit(originals.original1.detach(), own.n_dims)
    return found


def renormalized(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r"""Stacked parameters ``(members, ...)`` with every $v_u$ divided by its length; same weights.

    Gradient steps lengthen $v_u$ and so slow its turning; this keeps $\|v_u\| = 1$. The authors do not do it.
    """
    return {name: unit(p, p.ndim - 2) if name.endswith(_DIRECTION) else p for name, p in parameters.items()}


@torch.no_grad()
def unit_directions(model: nn.Module, step: int | None = None) -> None:
    r"""Divide every $v_u$ of a module by its length, in place; fits ``after_step`` (see ``renormalized``)."""
    for name, parameter in model.named_parameters():
        if name.endswith(_DIRECTION):
            parameter.copy_(unit(parameter, parameter.ndim - 1))
