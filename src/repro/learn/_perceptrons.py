"""The fast path of ensembles: linear layers and elementwise activations as batched matrix products.

Activations are kept as ``(S, features, n)``: weights then stand on the left of every product as they are
stored, and the first layer of networks that see the same inputs is one ordinary matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.utils import parametrize

__all__ = ["StackedPerceptron", "plan_perceptron"]

Function = Callable[[Tensor], Tensor]

ELEMENTWISE = (
    nn.CELU, nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.Identity, nn.LeakyReLU,
    nn.LogSigmoid, nn.Mish, nn.ReLU, nn.ReLU6, nn.SELU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Softsign,
    nn.Tanh,
)  # fmt: skip


@dataclass(frozen=True)
class _Linear:
    weight: str
    bias: str | None


@dataclass(frozen=True)
class StackedPerceptron:
    """S perceptrons at once; made by ``plan_perceptron``.

    Attributes:
        flatten: whether inputs ``(n, ...)`` become ``(n, features)`` first.
        steps: linear layers (by the names of their tensors) and elementwise functions, in order.
        effective: computes the tensors that are parametrised, from the ones that are trained.
    """

    flatten: bool
    steps: tuple[_Linear | Function, ...]
    effective: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None

    def accepts(self, x: Tensor, per_member: bool) -> bool:
        """Return whether inputs of this shape are a matrix for each member."""
        return x.ndim == 2 + per_member or (self.flatten and x.ndim > 2 + per_member)

    def __call__(self, x: Tensor, tensors: Mapping[str, Tensor], size: int, per_member: bool) -> Tensor:
        """Return outputs ``(S, n, k)``."""
        if self.effective is not None:
            tensors = {**tensors, **self.effective(tensors)}
        if self.flatten:
            x = x.flatten(1 + per_member)
        h = x.transpose(-1, -2) if per_member else x.t().expand(size, -1, -1)
        for step in self.steps:
            if not isinstance(step, _Linear):
                h = step(h)
            elif step.bias is None:
                h = torch.bmm(tensors[step.weight], h)
            else:
                h = torch.baddbmm(tensors[step.bias].unsqueeze(-1), tensors[step.weight], h)
        return h.transpose(1, 2)


def _layers(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]] | None:
    """The chain of layers of nested ``nn.Sequential``, or None for any other module."""
    chain: list[tuple[str, nn.Module]] = []
    # not named_children(), which leaves out the second use of a layer that stands in two places
    for name, child in module._modules.items():
        if child is None:
            return None
        if isinstance(child, nn.Sequential):
            nested = _layers(child, f"{prefix}{name}.")
            if nested is None:
                return None
            chain += nested
        else:
            chain.append((prefix + name, child))
    return chain if type(module) is nn.Sequential else None


def _has_hooks(module: nn.Module) -> bool:
    return any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in module.modules())


def _is_linear(layer: nn.Module) -> bool:
    # parametrize changes the class of a layer to one made on the spot, derived from the original class
    return type(layer) is nn.Linear or (
        parametrize.is_parametrized(layer) and type(layer).__base__ is nn.Linear
    )


def _parametrizations(layer: nn.Module) -> dict[str, parametrize.ParametrizationList]:
    if not parametrize.is_parametrized(layer):
        return {}
    assert isinstance(layer.parametrizations, nn.ModuleDict)
    return {
        name: chain
        for name, chain in layer.parametrizations.items()
        if isinstance(chain, parametrize.ParametrizationList)
    }


def plan_perceptron(module: nn.Module, parameters: Mapping[str, Tensor]) -> StackedPerceptron | None:
    """Return how to run ``module`` with stacked parameters, or None if it is not a perceptron.

    Two class attributes let modules join: an activation with ``elementwise = True`` counts as one of
    PyTorch's own elementwise activations; a parametrization with ``stackable = True`` says that it acts on
    tensors ``(S, *shape)`` as on S tensors ``(*shape)`` (norms over the *last* dimension, say), and is then
    spared the cost of ``vmap``.

    Raises:
        ValueError: a parametrization that says ``stackable = True`` and is not.
    """
    chain = _layers(module)
    if not chain or _has_hooks(module):
        return None
    flatten = isinstance(chain[0][1], nn.Flatten) and (chain[0][1].start_dim, chain[0][1].end_dim) == (1, -1)
    steps: list[_Linear | Function] = []
    derived: dict[str, parametrize.ParametrizationList] = {}
    for name, layer in chain[flatten:]:
        if _is_linear(layer):
            assert isinstance(layer, nn.Linear)
            steps.append(_Linear(f"{name}.weight", None if layer.bias is None else f"{name}.bias"))
            for tensor, lists in _parametrizations(layer).items():
                if any(True for p in lists for _ in p.parameters()):
                    return None
                derived[f"{name}.{tensor}"] = lists
        elif isinstance(layer, nn.Identity):
            continue
        elif type(layer) in ELEMENTWISE or getattr(layer, "elementwise", False) is True:
            steps.append(layer.forward)
        else:
            return None
    linear = [step for step in steps if isinstance(step, _Linear)]
    needed = {step.weight for step in linear} | {step.bias for step in linear if step.bias is not None}
    # a name that is missing belongs to a tensor that two layers share
    if not linear or not needed <= parameters.keys() | derived.keys() or any(True for _ in module.buffers()):
        return None
    return StackedPerceptron(flatten, tuple(steps), _effective(derived, parameters) if derived else None)


def _apply(chain: parametrize.ParametrizationList, originals: Sequence[Tensor]) -> Tensor:
    first, *rest = cast("list[nn.Module]", list(chain))
    value: Tensor = first.forward(*originals)
    for parametrization in rest:
        value = parametrization.forward(value)
    return value


def _effective(
    derived: dict[str, parametrize.ParametrizationList], parameters: Mapping[str, Tensor]
) -> Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]:
    """Return a function from trained tensors to parametrised ones, all with leading dimension S."""
    names: dict[str, list[str]] = {}
    for target, chain in derived.items():
        layer, tensor = target.rsplit(".", 1)
        names[target] = [f"{layer}.parametrizations.{tensor}.{own}" for own, _ in chain.named_parameters()]

    def gather(tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        return {target: [tensors[name] for name in own] for target, own in names.items()}

    def together(own: dict[str, list[Tensor]]) -> dict[str, Tensor]:
        return {target: _apply(derived[target], originals) for target, originals in own.items()}

    # one vmap for all layers: entering it costs more than the arithmetic of a small network
    one_by_one = vmap(together)

    def by_vmap(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        result: dict[str, Tensor] = one_by_one(gather(tensors))
        return result

    def directly(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return together(gather(tensors))

    if all(getattr(p, "stackable", False) is True for chain in derived.values() for p in chain):
        _check_stackable(by_vmap(parameters), directly(parameters))
        return directly
    return by_vmap


def _check_stackable(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    for target, tensor in expected.items():
        if got[target].shape != tensor.shape or not torch.allclose(got[target], tensor, equal_nan=True):
            raise ValueError(
                f"the parametrization of {target} says stackable = True, "
                "but acts differently on a stack (S, ...) than on its members one by one"
            )
