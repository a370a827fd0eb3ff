"""Turning parametrised layers back into plain ones."""

from __future__ import annotations

from torch import enable_grad, nn
from torch.nn.utils import parametrize


def fold(module: nn.Module, *kinds: type[nn.Module]) -> nn.Module:
    """Turn layers whose tensors are parametrised into plain ones, in place, with bit by bit the same weights.

    Args:
        module: any module.
        kinds: classes of parametrizations to fold; tensors with another one, or with several, are left alone.

    Returns:
        The same module.
    """
    for layer in module.modules():
        for own in list(layer.parametrizations) if parametrize.is_parametrized(layer) else ():  # type: ignore[arg-type]
            chain = list(layer.parametrizations[own])  # type: ignore[index]
            if len(chain) == 1 and isinstance(chain[0], kinds):
                _class_of_its_own(layer)
                with enable_grad():  # under no_grad PyTorch would leave a tensor where a parameter belongs
                    parametrize.remove_parametrizations(layer, own, leave_parametrized=True)
                if not isinstance(
                    getattr(layer, own), nn.Parameter
                ):  # several originals, none of them trained
                    weight = layer.get_buffer(own)
                    delattr(layer, own)
                    layer.register_parameter(own, nn.Parameter(weight, requires_grad=False))
    return module


def _class_of_its_own(layer: nn.Module) -> None:
    """Keep PyTorch from breaking other copies of a parametrised layer.

    A parametrised layer's weight is a property of a class made for it; copies share the class, and removing
    the parametrisation of one copy deletes the property for all.
    """
    shared = type(layer)
    members = {k: v for k, v in vars(shared).items() if k not in ("__dict__", "__weakref__")}
    layer.__class__ = type(shared.__name__, shared.__bases__, members)
