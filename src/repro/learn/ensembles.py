"""Networks of one architecture, many seeds, trained as one: their parameters stacked along a first dimension.

A small network leaves a processor idle most of the time: each step is dozens of tiny operations whose cost is
the call. Stacking S networks makes the operations S times larger and keeps their number.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from repro.learn._perceptrons import StackedPerceptron, plan_perceptron

__all__ = ["Ensemble"]


class Ensemble:
    r"""S networks of one architecture, evaluated and differentiated together.

    With members $f_{\theta_1},\dots,f_{\theta_S}$ the ensemble holds $\Theta=(\theta_1,\dots,\theta_S)$
    stacked, one tensor for each parameter name, and returns $(f_{\theta_1}(x),\dots,f_{\theta_S}(x))$. A
    sum of losses over members has $\partial/\partial\theta_i$ from member $i$ alone, so any elementwise
    optimiser (SGD with momentum, Adam, ...) trains every member as if it were alone. Optimisers that mix
    all their numbers (L-BFGS, clipping by a global norm) do not.

    Perceptrons (``nn.Sequential`` of linear layers, ``nn.Flatten`` in front and elementwise activations)
    run as batched matrix products; all else through ``torch.func``. ``nn.utils.parametrize`` works in both.
    Batch normalization works: each member keeps running statistics of its own.

    Not to be confused with an ensemble that averages its members' predictions: these are S separate runs.

    Attributes:
        parameters: name to leaf tensor ``(S, *shape)``, names as in ``nn.Module.named_parameters``.
        buffers: name to tensor ``(S, *shape)``.
    """

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """Stack the members' parameters and buffers; the members themselves are left alone.

        Args:
            members: at least one module; all with the same layers, shapes, types and trainable parameters.

        Raises:
            ValueError: no members, members that differ, or a layer that draws random numbers.
            TypeError: a member is not an ``nn.Module``.
        """
        members = list(members)
        _check_members(members)
        self._template = copy.deepcopy(members[0])
        self._size = len(members)
        self.parameters = {
            name: torch.stack([dict(m.named_parameters())[name].detach() for m in members]).requires_grad_(
                parameter.requires_grad
            )
            for name, parameter in members[0].named_parameters()
        }
        self.buffers = {
            name: torch.stack([dict(m.named_buffers())[name].detach() for m in members])
            for name, _ in members[0].named_buffers()
        }
        self._tie = _tied_tensors(self._template)
        self._plan: StackedPerceptron | None = plan_perceptron(self._template, self.parameters)
        shared = vmap(self._one, in_dims=(0, 0, None))
        apart = vmap(self._one, in_dims=(0, 0, 0))
        self._general = {False: shared, True: apart}

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        how = "batched matrix products" if self._plan is not None else "torch.func"
        return f"Ensemble of {self._size} ({how}): {self._template!r}"

    def _one(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Any:
        return functional_call(self._template, (parameters, buffers), (x,), tie_weights=self._tie)

    def __call__(
        self, x: Tensor, *, per_member: bool = False, parameters: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the outputs of all members.

        Args:
            x: inputs ``(n, ...)`` seen by all members, or ``(S, n, ...)`` with ``per_member=True``.
            per_member: whether ``x`` holds inputs of its own for each member.
            parameters: stacked tensors to use instead of ``self.parameters`` (all names, same shapes).

        Returns:
            Outputs ``(S, n, ...)``.

        Raises:
            ValueError: ``per_member`` inputs whose first dimension is not S, or missing parameter names.
        """
        if per_member and (x.ndim < 2 or x.shape[0] != self._size):
            raise ValueError(
                f"per_member=True needs inputs of shape (S, n, ...) with S = {self._size}; "
                f"got {tuple(x.shape)}"
            )
        if parameters is None:
            parameters = self.parameters
        elif missing := self.parameters.keys() - parameters.keys():
            raise ValueError(f"parameters lack {sorted(missing)}; an ensemble needs all of its names")
        if self._plan is not None and self._plan.accepts(x, per_member):
            return self._plan(x, parameters, self._size, per_member)
        output: Tensor = self._general[per_member](dict(parameters), self.buffers, x)
        return output

    def member(self, i: int) -> nn.Module:
        """Return a copy of member ``i`` as a plain module, sharing no memory with the ensemble.

        Args:
            i: index, 0 to S - 1; negative indices count from the end.

        Raises:
            IndexError: no such member.
        """
        if not -self._size <= i < self._size:
            raise IndexError(f"an ensemble of {self._size} has members 0 to {self._size - 1}; got {i}")
        module = copy.deepcopy(self._template)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.copy_(self.parameters[name][i])
            for name, buffer in module.named_buffers():
                buffer.copy_(self.buffers[name][i])
        return module

    def __iter__(self) -> Iterator[nn.Module]:
        return (self.member(i) for i in range(self._size))

    def to(self, device: torch.device | str) -> Self:
        """Move parameters and buffers in place (optimisers keep their references); return self."""
        self._template.to(device)
        for tensor in self.parameters.values():
            tensor.data = tensor.data.to(device)
            tensor.grad = None
        for name, tensor in self.buffers.items():
            self.buffers[name] = tensor.to(device)
        return self

    @property
    def training(self) -> bool:
        """Whether layers such as batch normalization are in training mode."""
        return self._template.training

    def train(self, mode: bool = True) -> Self:
        """Put the layers into training mode (or evaluation mode); return self."""
        self._template.train(mode)
        return self

    def eval(self) -> Self:
        """Put the layers into evaluation mode; return self."""
        return self.train(False)

    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of all stacked parameters and buffers, detached."""
        return {name: t.detach().clone() for name, t in (self.parameters | self.buffers).items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy stacked values in, as ``state_dict`` gave them (rewinding).

        Raises:
            ValueError: names or shapes differ from the ensemble's.
        """
        own = self.parameters | self.buffers
        if own.keys() != state.keys():
            raise ValueError(f"state and ensemble differ in the names {sorted(own.keys() ^ state.keys())}")
        with torch.no_grad():
            for name, tensor in own.items():
                if tensor.shape != state[name].shape:
                    raise ValueError(
                        f"{name} has shape {tuple(state[name].shape)} in the state and "
                        f"{tuple(tensor.shape)} in the ensemble"
                    )
                tensor.copy_(state[name])


