"""Copies of networks in evaluation mode, data and masks that fit them: what curvature and noise both start from."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from repro.learn import Ensemble

__all__ = ["check_data", "check_names", "classes", "copied", "stacked_mask"]


def copied(model: Ensemble | nn.Module, dtype: torch.dtype) -> Ensemble:
    """A copy in this type and evaluation mode; a single module becomes an ensemble of one."""
    if not isinstance(model, (Ensemble, nn.Module)):
        raise TypeError(f"expected a torch module or an Ensemble, got a {type(model).__name__}")
    members = list(model) if isinstance(model, Ensemble) else [_without_draws(copy.deepcopy(model).eval())]
    return Ensemble([member.to(dtype) for member in members]).eval()


def _without_draws(module: nn.Module) -> nn.Module:
    """The same function in evaluation mode, without the layers of torch that draw random numbers in training."""
    for name, layer in list(module._modules.items()):  # one layer may stand in two places
        if layer is None:
            continue
        if type(layer).__module__ == nn.Dropout.__module__:
            setattr(module, name, nn.Identity())
        elif type(layer) is nn.RReLU:
            setattr(module, name, nn.LeakyReLU((layer.lower + layer.upper) / 2))
        else:
            _without_draws(layer)
    return module


def classes(y: Tensor) -> Tensor:
    """Classes of whatever whole type as int64, which the losses need; other targets as they are."""
    return y if y.is_floating_point() else y.long()


def check_data(x: Tensor, y: Tensor, size: int, per_member: bool) -> None:
    """Refuse data without examples, or with another number of inputs than classes."""
    leading = (size,) if per_member else ()
    n = y.shape[-1] if y.ndim else 0
    if n == 0:
        raise ValueError("there are no examples to take the loss of")
    if x.shape[: len(leading) + 1] != (*leading, n) or y.shape not in ((n,), (*leading, n)):
        raise ValueError(
            f"inputs must be {'(S, n, ...)' if per_member else '(n, ...)'} and classes (n,)"
            f"{' or (S, n)' if per_member else ''} with S = {size} networks; "
            f"got {tuple(x.shape)} and {tuple(y.shape)}"
        )


def check_names(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse names of parameters that are not among the known ones."""
    known = list(known)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no {what} parameter is called {unknown[0]!r}; there are {', '.join(known)}")


def stacked_mask(name: str, kept: Mapping[str, Tensor] | None, parameter: Tensor) -> Tensor:
    """The mask of a stacked parameter ``(S, *shape)``, in that shape; True throughout where ``kept`` names none."""
    if kept is None or name not in kept:
        return torch.ones_like(parameter, dtype=torch.bool)
    mask = kept[name]
    if mask.dtype != torch.bool or mask.shape not in (parameter.shape, parameter.shape[1:]):
        raise ValueError(
            f"the mask of {name!r} must be bool of shape {tuple(parameter.shape[1:])} or "
            f"{tuple(parameter.shape)}; got {mask.dtype} {tuple(mask.shape)}"
        )
    return mask.to(parameter.device).expand(parameter.shape)
