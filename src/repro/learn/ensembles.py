"""Networks of one architecture, many seeds, trained as one: their parameters stacked along a first dimension.

A small network leaves a processor idle most of the time: each step is dozens of tiny operations whose cost is
the call. Stacking S networks makes the operations S times larger and keeps their number.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils import parametrize

from repro.learn.seeding import initialization


class Ensemble:
    r"""S networks of one architecture, evaluated and differentiated together.

    With members $f_{\theta_1},\dots,f_{\theta_S}$ the ensemble holds $\Theta=(\theta_1,\dots,\theta_S)$
    stacked, one tensor for each parameter name, and returns $(f_{\theta_1}(x),\dots,f_{\theta_S}(x))$. A
    sum of losses over members has $\partial/\partial\theta_i$ from member $i$ alone, so any elementwise
    optimiser (SGD with momentum, Adam, ...) trains every member as if it were alone. Optimisers that mix
    all their numbers (L-BFGS, clipping by a global norm) do not.

    Perceptrons (``nn.Sequential`` of linear layers, ``nn.Flatten`` in front and elementwise activations)
    run as batched matrix products; all else through ``torch.func``, but for convolutions on a CPU: they fill it
    alone, so members run one after the other there, channels last. ``nn.utils.parametrize`` works in all three.
    Batch normalization works: each member keeps running statistics of its own. Layers that draw random numbers at
    every step (dropout) cannot draw what each member would draw alone: ``torch.func`` refuses them.

    Two class attributes let modules join the fast path: an activation with ``elementwise = True`` counts as one
    of PyTorch's own elementwise activations; a parametrization with ``stackable = True`` says that it acts on
    tensors ``(S, *shape)`` as on S tensors ``(*shape)`` (norms over the *last* dimension, say), and is then
    spared the cost of ``vmap``.

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
            ValueError: no members, members that differ, a parameter that two of a member's layers share, or a
                parametrization that says ``stackable = True`` and is not.
        """
        members = list(members)
        _check_members(members)
        self._template = copy.deepcopy(members[0])
        self._size = len(members)
        self.parameters, self.buffers = stack_module_state(members)
        self._plan = _plan(self._template, self.parameters)
        self._convolutional = any(isinstance(layer, nn.Conv2d) for layer in self._template.modules())

    @classmethod
    def drawn(cls, build: Callable[[], nn.Module], seeds: Sequence[int]) -> Self:
        """Return one new network a seed, each built under its own ``initialization``."""
        members = []
        for seed in seeds:
            with initialization(seed):
                members.append(build())
        return cls(members)

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        others = "member by member on a CPU" if self._convolutional else "torch.func"
        how = "batched matrix products" if self._plan is not None else others
        return f"Ensemble of {self._size} ({how}): {self._template!r}"

    def _one(self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Any:
        return functional_call(self._template, (parameters, buffers), (x,), tie_weights=False)

    def _in_turn(self, x: Tensor, parameters: Mapping[str, Tensor], per_member: bool) -> Tensor:
        """Two to three times as fast as grouped convolutions on one core."""
        unbound = {name: tensor.unbind() for name, tensor in parameters.items()}
        apart = [{name: members[i] for name, members in unbound.items()} for i in range(self._size)]
        buffers = [{name: tensor[i] for name, tensor in self.buffers.items()} for i in range(self._size)]
        inputs = map(_channels_last, x) if per_member else [_channels_last(x)] * self._size
        return torch.stack([self._one(*each) for each in zip(apart, buffers, inputs, strict=True)])

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
            ValueError: ``per_member`` inputs whose first dimension is not S.
        """
        if per_member and (x.ndim < 2 or x.shape[0] != self._size):
            raise ValueError(
                f"inputs of each member are (S, n, ...) with S = {self._size}; got {tuple(x.shape)}"
            )
        parameters = self.parameters if parameters is None else parameters
        if self._plan is not None and self._plan.accepts(x, per_member):
            return self._plan(x, parameters, self._size, per_member)
        if self._convolutional and x.device.type == "cpu":
            return self._in_turn(x, parameters, per_member)
        together = vmap(self._one, in_dims=(0, 0, 0 if per_member else None))
        output: Tensor = together(dict(parameters), self.buffers, x)
        return output

    @property
    def template(self) -> nn.Module:
        """A module with the structure that all members share; its numbers are nobody's."""
        return self._template

    def member(self, i: int) -> nn.Module:
        """Return a copy of member ``i`` as a plain module, sharing no memory with the ensemble.

        Args:
            i: index, 0 to S - 1; negative indices count from the end.

        Raises:
            IndexError: no such member.
        """
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
        shapes = [{(name, tuple(t.shape)) for name, t in tensors.items()} for tensors in (own, state)]
        if different := shapes[0] ^ shapes[1]:
            raise ValueError(f"state and ensemble differ in {sorted(different)}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])


def _channels_last(x: Tensor) -> Tensor:
    """Strides that say so for grey images, too, which are stored alike in both orders."""
    if x.ndim == 4 and x.shape[1] == 1:
        height, width = x.shape[2:]
        return x.contiguous().as_strided(x.shape, (height * width, 1, width, 1))
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _check_members(members: Sequence[nn.Module]) -> None:
    if not members:
        raise ValueError("an ensemble needs at least one member, got none")
    first = _signature(members[0])
    for i, member in enumerate(members[1:], start=1):
        other = _signature(member)
        if different := [name for name in first | other if first.get(name) != other.get(name)]:
            name = different[0]
            raise ValueError(
                f"members must be alike; member 0 and member {i} differ in {name}: "
                f"{first.get(name, 'absent')} against {other.get(name, 'absent')}"
            )
    own = [id(p) for layer in members[0].modules() for p in layer._parameters.values() if p is not None]
    if len(set(own)) < len(own):
        raise ValueError(
            "an ensemble cannot hold a parameter that two layers share; use one layer in both places"
        )


def _signature(module: nn.Module) -> dict[str, tuple[Any, ...]]:
    layers = {f"layer {n!r}": (m.extra_repr(), type(m).__name__) for n, m in module.named_modules()}
    parameters = {n: (tuple(p.shape), p.dtype, p.requires_grad) for n, p in module.named_parameters()}
    buffers = {n: (tuple(b.shape), b.dtype) for n, b in module.named_buffers()}
    return layers | parameters | buffers


# --- the fast path ----------------------------------------------------------------------------------------------------

_Tensors = Mapping[str, Tensor]
_Function = Callable[[Tensor], Tensor]
_Linear = tuple[str, str | None]  # the names of weight and bias
_Derived = dict[str, tuple[nn.ModuleList, list[str]]]  # a tensor's parametrizations and what they take

_ELEMENTWISE = (
    nn.ELU, nn.GELU, nn.Hardtanh, nn.Identity, nn.LeakyReLU, nn.LogSigmoid, nn.ReLU, nn.SELU, nn.Sigmoid,
    nn.SiLU, nn.Softplus, nn.Tanh,
)  # fmt: skip


@dataclass(frozen=True)
class _StackedPerceptron:
    """S perceptrons at once: linear layers and elementwise activations as batched matrix products.

    Activations are kept as ``(S, features, n)``: weights then stand on the left of every product as they are
    stored, and the first layer of networks that see the same inputs is one ordinary matrix product.

    Attributes:
        flatten: whether inputs ``(n, ...)`` become ``(n, features)`` first.
        steps: linear layers and elementwise functions, in order.
        effective: computes the tensors that are parametrised, from the ones that are trained.
    """

    flatten: bool
    steps: tuple[_Linear | _Function, ...]
    effective: Callable[[_Tensors], _Tensors] | None

    def accepts(self, x: Tensor, per_member: bool) -> bool:
        """Return whether inputs of this shape are a matrix for each member."""
        return x.ndim == 2 + per_member or (self.flatten and x.ndim > 2 + per_member)

    def __call__(self, x: Tensor, tensors: _Tensors, size: int, per_member: bool) -> Tensor:
        """Return outputs ``(S, n, k)``."""
        if self.effective is not None:
            tensors = {**tensors, **self.effective(tensors)}
        if self.flatten:
            x = x.flatten(1 + per_member)
        h = x.transpose(-1, -2) if per_member else x.t().expand(size, -1, -1)
        for step in self.steps:
            if not isinstance(step, tuple):
                h = step(h)
                continue
            weight, bias = step
            if bias is None:
                h = torch.bmm(tensors[weight], h)
            else:
                h = torch.baddbmm(tensors[bias].unsqueeze(-1), tensors[weight], h)
        return h.transpose(1, 2)


def _plan(module: nn.Module, parameters: _Tensors) -> _StackedPerceptron | None:
    """Return how to run ``module`` with stacked parameters, or None if it is not a perceptron."""
    hooked = any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in module.modules())
    if type(module) is not nn.Sequential or len(module) == 0 or hooked or any(True for _ in module.buffers()):
        return None
    # not named_children(), which leaves out the second use of a layer that stands in two places
    chain = list(zip(module._modules, module, strict=True))
    flatten = isinstance(module[0], nn.Flatten) and (module[0].start_dim, module[0].end_dim) == (1, -1)
    steps: list[_Linear | _Function] = []
    derived: _Derived = {}
    for name, layer in chain[flatten:]:
        if type(layer) in _ELEMENTWISE or getattr(layer, "elementwise", False) is True:
            steps.append(layer.forward)
            continue
        parametrized = parametrize.is_parametrized(layer)
        # parametrize changes the class of a layer to one made on the spot, derived from the original class
        if (type(layer).__base__ if parametrized else type(layer)) is not nn.Linear:
            return None
        assert isinstance(layer, nn.Linear)
        steps.append((f"{name}.weight", None if layer.bias is None else f"{name}.bias"))
        if parametrized:
            assert isinstance(layer.parametrizations, nn.ModuleDict)
            for tensor, written in layer.parametrizations.items():
                assert isinstance(written, parametrize.ParametrizationList)
                if any(True for step in written for _ in step.parameters()):
                    return None
                place = f"{name}.parametrizations.{tensor}"
                own = [f"{place}.{original}" for original, _ in written.named_parameters()]
                derived[f"{name}.{tensor}"] = (written, own)
    needed = {name for step in steps if isinstance(step, tuple) for name in step if name is not None}
    # a name that is missing belongs to a layer that stands in two places
    if not needed or not needed <= parameters.keys() | derived.keys():
        return None
    return _StackedPerceptron(flatten, tuple(steps), _effective(derived, parameters) if derived else None)


def _effective(derived: _Derived, parameters: _Tensors) -> Callable[[_Tensors], _Tensors]:
    """Return a function from trained tensors to parametrised ones, all with leading dimension S."""

    def together(tensors: _Tensors) -> dict[str, Tensor]:
        return {target: _apply(chain, [tensors[n] for n in own]) for target, (chain, own) in derived.items()}

    # one vmap for all layers: entering it costs more than the arithmetic of a small network
    one_by_one: Callable[[_Tensors], _Tensors] = vmap(together)
    steps = [step for chain, _ in derived.values() for step in chain]
    if not all(getattr(step, "stackable", False) is True for step in steps):
        return one_by_one
    got = together(parameters)
    for target, expected in one_by_one(parameters).items():
        if got[target].shape != expected.shape or not torch.allclose(got[target], expected, equal_nan=True):
            raise ValueError(
                f"the parametrization of {target} says stackable = True, "
                "but acts differently on a stack (S, ...) than on its members one by one"
            )
    return together


def _apply(chain: nn.ModuleList, originals: Sequence[Tensor]) -> Tensor:
    first, *rest = list(chain)
    value: Tensor = first.forward(*originals)
    for parametrization in rest:
        value = parametrization.forward(value)
    return value