def _tied_tensors(module: nn.Module) -> bool:
    """Whether two different layers share a tensor, which ``functional_call`` must then put into both.

    A layer that stands in two places needs no such care, and with it ``functional_call`` (PyTorch 2.13) would
    leave its arguments in the module.
    """
    own = [id(p) for layer in module.modules() for p in layer._parameters.values() if p is not None]
    tied = len(set(own)) < len(own)
    places = sum(1 for _ in module.named_modules(remove_duplicate=False))
    if tied and places > sum(1 for _ in module.modules()):
        raise ValueError(
            "a network with both tied tensors and a layer that stands in two places is not supported"
        )
    return tied


def _signature(module: nn.Module) -> dict[str, tuple[Any, ...]]:
    layers = {f"layer {n!r}": (m.extra_repr(), type(m).__name__) for n, m in module.named_modules()}
    parameters = {n: (tuple(p.shape), p.dtype, p.requires_grad) for n, p in module.named_parameters()}
    buffers = {n: (tuple(b.shape), b.dtype) for n, b in module.named_buffers()}
    return layers | parameters | buffers


def _check_members(members: Sequence[nn.Module]) -> None:
    if not members:
        raise ValueError("an ensemble needs at least one member, got none")
    for i, member in enumerate(members):
        if not isinstance(member, nn.Module):
            raise TypeError(f"members must be torch modules; member {i} is a {type(member).__name__}")
    first = _signature(members[0])
    for i, member in enumerate(members[1:], start=1):
        other = _signature(member)
        if different := [name for name in first | other if first.get(name) != other.get(name)]:
            name = different[0]
            raise ValueError(
                f"members must be alike; member 0 and member {i} differ in {name}: "
                f"{first.get(name, 'absent')} against {other.get(name, 'absent')}"
            )
    for name, layer in members[0].named_modules():
        if isinstance(layer, (nn.modules.dropout._DropoutNd, nn.RReLU)):
            raise ValueError(
                f"layer {name!r} ({type(layer).__name__}) draws random numbers at every step; "
                "an ensemble could not draw what each member would draw alone"
            )
